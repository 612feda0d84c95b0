"""Dagster's own settings: sqlite and Postgres agree in all but storage, and what they promise holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus
from pipelines import ROOT, TINY, call
from postgres_server import postgres

from mnist_pipeline.compute_logs import StateLogs

FILES = {"sqlite": ROOT / "dagster.yaml", "postgres": ROOT / "instances" / "postgres" / "dagster.yaml"}


def settings(name: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[name].read_text())


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dg.DagsterInstance:
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    return dg.DagsterInstance.from_config(str(ROOT))


def test_both_files_agree_in_everything_but_storage() -> None:
    sqlite, on_postgres = settings("sqlite"), settings("postgres")
    assert sqlite.pop("storage") != on_postgres.pop("storage")
    assert sqlite == on_postgres


def test_runs_are_queued_watched_and_retried_when_their_worker_crashed(instance: dg.DagsterInstance) -> None:
    with instance:
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        runs = instance.get_concurrency_config().run_queue_config
        assert runs
        assert runs.max_concurrent_runs == 4
        assert (instance.run_monitoring_enabled, instance.run_monitoring_max_resume_run_attempts) == (True, 0)
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 2)
        assert instance.run_retries_retry_on_asset_or_op_failure is False
        assert instance.freshness_enabled


def test_there_is_one_deployment_at_a_time(instance: dg.DagsterInstance) -> None:
    with instance:
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert pools.pool_granularity
        assert pools.pool_granularity.value == "op"


EACH = {TickStatus.SKIPPED: 3, TickStatus.STARTED: 3, TickStatus.SUCCESS: 30, TickStatus.FAILURE: 90}
RETENTION = {  # days that ticks are kept, by how they ended
    InstigatorType.SCHEDULE: dict.fromkeys(TickStatus, 90),
    InstigatorType.SENSOR: EACH,
    InstigatorType.AUTO_MATERIALIZE: EACH,
}


def retention(instance: dg.DagsterInstance) -> dict[InstigatorType, dict[TickStatus, int]]:
    """As Dagster's daemons ask for it before they purge; -1 would mean for ever."""
    return {each: dict(instance.get_tick_retention_settings(each)) for each in InstigatorType}


@pytest.mark.parametrize("name", FILES)
def test_ticks_are_kept_as_long_as_the_files_say(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file but for its storage, so that no Postgres is needed here."""
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({**settings(name), "storage": settings("sqlite")["storage"]}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert retention(instance) == RETENTION


def test_what_runs_print_lies_in_a_folder_of_its_own(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, StateLogs)
        out = manager.get_captured_local_path(["some-run", "compute_logs", "step"], "out")
        assert Path(out).is_relative_to(tmp_path / "state" / "logs")


@pytest.mark.slow
def test_the_digit_graph_runs_on_postgres(tmp_path: Path) -> None:
    with postgres() as server:
        env = {
            "DAGSTER_HOME": str(FILES["postgres"].parent),
            "DAGSTER_POSTGRES_URL": server.url,
            "MNIST_PIPELINE_STATE": str(tmp_path / "state"),
            "MNIST_DATASET": "embedded",
        }
        config = json.dumps({"ops": {"digit_classifier": {"config": TINY}}})
        dg_command = Path(sys.executable).with_name("dg")
        ran = call(dg_command, "launch", "--job", "make_model", "--config-json", config, **env)
        assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3_000:]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            with dg.DagsterInstance.from_config(env["DAGSTER_HOME"]) as instance:
                assert retention(instance) == RETENTION
                assert instance.get_latest_materialization_event(dg.AssetKey("production_digit_classifier"))
                (run,) = instance.get_runs()
                assert run.status == dg.DagsterRunStatus.SUCCESS
        assert not (tmp_path / "state" / "history").exists()
