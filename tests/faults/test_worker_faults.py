"""The worker of a run killed in mid-step, under the real daemon: noticed, marked as failed, and launched again."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from fault_table import Tried
from pipelines import TINY, at_home, call, instance_of
from processes import Process, daemon, wait

pytestmark = pytest.mark.slow
PATIENCE_S = 240.0
LONG = {**TINY, "epochs": 300, "min_steps": 0}  # long enough to be met in mid-step


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return at_home(tmp_path, MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")


@pytest.fixture
def instance(env: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with instance_of(env) as made:
        yield made


@pytest.fixture
def running_daemon(env: dict[str, str], instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Process]:
    """instance: made first, since two processes that meet an empty folder trip over each other's tables."""
    process = daemon(env, tmp_path / "daemon.log").start()
    yield process
    process.end()


def launched(env: dict[str, str], instance: dg.DagsterInstance) -> str:
    """The run that was put into the queue."""
    config = json.dumps({"ops": {"digit_classifier": {"config": LONG}}})
    command = ("-m", "dagster", "job", "launch", "-m", "mnist_pipeline.definitions", "-j", "training")
    done = call(*command, "--config-json", config, **env)
    assert done.returncode == 0, done.stderr
    (run,) = instance.get_runs(dg.RunsFilter(job_name="training"))
    return run.run_id


def process_of(instance: dg.DagsterInstance, run_id: str, said: str) -> int:
    """The pid that an engine event names."""
    messages = [entry.message for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)]
    found = [int(match[1]) for each in messages if (match := re.search(said, each))]
    return found[-1] if found else 0


def steps_begun(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    return {str(each.step_key) for each in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)}


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def again(instance: dg.DagsterInstance, run_id: str) -> str:
    """The run that takes the place of another one, empty while there is none."""
    found = instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id}))
    return found[0].run_id if found else ""


def test_a_run_whose_worker_is_killed_is_launched_again(
    env: dict[str, str], instance: dg.DagsterInstance, running_daemon: Process, tried: Tried
) -> None:
    run_id = launched(env, instance)
    wait("training", lambda: "digit_classifier" in steps_begun(instance, run_id), PATIENCE_S)
    worker = process_of(instance, run_id, r"Started process for run \(pid: (\d+)\)")
    assert worker, sys.argv
    os.kill(worker, signal.SIGKILL)
    failed = dg.DagsterRunStatus.FAILURE
    wait("the run failed", lambda: status(instance, run_id) == failed, PATIENCE_S)
    second = wait("a run in its place", lambda: again(instance, run_id), PATIENCE_S)
    succeeded = dg.DagsterRunStatus.SUCCESS
    wait("its success", lambda: status(instance, second) == succeeded, PATIENCE_S)
    tried("kill -9 of the run worker in mid-step, under the daemon", 1, remark="launched again by run_retries")
