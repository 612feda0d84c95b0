"""production_digit_classifier: what one request asks for is done once, however often step or run are tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import Pipeline, metadata

from mnist_pipeline import retries
from mnist_pipeline.files import AssetFilesResource
from mnist_pipeline.resources import Models
from mnist_pipeline.storage.blobs import DiskBlobs, StoreUnreachable
from mnist_pipeline.storage.shelves import DiskShelf, Shelf
from mnist_pipeline.store import ModelStore

ASSET = "production_digit_classifier"
pytestmark = pytest.mark.slow  # a minute in all; the quick ones of deployments are in test_deployment.py


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def versions(pipeline: Pipeline) -> list[str]:
    """Four, deployed one after the other by decisions 1 to 4."""
    more = [pipeline.variant(lambda network, by=by: network.classifier.bias.add_(by)) for by in (0.1, 0.2, 0.3)]  # type: ignore[misc]
    for version in more:
        pipeline.run(ASSET, production_digit_classifier={"strategy": "manual", "version": version})
    return [pipeline.value("digit_classifier"), *more]


def recorded(store: ModelStore) -> list[tuple[str, str | None]]:
    """Strategy and version of the decisions after those four."""
    assert store.verify_chain() == []
    return [(each.strategy, each.serves) for each in store.decisions()[4:]]


# --- a step that is tried again ---


class FlakyShelf(DiskShelf):
    """Cannot be reached when the first value is put on it."""

    def put(self, name: str, data: bytes) -> None:
        tried = self.root / ".tried"
        if not tried.exists():
            tried.touch()
            raise StoreUnreachable("away")
        super().put(name, data)


class FlakyFiles(AssetFilesResource):
    """The resource over such a shelf."""

    def open(self) -> Shelf:
        return FlakyShelf(Path(self.location))


class AnswersLost(DiskBlobs):
    """Takes the first decision, and its answer is lost."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        tried = self.root / ".tried"
        if key.startswith("decisions/") and not tried.exists():
            tried.touch()
            raise StoreUnreachable("away")


class AnswersLostModels(Models):
    """The resource over such a store."""

    def open(self) -> ModelStore:
        return ModelStore(AnswersLost(Path(self.location)))


def flaky(pipeline: Pipeline, name: str, kind: type[Any]) -> Pipeline:
    """The same pipeline with another class behind a resource."""
    again = Pipeline(pipeline.state)
    resources: dict[str, Any] = again.definitions.resources  # type: ignore[assignment]
    resources[name] = kind(location=resources[name].location)
    return again


@pytest.mark.parametrize(
    ("resource", "kind"), [("io_manager", FlakyFiles), ("models", AnswersLostModels)], ids=["value", "decision"]
)
def test_a_rollback_whose_answer_or_value_was_lost_goes_back_one_version(
    pipeline: Pipeline, versions: list[str], resource: str, kind: type[Any]
) -> None:
    ran = flaky(pipeline, resource, kind).run(ASSET, production_digit_classifier={"strategy": "rollback"})
    assert recorded(pipeline.store) == [("rollback", versions[2])]
    assert pipeline.value(ASSET) == versions[2]
    said = metadata(ran, ASSET)
    assert (said["decision"], said["serves_now"]) == (5, versions[2])
    assert "decided already by this request" in said["repeated"]


def test_two_rollbacks_that_were_asked_for_are_two(pipeline: Pipeline, versions: list[str]) -> None:
    for _ in range(2):
        ran = pipeline.run(ASSET, production_digit_classifier={"strategy": "rollback"})
        assert "repeated" not in metadata(ran, ASSET)
    assert recorded(pipeline.store) == [("rollback", versions[2]), ("rollback", versions[1])]


def test_a_deployment_by_the_gate_is_not_decided_again_by_the_next_attempt(pipeline: Pipeline) -> None:
    pipeline.store.blobs.delete("decisions/00000001.json")
    ran = flaky(pipeline, "io_manager", FlakyFiles).run(ASSET)
    assert [each.outcome for each in pipeline.store.decisions()] == ["deployed"]
    assert metadata(ran, ASSET)["outcome"] == "deployed"


# --- a run that is tried again ---


class Runs:
    """Runs of the job `deployment` that know their parents, as Dagster's retries and the UI's buttons make them."""

    def __init__(self, pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
        self.instance, self.value = instance, pipeline.state / "assets" / f"{ASSET}.json"
        self.job = dg.build_reconstructable_job(__name__, deployment_job.__name__, (str(pipeline.state),))

    def run(self, options: dg.ReexecutionOptions | None = None, **config: Any) -> str:
        """Its id. Raises what the step raised."""
        run_config = {"ops": {ASSET: {"config": config}}}
        with dg.execute_job(
            self.job,
            self.instance,
            run_config=run_config,
            reexecution_options=options,
            raise_on_error=options is not None,
        ) as ran:
            return ran.run_id

    def run_and_lose_the_value(self, **config: Any) -> str:
        """The decision is made, the value cannot be stored: to the next run it is as if the worker had been killed."""
        self.value.unlink()
        self.value.mkdir()
        run_id = self.run(**config)
        assert self.instance.get_run_by_id(run_id).is_failure  # type: ignore[union-attr]
        self.value.rmdir()
        return run_id

    def from_failure(self, parent: str, **config: Any) -> str:
        return self.run(dg.ReexecutionOptions.from_failure(parent, self.instance), **config)

    def all_steps(self, parent: str, **config: Any) -> str:
        return self.run(dg.ReexecutionOptions(parent), **config)


def deployment_job(state: str) -> dg.JobDefinition:
    """Dagster loads it by name."""
    return Pipeline(Path(state)).definitions.resolve_job_def("deployment")


@pytest.fixture
def runs(pipeline: Pipeline, tmp_path: Path) -> Iterator[Runs]:
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        yield Runs(pipeline, instance)


def test_a_rollback_that_is_continued_from_its_failure_goes_back_one_version(
    pipeline: Pipeline, versions: list[str], runs: Runs
) -> None:
    """As run_retries in dagster.yaml do when a worker was killed, twice."""
    first = runs.run_and_lose_the_value(strategy="rollback")
    assert recorded(pipeline.store) == [("rollback", versions[2])]
    runs.from_failure(first, strategy="rollback")
    assert recorded(pipeline.store) == [("rollback", versions[2])]
    assert pipeline.value(ASSET) == versions[2]


def test_a_rollback_that_is_executed_again_as_a_whole_goes_back_one_version(
    pipeline: Pipeline, versions: list[str], runs: Runs
) -> None:
    """Who sees a failed run cannot see that its decision was made; grandchildren have the same root."""
    parent = runs.run_and_lose_the_value(strategy="rollback")
    for _ in range(2):
        parent = runs.all_steps(parent, strategy="rollback")
    assert recorded(pipeline.store) == [("rollback", versions[2])]


def test_a_run_that_would_change_nothing_while_something_else_serves_is_refused(
    pipeline: Pipeline, versions: list[str], runs: Runs
) -> None:
    first = runs.run(strategy="rollback")
    runs.run(strategy="manual", version=versions[0])
    with pytest.raises(Exception, match=rf"decision 5 was made.*decision 6 .*serves {versions[0]}.*launch a new run"):
        runs.all_steps(first, strategy="rollback")
    assert recorded(pipeline.store) == [("rollback", versions[2]), ("manual", versions[0])]


def test_a_person_is_not_overruled_by_the_retry_of_a_deployment(pipeline: Pipeline, runs: Runs) -> None:
    """The gate deployed, its worker died, a person chose another version: the retry leaves it at that."""
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    pipeline.store.blobs.delete("decisions/00000001.json")
    first = runs.run_and_lose_the_value()
    runs.run(strategy="manual", version=other)
    runs.from_failure(first)
    assert [each.strategy for each in pipeline.store.decisions()] == ["quality", "manual"]
    assert pipeline.store.production() == pipeline.value(ASSET) == other


def test_another_configuration_is_another_request(pipeline: Pipeline, versions: list[str], runs: Runs) -> None:
    first = runs.run(strategy="rollback")
    runs.all_steps(first, strategy="rollback", reason="and one more")
    assert recorded(pipeline.store) == [("rollback", versions[2]), ("rollback", versions[1])]


def test_a_refusal_can_be_looked_at_again(pipeline: Pipeline, runs: Runs) -> None:
    """What kept production is no change that could be made twice; the gate's code may be another by now."""
    first = runs.run()
    runs.all_steps(first)
    assert [each.outcome for each in pipeline.store.decisions()] == ["deployed", "kept", "kept"]


def test_a_damaged_decision_of_old_does_not_keep_a_person_from_choosing(
    pipeline: Pipeline, versions: list[str], runs: Runs
) -> None:
    (pipeline.state / "models" / "decisions" / "00000002.json").write_text("{}")
    runs.run(strategy="manual", version=versions[0])
    assert pipeline.store.production() == versions[0]
