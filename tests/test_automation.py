"""What runs by itself: all of it is switched on, in both environments, and each asset has one trigger."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness_evaluator import CronFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from pipelines import PROD

from mnist_pipeline.definitions import build_definitions

BY_ITSELF = {
    "raw_mnist_data": "new_training_data",
    "feedback_digits": "new_feedback",
    "processed_mnist_data": "keep_up_to_date",
    "digit_classifier": "keep_up_to_date",
    "model_evaluation": "keep_up_to_date",
    "production_digit_classifier": "keep_up_to_date",
    "batch_digit_predictions": "nightly",
    "drift_report": "nightly",
    "service_drift_report": "nightly",
    "digit_predictions": "new_images",
}
RETRAINS = "retrain_on_drift"  # a second trigger of what is trained, on request: off unless it is configured
HEALS = "heal_nights"  # asks again for what `nightly` asked for, and for nothing else: see its docstring


@pytest.fixture(params=["dev", "prod"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> dg.RepositoryDefinition:
    env = {
        **PROD,
        "MNIST_PIPELINE_ENV": request.param,
        "MNIST_PIPELINE_STATE": str(tmp_path),
        "MNIST_DATASET": "embedded",
    }
    return build_definitions(env).get_repository_def()


def test_every_schedule_and_sensor_is_running(repository: dg.RepositoryDefinition) -> None:
    schedules = {each.name: each.default_status for each in repository.schedule_defs}
    sensors = {each.name: each.default_status for each in repository.sensor_defs}
    assert set(schedules) >= {"nightly"}
    assert set(sensors) >= {"keep_up_to_date", "new_images", "new_training_data", HEALS}
    assert set(schedules.values()) == {dg.DefaultScheduleStatus.RUNNING}
    off = {name for name, status in sensors.items() if status != dg.DefaultSensorStatus.RUNNING}
    assert off == {RETRAINS}


def test_each_asset_has_one_trigger(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    found: dict[str, list[str]] = {key.to_user_string(): [] for key in graph.materializable_asset_keys}
    for key, name in ((key, key.to_user_string()) for key in graph.materializable_asset_keys):
        if graph.get(key).automation_condition:
            found[name].append("keep_up_to_date")
    for schedule in repository.schedule_defs:
        for key in repository.get_job(schedule.job_name).asset_layer.executable_asset_keys:
            found[key.to_user_string()].append(schedule.name)
    for sensor in repository.sensor_defs:
        if isinstance(sensor, dg.AutomationConditionSensorDefinition) or sensor.name in (HEALS, RETRAINS):
            continue
        for key in sensor.asset_selection.resolve(graph) if sensor.asset_selection else ():
            found[key.to_user_string()].append(sensor.name)
    assert {name: each for name, each in found.items() if name in BY_ITSELF} == {
        name: [trigger] for name, trigger in BY_ITSELF.items()
    }


def test_the_conditions_are_looked_at_by_the_sensor_that_runs(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    (sensor,) = [each for each in repository.sensor_defs if isinstance(each, dg.AutomationConditionSensorDefinition)]
    with_condition = {key for key in graph.materializable_asset_keys if graph.get(key).automation_condition}
    assert with_condition <= sensor.asset_selection.resolve(graph)


def test_who_should_be_fresh_says_so(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    fresh = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.materializable_asset_keys}
    assert {name for name, policy in fresh.items() if policy} == {
        "batch_digit_predictions",
        "production_digit_classifier",
    }


def test_the_deployment_has_a_pool_of_its_own(repository: dg.RepositoryDefinition) -> None:
    pools = {node.name: node.pools for node in repository.get_job("full_pipeline").all_node_defs}
    assert {name for name, each in pools.items() if each} == {"production_digit_classifier"}


def test_timezone_and_time_reach_partitions_schedule_and_freshness(tmp_path: Path) -> None:
    env = {
        "MNIST_PIPELINE_STATE": str(tmp_path),
        "MNIST_PIPELINE_TIMEZONE": "Europe/Berlin",
        "MNIST_NIGHTLY_AT": "03:15",
    }
    definitions = build_definitions(env)
    (batch,) = [s for s in definitions.resolve_all_asset_specs() if s.key == dg.AssetKey("batch_digit_predictions")]
    assert isinstance(batch.partitions_def, dg.DailyPartitionsDefinition)
    assert batch.partitions_def.timezone == "Europe/Berlin"
    assert batch.freshness_policy == dg.FreshnessPolicy.cron(
        "15 4 * * *",
        batch.freshness_policy.lower_bound_delta,
        "Europe/Berlin",  # type: ignore[union-attr]
    )
    schedule = definitions.resolve_schedule_def("nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 3 * * *", "Europe/Berlin")


def test_a_night_without_predictions_is_noticed_an_hour_later(tmp_path: Path) -> None:
    """Dagster's own evaluation knows partitioned assets too: it asks when anything was made last."""
    definitions = build_definitions({"MNIST_PIPELINE_STATE": str(tmp_path)})
    key = dg.AssetKey("batch_digit_predictions")
    node = definitions.get_repository_def().asset_graph.get(key)

    def state(instance: dg.DagsterInstance, at: datetime) -> str:
        with freeze_time(at):
            looked = CronFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(instance), node)
            return asyncio.run(looked).value

    with dg.DagsterInstance.ephemeral() as instance:
        assert state(instance, datetime(2026, 3, 10, 12, tzinfo=timezone.utc)) == "UNKNOWN"
        with freeze_time(datetime(2026, 3, 10, 2, 5, tzinfo=timezone.utc)):
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-03-09"))
        assert state(instance, datetime(2026, 3, 11, 2, 59, tzinfo=timezone.utc)) == "PASS"
        assert state(instance, datetime(2026, 3, 11, 3, 1, tzinfo=timezone.utc)) == "FAIL"
        with freeze_time(datetime(2026, 3, 11, 4, 0, tzinfo=timezone.utc)):
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-03-10"))
        assert state(instance, datetime(2026, 3, 11, 4, 1, tzinfo=timezone.utc)) == "PASS"
