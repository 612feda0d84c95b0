"""Slots of runs that are over do not hold up the next run, with no daemon to free them."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from fault_table import Tried
from pipelines import TINY, at_home, call, instance_of
from processes import Process, wait

from mnist_pipeline.executor import free_slots_of_the_dead

STUCK = """
    import time
    import dagster as dg

    from mnist_pipeline.executor import one_process

    @dg.asset(pool="deployment")
    def stuck() -> None:
        time.sleep(600)

    @dg.asset(pool="deployment")
    def quick() -> None: ...

    defs = dg.Definitions(assets=[stuck, quick], executor=one_process)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return at_home(tmp_path)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "stuck.py"
    path.write_text(textwrap.dedent(STUCK))
    return path


def command(code: Path, asset: str) -> list[str]:
    return ["-m", "dagster", "asset", "materialize", "-f", str(code), "--select", f"key:{asset}"]


@pytest.fixture
def stuck(code: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    """A run of another process that holds the slot."""
    process = Process("stuck", [sys.executable, *command(code, "stuck")], env, tmp_path / "stuck.log").start()
    try:
        wait("the step begins", lambda: "STEP_START" in process.log.read_text(), 60)
        yield process
    finally:
        process.kill()


@pytest.mark.slow
def test_a_run_goes_on_where_another_was_killed(stuck: Process, code: Path, env: dict[str, str], tried: Tried) -> None:
    stuck.kill()
    done = call(*command(code, "quick"), timeout=60, **env)
    assert done.returncode == 0, done.stderr
    with instance_of(env) as instance:
        last, killed = instance.get_runs()
        assert (last.status, killed.status) == (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)
    tried("kill -9 of a run that holds the slot for deployments, no daemon there", 1)


@pytest.mark.slow
def test_a_run_that_is_alive_keeps_its_slot(stuck: Process, env: dict[str, str]) -> None:
    with instance_of(env) as instance:
        assert free_slots_of_the_dead(instance) == []
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED


def test_the_slot_of_a_run_that_has_ended_is_given_back(env: dict[str, str]) -> None:
    with instance_of(env) as instance:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("deployment")
        run = dg.DagsterRun("make_model", run_id="11111111-2222-4333-8444-555555555555")
        instance.add_run(run)
        assert storage.claim_concurrency_slot("deployment", run.run_id, "step").is_claimed
        assert free_slots_of_the_dead(instance) == []  # nobody knows yet whether it lives
        instance.report_run_failed(run)
        assert free_slots_of_the_dead(instance) == [run.run_id]
        assert storage.claim_concurrency_slot("deployment", "another", "step").is_claimed


def test_an_instance_without_pools_has_nothing_to_free() -> None:
    assert free_slots_of_the_dead(dg.DagsterInstance.ephemeral()) == []


@pytest.mark.slow
def test_make_run_takes_the_slot_of_a_run_that_has_ended(env: dict[str, str]) -> None:
    """It runs in its own process, past the executor that gives slots back elsewhere."""
    with instance_of(env) as instance:
        storage, run = instance.event_log_storage, dg.DagsterRun("make_model")
        storage.initialize_concurrency_limit_to_default("deployment")
        instance.add_run(run)
        assert storage.claim_concurrency_slot("deployment", run.run_id, "step").is_claimed
        instance.report_run_failed(run)
    more = {"MNIST_DATASET": "embedded", "MLFLOW_TRACKING_URI": "none"}
    begun = Process(
        "run",
        [sys.executable, "-m", "mnist_pipeline.run", "--config", json.dumps(TINY)],
        {**env, **more},
        Path(env["DAGSTER_HOME"]) / "run.log",
    ).start()
    try:
        assert begun.child
        assert begun.child.wait(120) == 0, begun.tail()
    finally:
        begun.kill()
