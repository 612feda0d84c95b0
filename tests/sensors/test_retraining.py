"""Retraining after drift: when it is switched on, once a day, and never for what is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from mnist_pipeline.assets.monitoring import ACCURACY_HOLDS, LOOKS_AS_IT_DID, NIGHT, SERVICE
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.sensors.retraining import BECAUSE, asked

NIGHTLY = NightlyRun("UTC", 2, 0)
MORNING = datetime(2026, 3, 10, 2, 10, tzinfo=timezone.utc)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


class Retrainer:
    """The sensor with its cursor."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def look(self, at: datetime) -> list[str]:
        """The run keys that it asks for."""
        result = asked(self.instance, NIGHTLY, at, self.cursor)
        self.cursor = result.cursor
        self.requests = list(result.run_requests or [])
        self.reason = str(result.skip_reason)
        return [str(request.run_key) for request in self.requests]

    def judged(
        self,
        at: datetime,
        *,
        asset: str = NIGHT,
        check: str = LOOKS_AS_IT_DID,
        passed: bool = False,
        severity: dg.AssetCheckSeverity = ERROR,
    ) -> None:
        verdict = dg.AssetCheckEvaluation(dg.AssetKey(asset), check, passed, {}, severity=severity)
        with freeze_time(at):
            self.instance.report_runless_asset_event(verdict)


@pytest.fixture
def retrainer() -> Iterator[Retrainer]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Retrainer(instance)


@pytest.mark.parametrize(("asset", "check"), [(NIGHT, LOOKS_AS_IT_DID), (SERVICE, ACCURACY_HOLDS)])
def test_an_error_asks_for_a_training_once(retrainer: Retrainer, asset: str, check: str) -> None:
    assert retrainer.look(MORNING) == []
    retrainer.judged(MORNING, asset=asset, check=check)
    assert retrainer.look(MORNING + MINUTE) == ["drift-2026-03-10"]
    assert retrainer.requests[0].tags[BECAUSE] == f"{asset}:{check}"
    assert retrainer.look(MORNING + 2 * MINUTE) == []


def test_a_warning_and_a_check_that_passed_ask_for_nothing(retrainer: Retrainer) -> None:
    retrainer.judged(MORNING, severity=WARN)
    retrainer.judged(MORNING, passed=True)
    assert retrainer.look(MORNING + MINUTE) == []


def test_a_day_has_one_training_and_the_next_day_its_own(retrainer: Retrainer) -> None:
    retrainer.judged(MORNING)
    retrainer.look(MORNING + MINUTE)
    retrainer.judged(MORNING + 2 * MINUTE, asset=SERVICE)
    assert retrainer.look(MORNING + 3 * MINUTE) == []
    assert "trained today already" in retrainer.reason
    assert retrainer.look(MORNING + DAY) == []  # what was found before the training is not found again after it
    retrainer.judged(MORNING + DAY)
    assert retrainer.look(MORNING + DAY + MINUTE) == ["drift-2026-03-11"]


def test_a_lost_cursor_asks_with_the_same_key(retrainer: Retrainer) -> None:
    """Dagster launches no second run with a key that a sensor has used."""
    retrainer.judged(MORNING)
    first = retrainer.look(MORNING + MINUTE)
    retrainer.cursor = None
    assert retrainer.look(MORNING + 2 * MINUTE) == first


def test_what_is_older_than_a_day_is_over(retrainer: Retrainer) -> None:
    retrainer.judged(MORNING)
    assert retrainer.look(MORNING + DAY + MINUTE) == []


def test_while_a_training_is_under_way_no_other_is_asked_for(retrainer: Retrainer) -> None:
    create_run_for_test(retrainer.instance, "training", status=dg.DagsterRunStatus.STARTED)
    retrainer.judged(MORNING)
    assert retrainer.look(MORNING + MINUTE) == []
    assert "under way" in retrainer.reason


def test_the_sensor_itself_asks_for_a_run_of_the_training_job(retrainer: Retrainer, tmp_path: Path) -> None:
    """What a night has found a minute ago, seen by the definition that the daemon evaluates."""
    retrainer.judged(datetime.now(timezone.utc) - MINUTE)
    definitions = build_definitions({"MNIST_PIPELINE_STATE": str(tmp_path), "MNIST_DATASET": "embedded"})
    sensor = definitions.resolve_sensor_def("retrain_on_drift")
    with dg.build_sensor_context(instance=retrainer.instance, definitions=definitions) as context:
        data = sensor.evaluate_tick(context)
        (request,) = data.run_requests or ()
        assert (request.tags[BECAUSE], sensor.job_name) == (f"{NIGHT}:{LOOKS_AS_IT_DID}", "training")
    with dg.build_sensor_context(instance=retrainer.instance, definitions=definitions, cursor=data.cursor) as again:
        assert not sensor.evaluate_tick(again).run_requests
    made = {key.to_user_string() for key in definitions.resolve_job_def("training").asset_layer.executable_asset_keys}
    assert {"feedback_digits", "processed_mnist_data", "digit_classifier", "model_evaluation"} <= made


def test_it_runs_where_it_is_configured_and_launches_the_training(tmp_path: Path) -> None:
    env = {"MNIST_PIPELINE_STATE": str(tmp_path), "MNIST_DATASET": "embedded"}
    for setting, status in (("", "STOPPED"), ("off", "STOPPED"), ("on", "RUNNING")):
        definitions = build_definitions({**env, "MNIST_RETRAIN_ON_DRIFT": setting})
        sensor = definitions.resolve_sensor_def("retrain_on_drift")
        assert (sensor.default_status.value, sensor.job_name) == (status, "training")
    with pytest.raises(ValueError, match="MNIST_RETRAIN_ON_DRIFT='yes': it is one of off, on"):
        build_definitions({**env, "MNIST_RETRAIN_ON_DRIFT": "yes"})
