"""Sending: all of it, once however often it is sent, into one MLflow run a Dagster run; and the registry's mirror."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_places import BEGUN_MS, RUN, Place, copied_store, file_store
from pipelines import NIGHT, Pipeline, metadata

from mnist_pipeline.assets import records
from mnist_pipeline.experiments.courier import Report
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.experiments.registry import MODEL, roles
from mnist_pipeline.experiments.runs import MlflowRuns
from mnist_pipeline.experiments.sender import only_one
from mnist_pipeline.experiments.spool import RunFacts
from mnist_pipeline.inbox.tables import Tally
from mnist_pipeline.ledger import Decision

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*")  # mlflow's use of SQLAlchemy


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return file_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def place(template: str, tmp_path: Path) -> Place:
    return Place(tmp_path, copied_store(template, tmp_path))


def record_training(place: Place, epochs: int = 3) -> None:
    with place.tracker() as tracker:
        tracker.params({"width": 8})
        for epoch in range(1, epochs + 1):
            tracker.metrics({"loss": 1 / epoch}, step=epoch)
        tracker.tags({"model_version": "v1"})
        tracker.artifact("pictures/curve.png", b"png")


def runs_of(place: Place) -> MlflowRuns:
    return MlflowRuns.open(place.client, place.uri, "experiment", place.folder / "mlflow", place.spool)


# --- runs ---


def test_everything_that_was_recorded_arrives_and_leaves_the_spool(place: Place) -> None:
    record_training(place)
    report = place.send()
    assert (report.sent, report.waiting, report.problems, report.away) == (6, 0, [], "")
    run = place.run()
    assert run.data.params == {"width": "8"}
    assert place.history("loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert run.data.tags.items() >= {"dagster_run_id": RUN, "environment": "test", "model_version": "v1"}.items()
    assert (run.info.start_time, run.info.run_name) == (BEGUN_MS, "a run")
    assert [each.path for each in place.client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/curve.png"]
    assert [name for name in place.spool.shelf.list("runs/") if not name.endswith("run.json")] == []


def test_what_is_sent_twice_is_there_once(place: Place) -> None:
    """As after a kill -9 between MLflow's answer and the deletion of what it has."""
    record_training(place)
    shutil.copytree(place.order.spool, place.folder / "copy")
    place.send()
    shutil.copytree(place.folder / "copy", place.order.spool, dirs_exist_ok=True)
    assert place.send().sent == 6
    assert len(place.history("loss")) == 3
    assert len(place.client.list_artifacts(place.run().info.run_id, "pictures")) == 1


def test_steps_of_one_dagster_run_resume_one_mlflow_run(place: Place) -> None:
    for step in ("train", "evaluate", "deploy"):
        with place.tracker() as tracker:
            tracker.tags({step: "done"})
        place.send()
    assert place.run().data.tags.keys() >= {"train", "evaluate", "deploy"}


def test_a_run_that_a_users_own_resource_has_begun_is_resumed(place: Place) -> None:
    experiment = place.client.create_experiment("experiment", (place.folder / "theirs").as_uri())
    theirs = place.client.create_run(experiment, tags={"dagster_run_id": RUN}).info.run_id
    record_training(place)
    place.send()
    assert place.run().info.run_id == theirs
    assert place.run().data.params == {"width": "8"}


def test_it_stays_open_until_the_dagster_run_has_ended(place: Place) -> None:
    record_training(place)
    place.send()
    assert place.run().info.status == "RUNNING"
    report = place.send(ended={RUN: ("FAILED", BEGUN_MS + 5_000)})
    assert report.closed == 1
    assert (place.run().info.status, place.run().info.end_time) == ("FAILED", BEGUN_MS + 5_000)
    assert place.spool.runs() == {}
    assert place.spool.claimed(RUN) is None


def test_a_record_that_comes_after_the_end_still_arrives(place: Place) -> None:
    record_training(place)
    place.send(ended={RUN: ("FINISHED", BEGUN_MS)})
    with place.tracker() as tracker:
        tracker.tags({"late": "yes"})
    place.send(ended={RUN: ("FINISHED", BEGUN_MS)})
    assert (place.run().data.tags["late"], place.run().info.status) == ("yes", "FINISHED")


def test_what_mlflow_refuses_is_put_aside_and_the_rest_goes_on(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.params({"width": 8})
        tracker.params({"width": 16})
        tracker.metrics({"loss": 1.0})
    report = place.send()
    assert (report.sent, report.refused, report.problems) == (2, 1, [])
    (aside,) = Refused(place.spool).names()
    said = Refused(place.spool).told()
    assert f"{place.folder / 'tracking' / aside}: " in said
    assert "Changing param values is not allowed" in said
    assert place.run().data.metrics == {"loss": 1.0}
    assert place.send() == Report()


def test_a_run_that_cannot_be_sent_keeps_no_other_and_not_the_registry(place: Place, finished: Pipeline) -> None:
    """Here its records cannot even be read: written by a newer release, say."""
    record_training(place)
    with place.tracker("0-before-it") as tracker:
        tracker.tags({"a": "b"})
    (damaged,) = place.spool.waiting("0-before-it")
    place.spool.shelf.put(damaged, b'{"kind": "tags", "time_ms": 0, "unknown": 1}')
    report = place.send(models=(str(finished.state / "models"), ""), ended={RUN: ("FINISHED", BEGUN_MS)})
    assert (report.sent, report.closed, report.registered, report.aliases) == (6, 1, 1, 1)
    (problem,) = report.problems
    assert re.search("run 0-before-it could not be sent and waits in .*TypeError.*unknown", problem)
    assert place.spool.waiting("0-before-it") == [damaged]


def test_more_parameters_than_one_request_may_hold(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.params({f"p{number}": number for number in range(250)})
    place.send()
    assert len(place.run().data.params) == 250


def test_more_metrics_than_one_request_may_hold(place: Place) -> None:
    """A night of a data set with many classes."""
    with place.tracker() as tracker:
        tracker.metrics({f"share_{number}": 0.5 for number in range(1_001)})
    assert place.send().refused == 0
    assert len(place.run().data.metrics) == 1_001


def test_a_night_is_one_run_with_its_counts_and_the_model_that_answered(
    place: Place, pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline = pipeline.copy(tmp_path / "night", MLFLOW_TRACKING_URI=place.uri)
    images = BytesIO()
    np.save(images, pipeline.digits()["test"].images[:8])
    pipeline.inbox.mkdir()
    (pipeline.inbox / "eight.npy").write_bytes(images.getvalue())
    (pipeline.inbox / "no-image.png").write_bytes(b"no image")
    for path in pipeline.inbox.iterdir():
        os.utime(path, (1, 1))  # before the night's day ended
    ran = pipeline.run("batch_digit_predictions", night=NIGHT)
    place = Place(pipeline.state, place.uri)
    assert place.send().refused == 0
    data, made = place.run(ran.run_id).data, metadata(ran, "batch_digit_predictions")
    assert data.tags["night"] == NIGHT
    assert data.tags["predicted_by_model_version"] == pipeline.store.production()
    assert data.tags["predicted_by_decision"] == "1"
    numbers = {"night_files": 2.0, "night_predictions": 8.0, "night_quarantined": 1.0, "night_uncertain": 0.0}
    shares = {f"night_share_{label}": count / 8 for label, count in made["labels"].items()}
    assert data.metrics == {**numbers, **shares, "night_mean_confidence": pytest.approx(made["mean_confidence"])}
    assert made["mlflow_run"].startswith("http://127.0.0.1:5000/#/experiments")


@pytest.mark.parametrize("label", ["T-shirt/top", "naïve (old)", "x" * 400, "50 %"])
def test_whatever_a_class_is_called_mlflow_takes_its_share(place: Place, label: str) -> None:
    with place.tracker() as tracker:
        tally = Tally(predictions=2, labels=Counter({label: 2}))
        records.predicted(tracker, NIGHT, 1, tally, {"model_version": "v1"})
    assert place.send().refused == 0
    (share,) = (value for name, value in place.run().data.metrics.items() if "share" in name)
    assert share == 1.0


def test_an_empty_night_is_recorded_too(place: Place) -> None:
    with place.tracker() as tracker:
        records.predicted(tracker, NIGHT, 0, Tally(), {})
    place.send()
    kinds = ("files", "predictions", "quarantined", "uncertain")
    assert place.run().data.metrics == {f"night_{kind}": 0.0 for kind in kinds}


def test_two_machines_at_once_agree_on_one_mlflow_run(place: Place) -> None:
    record_training(place)
    facts, found = RunFacts(RUN, "a run", BEGUN_MS), []
    each = [runs_of(place) for _ in range(4)]
    start = threading.Barrier(4)

    def find(runs: MlflowRuns) -> None:
        start.wait()
        found.append(runs.run_of(facts))

    threads = [threading.Thread(target=find, args=(runs,)) for runs in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert set(found) == {place.run().info.run_id}


def test_a_run_that_somebody_deleted_is_made_anew(place: Place) -> None:
    record_training(place)
    place.send()
    place.client.delete_run(place.run().info.run_id)
    with place.tracker() as tracker:
        tracker.tags({"more": "yes"})
    place.send()
    assert place.run().data.tags["more"] == "yes"


def test_another_store_than_before_gets_an_experiment_and_links_of_its_own(place: Place, template: str) -> None:
    record_training(place)
    place.client.create_experiment("something else")
    place.send()
    other = replace(place, uri=copied_store(template, place.folder / "other"))
    other.spool.begin(RunFacts(RUN, "a run", BEGUN_MS))
    with other.tracker() as tracker:
        tracker.tags({"more": "yes"})
    other.send()
    experiment = other.client.get_experiment_by_name("experiment").experiment_id
    assert other.tracker().link().endswith(f"/{experiment}/runs/{other.run().info.run_id}")


def test_a_deleted_experiment_is_an_error_that_says_what_to_do(place: Place) -> None:
    record_training(place)
    place.client.delete_experiment(place.client.create_experiment("experiment"))
    with pytest.raises(RuntimeError, match="mlflow experiments restore"):
        place.send()
    assert len(place.spool.waiting(RUN)) == 6


def test_of_two_senders_on_a_machine_one_waits(place: Place) -> None:
    record_training(place)
    with only_one(Path(place.order.folder)) as first:
        report = place.send()
    assert (first, report.busy, report.sent, report.waiting) == (True, True, 0, 6)
    assert place.send().sent == 6


def test_when_the_time_is_over_the_rest_waits_for_the_next_order(place: Place) -> None:
    record_training(place, epochs=200)
    report = place.send(seconds=0)
    assert report.unfinished
    assert 0 < report.sent < 203
    assert report.sent + report.waiting == 203
    place.send()
    assert len(place.history("loss")) == 200


def test_nothing_is_written_into_the_working_directory(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    record_training(place)
    place.send()
    assert list(here.iterdir()) == []
    assert place.run().info.artifact_uri.startswith((place.folder / "mlflow" / "artifacts").as_uri())


# --- registry ---


def mirrored(place: Place, pipeline: Pipeline) -> tuple[int, int]:
    report = place.send(models=(str(pipeline.state / "models"), ""))
    return report.registered, report.aliases


def aliases(place: Place) -> dict[str, str]:
    """Alias -> name in the store."""
    found = dict(place.client.get_registered_model(MODEL).aliases)
    return {name: place.client.get_model_version(MODEL, number).tags["version"] for name, number in found.items()}


def test_the_registry_holds_every_version_and_what_serves(place: Place, finished: Pipeline) -> None:
    assert mirrored(place, finished) == (1, 1)
    name = finished.store.production()
    assert aliases(place) == {"champion": name}
    version = place.client.get_model_version_by_alias(MODEL, "champion")
    assert version.tags == {"version": name, "digest": finished.store.card(str(name)).digest}
    card = Path(version.source.removeprefix("file://")) / "card.json"
    assert str(name) in card.read_text()
    assert mirrored(place, finished) == (0, 0)


def test_aliases_that_somebody_moved_are_moved_back(place: Place, pipeline: Pipeline) -> None:
    def nudge(network: Any) -> None:
        network.classifier.bias.add_(0.01)

    first = pipeline.value("digit_classifier")
    second = pipeline.variant(nudge)
    pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "manual", "version": second})
    assert mirrored(place, pipeline) == (2, 2)
    right = {"champion": second, "previous": first}
    assert aliases(place) == right
    client, wrong = place.client, place.client.get_model_version_by_alias(MODEL, "previous").version
    client.set_registered_model_alias(MODEL, "champion", wrong)
    client.delete_registered_model_alias(MODEL, "previous")
    client.set_registered_model_alias(MODEL, "challenger", wrong)
    client.set_registered_model_alias(MODEL, "mine", wrong)
    assert mirrored(place, pipeline) == (0, 3)
    assert aliases(place) == {**right, "mine": first}
    client.delete_registered_model(MODEL)
    assert mirrored(place, pipeline) == (2, 2)
    assert aliases(place) == right


def test_a_damaged_version_is_told_and_keeps_no_other_out(place: Place, pipeline: Pipeline) -> None:
    pipeline.store.blobs.create("versions/damaged-0123456789ab/card.json", b"{}")
    report = place.send(models=(str(pipeline.state / "models"), ""))
    assert (report.registered, report.aliases) == (1, 1)
    assert "damaged-0123456789ab" in report.damaged[0]


def decided(*steps: tuple[str, str, str, str]) -> list[Decision]:
    """(serves, strategy, outcome, candidate) each."""
    return [
        Decision(number, serves, "", strategy, outcome, candidate, "", {}, "", "", "")  # type: ignore[arg-type]
        for number, (serves, strategy, outcome, candidate) in enumerate(steps, 1)
    ]


A, B = ("a", "quality", "deployed", "a"), ("b", "quality", "deployed", "b")


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ((), {}),
        ((A,), {"champion": "a"}),
        ((A, B), {"champion": "b", "previous": "a"}),
        ((A, B, ("a", "rollback", "deployed", "a")), {"champion": "a"}),
        ((A, ("a", "quality", "kept", "c")), {"champion": "a", "challenger": "c"}),
        ((A, ("a", "quality", "kept", "c"), ("a", "quality", "kept", "a")), {"champion": "a", "challenger": "c"}),
        ((A, ("a", "quality", "kept", "c"), B), {"champion": "b", "previous": "a"}),
    ],
)
def test_the_aliases_follow_from_the_ledger(steps: tuple[Any, ...], found: dict[str, str]) -> None:
    assert roles(decided(*steps)) == found
