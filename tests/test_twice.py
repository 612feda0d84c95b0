"""Steps that run twice at once, as one does whose node was taken for lost: what they leave is what one leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from digit_files import png
from pipelines import NIGHT, TINY, Pipeline, data_version

from mnist_pipeline.ledger import Decision
from mnist_pipeline.resources import Models
from mnist_pipeline.store import LostRace, ModelStore

DEPLOYMENT, BATCH = "production_digit_classifier", "batch_digit_predictions"
AT_ONCE = 3
MEETING = threading.Barrier(AT_ONCE)
BUILDING = threading.Lock()  # Dagster builds definitions in one thread


class MeetingStore(ModelStore):
    """Lets nobody go on from the newest decision before all have seen it."""

    def current(self) -> Decision | None:
        found = super().current()
        MEETING.wait(60)
        return found


class MeetingModels(Models):
    """The resource over it."""

    def open(self) -> ModelStore:
        return MeetingStore(super().open().blobs)


def attempts(pipeline: Pipeline, asset: str, night: str | None = None, **config: Any) -> list[str]:
    """What each came to, its data version, of the same step of the same run at once.

    Each has a world of its own but for what is stored. Raises what one has raised.
    """

    def attempt(models: type[Models]) -> str:
        with BUILDING:
            own = Pipeline(pipeline.state, **{**pipeline.env, "MLFLOW_TRACKING_URI": "none"})
            resources: dict[str, Any] = own.definitions.resources  # type: ignore[assignment]
            resources["models"] = models(location=resources["models"].location)
            job = own.definitions.resolve_implicit_global_asset_job_def()
        with own.instance:  # its connections belong to this thread
            result = job.execute_in_process(
                instance=own.instance,
                asset_selection=[dg.AssetKey(asset)],
                run_config={"ops": {asset: {"config": config}}},
                partition_key=night,
                run_id="11111111-2222-4333-8444-555555555555",
            )
            return data_version(result, asset)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = [pool.submit(attempt, MeetingModels if asset == DEPLOYMENT else Models) for _ in range(AT_ONCE)]
    causes = [cause for each in ended if (cause := each.exception())]
    MEETING.reset()
    for cause in sorted(causes, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
        raise cause  # not that others waited for it in vain
    return [each.result() for each in ended]


def decided(pipeline: Pipeline, before: int) -> list[tuple[str, str | None]]:
    """What was recorded since, in a chain that holds."""
    assert pipeline.store.verify_chain() == []
    return [(each.outcome, each.serves) for each in pipeline.store.decisions()[before:]]


REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "quality": {},
    "rollback": {"strategy": "rollback"},
    "force": {"strategy": "force", "reason": "a test"},
}


@pytest.mark.parametrize("strategy", REQUESTS)
def test_a_deployment_decides_once(pipeline: Pipeline, strategy: str) -> None:
    """All see the same newest decision before any of them makes the next."""
    trained = pipeline.value("digit_classifier")
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    pipeline.run(DEPLOYMENT, production_digit_classifier={"strategy": "manual", "version": other})
    made = attempts(pipeline, DEPLOYMENT, **REQUESTS[strategy])
    expected = ("kept", other) if strategy == "quality" else ("deployed", trained)  # the gate: they are too alike
    assert decided(pipeline, before=2) == [expected]
    assert made == [expected[1]] * AT_ONCE
    assert pipeline.value(DEPLOYMENT) == expected[1]


def test_a_late_attempt_records_nothing_once_somebody_else_has_decided(pipeline: Pipeline) -> None:
    """One that sleeps through its own successor and a person's decision after that."""
    store, trained = pipeline.store, pipeline.value("digit_classifier")
    asleep = store.current()
    assert asleep
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    request: dict[str, Any] = {"strategy": "force", "candidate": trained, "reason": "r", "evidence": {}, "actor": "a"}
    store.decide(serves=trained, outcome="deployed", expected=1, request="ours", **request)
    pipeline.run(DEPLOYMENT, production_digit_classifier={"strategy": "manual", "version": other})
    with pytest.raises(LostRace, match="decision 3 was made first"):
        store.decide(serves=trained, outcome="deployed", expected=asleep.number, request="ours", **request)
    assert decided(pipeline, before=2) == [("deployed", other)]


def test_a_night_is_answered_once(pipeline: Pipeline) -> None:
    images, noon = pipeline.digits()["test"].images[:40], datetime.fromisoformat(f"{NIGHT}T12:00+00:00").timestamp()
    pipeline.inbox.mkdir(parents=True, exist_ok=True)
    for name, data in {f"{i:02}.png": png(image) for i, image in enumerate(images)}.items() | {("bad.png", b"no")}:
        (pipeline.inbox / name).write_bytes(data)
        os.utime(pipeline.inbox / name, (noon, noon))
    alone = pipeline.copy(pipeline.state.parent / "alone").run(BATCH, night=NIGHT)
    assert attempts(pipeline, BATCH, night=NIGHT) == [data_version(alone, BATCH)] * AT_ONCE
    table = pq.read_table(pipeline.state / "predictions" / f"{NIGHT}.parquet")
    assert table.column("file").to_pylist() == [f"{i:02}.png" for i in range(40)]
    assert pq.read_table(pipeline.state / "predictions" / "quarantine" / f"{NIGHT}.parquet").num_rows == 1


@pytest.mark.parametrize("asset", ["processed_mnist_data", pytest.param("model_evaluation", marks=pytest.mark.slow)])
def test_what_is_computed_from_the_same_is_the_same(pipeline: Pipeline, asset: str) -> None:
    models, values = pipeline.stored(), handed_on(pipeline.state)
    assert len(set(attempts(pipeline, asset))) == 1
    assert (pipeline.stored(), handed_on(pipeline.state)) == (models, values)


def handed_on(state: Path) -> dict[str, bytes]:
    """Every file below the values of assets, unfinished ones too."""
    return {str(path.relative_to(state)): path.read_bytes() for path in (state / "assets").rglob("*") if path.is_file()}


def test_training_again_gives_the_version_that_is_there(pipeline: Pipeline) -> None:
    """The second writer finds its files under its name and keeps the card of the first."""
    before = pipeline.stored()
    pipeline.run("digit_classifier", digit_classifier=TINY)
    assert pipeline.stored() == before
