"""Drift reports: each night with the version that answered it, told by checks and alerts, harmless when they fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipelines import NIGHT, Pipeline, metadata, verdicts
from shifts import SHIFTS, drawn, shifted

from mnist_pipeline.assets.monitoring import ACCURACY_HOLDS, LOOKS_AS_IT_DID, SERVICE, _verdicts
from mnist_pipeline.assets.monitoring import NIGHT as REPORT
from mnist_pipeline.files import NotMaterialized, read_value
from mnist_pipeline.inbox.engines import LocalEngine
from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.ml.drift_report import least_accuracy_of
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.observed import of_night
from mnist_pipeline.production import load_production
from mnist_pipeline.sensors.findings import alerts_of, events_of
from mnist_pipeline.sensors.retraining import BECAUSE, asked
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Parts, Predicted
from mnist_pipeline.storage.shelves import DiskShelf

LATER = "2026-01-06"


def predicted(pipeline: Pipeline, images: np.ndarray, night: str = NIGHT) -> None:
    """A night's table as the batch writes it, of one array file. The front door changes no usual digit."""
    production = load_production(pipeline.store)
    inbox, files = Inbox(pipeline.state / "dropped"), []
    if len(images):
        inbox.night(night).mkdir(parents=True, exist_ok=True)
        np.save(inbox.night(night) / "night.npy", images)
        files = ["night.npy"]
    model = pipeline.models.stored(production, abstain=False)
    work = replace(pipeline.mail.work(night, model), inbox=inbox.where())
    predict(work, files, schema_of(production.card.class_names), LocalEngine())


def value(pipeline: Pipeline, asset: str = REPORT, night: str = NIGHT) -> dict[str, Any]:
    shelf = (pipeline.definitions.resources or {})["io_manager"].open()
    found: dict[str, Any] = read_value(shelf, f"{asset}/{night}", asset)
    return found


@pytest.fixture
def usual(finished: Pipeline) -> np.ndarray:
    """Test images as the model knows them."""
    return finished.digits()["test"].images


def turned(images: np.ndarray) -> np.ndarray:
    """By 90°, which no preparation puts right."""
    return np.ascontiguousarray(np.rot90(images, axes=(1, 2)))


def test_a_usual_night_looks_as_it_did(pipeline: Pipeline, usual: np.ndarray) -> None:
    predicted(pipeline, usual)
    ran = pipeline.run(REPORT, night=NIGHT)
    said = metadata(ran, REPORT)
    assert verdicts(ran) == {LOOKS_AS_IT_DID: True, ACCURACY_HOLDS: True}
    assert (said["verdict"], said["images"]) == ("none", len(usual))
    assert said["model_version"] == pipeline.value("digit_classifier")
    assert said["estimated_accuracy_low"] <= said["estimated_accuracy"] <= said["estimated_accuracy_high"]
    assert {"trend", "distributions", "answers"} <= said.keys()
    assert value(pipeline)["sentence"] == said["summary"]
    assert {"ink", "contrast", "sharpness", "slant", "confidence"} <= {
        row.data["statistic"] for row in said["statistics"].records
    }


@pytest.mark.parametrize("shift", sorted({*SHIFTS} - {"inversion", "scikit-learn's digits"}))  # which these are
def test_one_night_of_each_shift_fails_the_check(pipeline: Pipeline, shift: str) -> None:
    test = pipeline.digits()["test"]
    predicted(pipeline, drawn(test))
    predicted(pipeline, shifted(test, shift), LATER)
    usual, odd = (pipeline.run(REPORT, night=night) for night in (NIGHT, LATER))
    assert (verdicts(usual)[LOOKS_AS_IT_DID], value(pipeline)["verdict"]) == (True, "none")
    (check,) = [each for each in odd.get_asset_check_evaluations() if each.check_name == LOOKS_AS_IT_DID]
    verdict = "drift" if shift == "one class missing" else "strong"
    assert (check.passed, value(pipeline, night=LATER)["verdict"]) == (False, verdict)
    assert check.severity.name == ("WARN" if verdict == "drift" else "ERROR")
    assert check.description == metadata(odd, REPORT)["summary"]
    if shift == "one class missing":
        assert "predicted classes (3: 0.0% instead of" in metadata(odd, REPORT)["summary"]


def test_inversion_is_put_right_by_the_front_door_and_noticed_where_the_network_sees_it(pipeline: Pipeline) -> None:
    inverted = shifted(pipeline.digits()["test"], "inversion")
    predicted(pipeline, inverted)
    assert set(verdicts(pipeline.run(REPORT, night=NIGHT)).values()) == {True}
    day = served(pipeline, inverted)
    ran = pipeline.run(SERVICE, night=day)
    assert (verdicts(ran)[LOOKS_AS_IT_DID], value(pipeline, SERVICE, day)["verdict"]) == (False, "strong")


def test_an_accuracy_that_cannot_be_told_does_not_hold(pipeline: Pipeline, tmp_path: Path) -> None:
    """Blurred digits are strongly unlike; their estimate is above a low floor, and is not to be trusted."""
    low = pipeline.copy(tmp_path / "low", MNIST_DRIFT_ACCURACY="0.01")
    predicted(low, shifted(low.digits()["test"], "blur of a pixel"))
    ran = low.run(REPORT, night=NIGHT)
    (check,) = [each for each in ran.get_asset_check_evaluations() if each.check_name == ACCURACY_HOLDS]
    assert (check.passed, check.severity.name) == (False, "WARN")
    assert check.metadata["cannot_be_told"].value == [low.value("digit_classifier")]
    assert check.metadata["trusted"].value is False
    assert "cannot be told without labels" in (check.description or "")


def test_the_accuracy_of_every_version_that_answered_counts(pipeline: Pipeline, usual: np.ndarray) -> None:
    """Also of one that answered less, and whose images look as they did."""
    day = served(pipeline, usual)
    first = pipeline.value("digit_classifier")
    report = pipeline.run(SERVICE, night=day)
    assert verdicts(report)[ACCURACY_HOLDS] is True
    made = value(pipeline, SERVICE, day)
    sure = made["comparisons"][first]
    poor = {**sure, "images": 40, "accuracy": {**sure["accuracy"], "estimate": 0.5, "low": 0.4, "high": 0.6}}
    both = {**made, "comparisons": {first: sure, "v-2": poor}}
    assert [each.passed for each in _verdicts(SERVICE, both, pipeline.drift)] == [True, False]
    assert least_accuracy_of(both)["model_version"] == "v-2"


def test_a_drifted_night_fails_both_checks_and_is_told(pipeline: Pipeline, usual: np.ndarray) -> None:
    predicted(pipeline, turned(usual))
    ran = pipeline.try_run(REPORT, night=NIGHT)
    assert ran.success  # the night is what it is: nothing is held up
    (record,) = pipeline.instance.get_run_records(dg.RunsFilter(run_ids=[ran.run_id]))
    told = alerts_of(record.dagster_run, events_of(pipeline.instance, [record])[ran.run_id], "")
    assert {(each.kind, each.severity) for each in told} == {("check_failed", "error")}
    assert sorted(each.title for each in told) == [
        f"Check {ACCURACY_HOLDS} failed on {REPORT}",
        f"Check {LOOKS_AS_IT_DID} failed on {REPORT}",
    ]
    assert all("has drifted strongly" in each.cause for each in told)


def test_what_a_run_has_found_asks_for_a_training_once(pipeline: Pipeline, usual: np.ndarray) -> None:
    """The history of a partition's checks also has that they were planned, which says nothing."""
    predicted(pipeline, turned(usual))
    assert asks_for_training(pipeline) == []
    pipeline.run(REPORT, night=NIGHT)
    (because,) = asks_for_training(pipeline)
    assert because in {f"{REPORT}:{LOOKS_AS_IT_DID}", f"{REPORT}:{ACCURACY_HOLDS}"}


def asks_for_training(pipeline: Pipeline) -> list[str]:
    """Why, for each run that the sensor would launch."""
    result = asked(pipeline.instance, NightlyRun("UTC", 2, 0), datetime.now(timezone.utc), None)
    return [request.tags[BECAUSE] for request in result.run_requests or ()]


@pytest.mark.parametrize(
    ("knob", "failing"),
    [
        ({"MNIST_DRIFT_STRONG": "1", "MNIST_DRIFT_ACCURACY": "0"}, {LOOKS_AS_IT_DID: "WARN"}),
        ({"MNIST_DRIFT_TOLERANCE": "1", "MNIST_DRIFT_STRONG": "1", "MNIST_DRIFT_ACCURACY": "0"}, {}),
        ({"MNIST_DRIFT_LEAST_IMAGES": "5000"}, {}),
        ({"MNIST_DRIFT_STRONG": "1"}, {LOOKS_AS_IT_DID: "WARN", ACCURACY_HOLDS: "ERROR"}),
    ],
)
def test_every_limit_can_be_set(
    pipeline: Pipeline, usual: np.ndarray, tmp_path: Path, knob: dict[str, str], failing: dict[str, str]
) -> None:
    other = pipeline.copy(tmp_path / "other", **knob)
    predicted(other, turned(usual))
    results = other.run(REPORT, night=NIGHT).get_asset_check_evaluations()
    assert {each.check_name: each.severity.name for each in results if not each.passed} == failing


def test_the_rate_of_false_alarms_reaches_the_comparison(tmp_path: Path) -> None:
    drift = (Pipeline(tmp_path, MNIST_DRIFT_FALSE_ALARMS="0.01").definitions.resources or {})["drift"]
    assert drift.limits().false_alarms == 0.01
    assert drift.limits(4).false_alarms == 0.0025  # of several versions each has its part


def test_an_empty_night_and_one_of_few_images_say_so(pipeline: Pipeline, usual: np.ndarray) -> None:
    predicted(pipeline, usual[:0])
    ran = pipeline.run(REPORT, night=NIGHT)
    assert (value(pipeline)["verdict"], set(verdicts(ran).values())) == ("empty", {True})
    assert "nothing to compare" in metadata(ran, REPORT)["summary"]
    predicted(pipeline, turned(usual[:12]), LATER)
    ran = pipeline.run(REPORT, night=LATER)
    assert (value(pipeline, night=LATER)["verdict"], set(verdicts(ran).values())) == ("too few", {True})


def test_a_night_is_compared_with_the_version_that_answered_it(pipeline: Pipeline, usual: np.ndarray) -> None:
    """A version from before references were kept, and a night that still was its predecessor's."""
    predicted(pipeline, usual, NIGHT)
    first, bare = pipeline.value("digit_classifier"), pipeline.variant(lambda network: None, label="bare")
    pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "manual", "version": bare})
    predicted(pipeline, usual, LATER)
    for night, version, verdict in ((NIGHT, first, "none"), (LATER, bare, "no reference")):
        ran = pipeline.run(REPORT, night=night)
        assert metadata(ran, REPORT)["model_version"] == version
        assert value(pipeline, night=night)["verdict"] == verdict
    assert "Train again" in value(pipeline, night=LATER)["sentence"]


def test_a_night_that_is_not_predicted_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(NotMaterialized, match="materialize that partition of batch_digit_predictions first"):
        pipeline.run(REPORT, night=NIGHT)


def test_a_report_that_fails_leaves_the_night_predicted(pipeline: Pipeline) -> None:
    """Here its value cannot be written."""
    predictions = pipeline.state / "predictions" / f"{NIGHT}.parquet"
    job = pipeline.definitions.resolve_job_def("night")
    (pipeline.state / "assets" / REPORT).write_text("a file where a folder should be")
    ran = job.execute_in_process(instance=pipeline.instance, partition_key=NIGHT, raise_on_error=False)
    made = {event.asset_key.to_user_string() for event in ran.get_asset_materialization_events() if event.asset_key}
    assert not ran.success
    assert predictions.exists()
    assert {"batch_digit_predictions", SERVICE} <= made


# --- the service's day ---


def served(pipeline: Pipeline, images: np.ndarray, role: str = "champion", door: str = "predict") -> str:
    """Answers of today, as the service logs them; returns the day."""
    production, now = load_production(pipeline.store), datetime.now(timezone.utc)
    log = PredictionLog(Parts(DiskShelf(pipeline.state / "prediction_log")))
    shares = production.predictor.predict(images).probabilities
    names = production.card.class_names
    log.add(Predicted(now.timestamp(), "r", door, role, production.card.name, 1, names, images, shares))
    log.flush()
    return f"{now:%Y-%m-%d}"


def test_the_days_traffic_of_the_champion_is_compared(pipeline: Pipeline, usual: np.ndarray) -> None:
    day = served(pipeline, usual)
    served(pipeline, turned(usual), role="shadow")
    served(pipeline, turned(usual), door="draft")
    ran = pipeline.run(SERVICE, night=day)
    assert verdicts(ran) == {LOOKS_AS_IT_DID: True, ACCURACY_HOLDS: True}
    assert (value(pipeline, SERVICE, day)["verdict"], metadata(ran, SERVICE)["images"]) == ("none", len(usual))
    statistics = {row.data["statistic"] for row in metadata(ran, SERVICE)["statistics"].records}
    assert {"ink", "contrast", "sharpness", "slant", "confidence", "predicted classes"} <= statistics
    for _ in range(2):
        served(pipeline, turned(usual))
    drifted = pipeline.run(SERVICE, night=day)
    assert verdicts(drifted)[LOOKS_AS_IT_DID] is False


def test_a_day_of_the_log_from_before_statistics_were_kept_is_compared_by_the_rest(
    pipeline: Pipeline, usual: np.ndarray
) -> None:
    day = served(pipeline, usual)
    (part,) = (pipeline.state / "prediction_log").rglob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns(["contrast", "sharpness", "slant"]), part)
    served(pipeline, usual)
    ran = pipeline.run(SERVICE, night=day)
    statistics = {row.data["statistic"] for row in metadata(ran, SERVICE)["statistics"].records}
    assert statistics & {"ink", "contrast", "sharpness", "slant"} == {"ink"}
    assert value(pipeline, SERVICE, day)["verdict"] == "none"


def test_a_day_without_traffic_says_so(pipeline: Pipeline) -> None:
    ran = pipeline.run(SERVICE, night=NIGHT)
    assert value(pipeline, SERVICE)["verdict"] == "empty"
    assert "the traffic of the service has no predictions" in metadata(ran, SERVICE)["summary"]


# --- what is read ---


def test_a_table_from_before_statistics_were_kept_is_compared_by_its_answers(
    pipeline: Pipeline, usual: np.ndarray
) -> None:
    predicted(pipeline, usual)
    path = pipeline.state / "predictions" / f"{NIGHT}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["ink", "contrast", "sharpness", "slant"]), path)
    (met,) = of_night(path)
    assert (met.images, dict(met.sample.pixels)) == (len(usual), {})
    assert pipeline.run(REPORT, night=NIGHT).success


def test_of_a_large_night_some_rows_are_read(pipeline: Pipeline, usual: np.ndarray) -> None:
    predicted(pipeline, usual)
    path = pipeline.state / "predictions" / f"{NIGHT}.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table] * 20), path, row_group_size=1_000)
    (met,) = of_night(path)
    assert (met.images, len(met.sample)) == (20 * len(usual), 5_000)
    assert met.sample.seen.all()
