"""Where steps run, as the environment says; how they fare there is in test_steps.py, slots of dead runs in faults/."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from pipelines import PROD

from mnist_pipeline.automation import JOBS
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.executor import some_processes, steps_executor
from mnist_pipeline.ray_jobs import settings_for, with_this_python


@dg.job(executor_def=some_processes)
def nothing() -> None:
    """Only its configuration matters."""


def executor_config(processes: int | None) -> dict[str, object]:
    """What the executor beneath is given."""
    config = {} if processes is None else {"execution": {"config": {"processes": processes}}}
    return dict(dg.validate_run_config(nothing, config)["execution"]["some_processes"])


@pytest.mark.parametrize("processes", [None, 1])
def test_one_process_unless_asked_for_more(processes: int | None) -> None:
    assert executor_config(processes).keys() == {"in_process"}


def test_as_many_processes_as_asked_for() -> None:
    (kind,) = executor_config(3).items()
    assert kind == ("multiprocess", {"max_concurrent": 3, "retries": {"enabled": {}}})


# --- where steps run ---

CLUSTER = {"RAY_ADDRESS": "127.0.0.1:6379"}


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "in_process"),
        ({"MNIST_STEPS_ON": "processes"}, "processes"),
        ({"MNIST_STEPS_ON": "ray", **CLUSTER}, "ray"),
        ({"MNIST_STEPS_ON": "ray", "RAY_API_SERVER_ADDRESS": "http://head:8265"}, "ray"),
        ({"MNIST_PIPELINE_ENV": "prod"}, "processes"),
        ({"MNIST_PIPELINE_ENV": "prod", "MNIST_STEPS_ON": "process"}, "in_process"),
        ({"MNIST_PIPELINE_ENV": "prod", **CLUSTER}, "processes"),  # a cluster for other work is no wish
    ],
)
def test_where_steps_run(env: dict[str, str], name: str) -> None:
    assert steps_executor(env).name == name


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"MNIST_STEPS_ON": "dask"}, "MNIST_STEPS_ON='dask': it is one of process, processes, ray"),
        ({"MNIST_STEPS_ON": "ray"}, "MNIST_STEPS_ON=ray needs a cluster: set RAY_API_SERVER_ADDRESS"),
        ({"MNIST_STEPS_ON": "ray", "RAY_ADDRESS": "auto"}, "RAY_ADDRESS='auto' does not say where jobs are taken"),
        ({"MNIST_STEPS_ON": "ray", "RAY_ADDRESS": "ray://head:10001"}, "RAY_ADDRESS='ray://head:10001' does not say"),
        ({"MNIST_STEPS_ON": "ray", **CLUSTER, "MNIST_STEP_CPUS": "many"}, "MNIST_STEP_CPUS='many' is no number"),
        ({"MNIST_STEPS_ON": "ray", **CLUSTER, "MNIST_STEP_WAIT_S": "0"}, "MNIST_STEP_WAIT_S='0'"),
        ({"MNIST_STEPS_ON": "processes", "MNIST_STEPS_AT_ONCE": "-1"}, "MNIST_STEPS_AT_ONCE='-1'"),
    ],
)
def test_a_wrong_wish_is_named(env: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        steps_executor(env)


def test_without_the_extra_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_ray", None)
    with pytest.raises(ValueError, match=r"dagster_ray cannot be imported; pip install 'mnist-pipeline\[ray\]'"):
        steps_executor({"MNIST_STEPS_ON": "ray", **CLUSTER})
    assert steps_executor({}).name == "in_process"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MNIST_STEPS_ON": "processes", "MNIST_STEPS_AT_ONCE": "3"}, {"max_concurrent": 3}),
        (
            {"MNIST_STEPS_ON": "ray", **CLUSTER, "MNIST_STEP_CPUS": "0.5", "MNIST_STEP_WAIT_S": "60"},
            {"max_concurrent": 0, "num_cpus": 0.5, "num_gpus": 0.0, "wait_s": 60.0},
        ),
    ],
)
def test_a_run_may_wish_otherwise_than_the_environment(env: dict[str, str], expected: dict[str, float]) -> None:
    @dg.job(executor_def=steps_executor(env))
    def quick() -> None: ...

    name = steps_executor(env).name
    assert dg.validate_run_config(quick)["execution"] == {name: expected}
    config = {"execution": {"config": {"max_concurrent": 7}}}
    assert dg.validate_run_config(quick, config)["execution"] == {name: {**expected, "max_concurrent": 7}}


def test_jobs_of_one_short_step_stay_in_the_process_of_their_run(tmp_path: Path) -> None:
    env = {**PROD, "MNIST_PIPELINE_ENV": "prod", "MNIST_PIPELINE_STATE": str(tmp_path)}
    definitions = build_definitions(env)
    names = {job.name: definitions.resolve_job_def(job.name).executor_def.name for job in JOBS}
    here = {name for name, executor in names.items() if executor == "in_process"}
    assert here == {"deployment", "accuracy_review", "contest", "refresh"}
    assert {name for name, executor in names.items() if executor == "some_processes"} == {"tuning"}
    assert set(names.values()) == {"in_process", "some_processes", "processes"}


# --- what a step on a node is told ---


def test_a_node_is_told_our_settings_and_no_secret(tmp_path: Path) -> None:
    env = {
        "MNIST_PIPELINE_ENV": "prod",
        "MNIST_S3_BUCKET": "b",
        "SUPERSTORE_CSV": "/data/orders.csv",
        "SLACK_CHANNEL": "C012",
        "MLFLOW_TRACKING_URI": "http://user:hunter2pass@mlflow:5000",
        "SLACK_BOT_TOKEN": "xoxb-1",
        "MNIST_SERVE_TOKEN": "hunter2",
        "MNIST_HEARTBEAT_URL": "https://hc/1234",
        "AWS_SECRET_ACCESS_KEY": "s",
        "DAGSTER_POSTGRES_URL": "postgresql://user:hunter2pass@db/dagster",
        "HOME": "/root",
        "MNIST_PIPELINE_STATE": str(tmp_path / "there" / ".." / "state"),
    }
    assert settings_for(env) == {
        **{name: env[name] for name in ("MNIST_PIPELINE_ENV", "MNIST_S3_BUCKET", "SUPERSTORE_CSV", "SLACK_CHANNEL")},
        "MNIST_PIPELINE_STATE": str(tmp_path / "state"),
    }


def test_a_node_runs_dagster_by_our_python_where_it_has_it(tmp_path: Path) -> None:
    found = tmp_path / "dagster"
    found.write_text("#!/bin/sh\necho as it is found: $*")
    found.chmod(0o755)
    ours = tmp_path / "our python"
    ours.write_text("#!/bin/sh\necho ours: $*")
    ours.chmod(0o755)

    def run(python: str, command: str = "dagster api execute_step") -> str:
        shell = ["/bin/sh", "-c", with_this_python(command, python)]
        return subprocess.run(shell, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True).stdout

    assert run(str(ours)) == "ours: -m dagster api execute_step\n"
    assert run("/nowhere/python") == "as it is found: api execute_step\n"
    assert with_this_python("/bin/python -m dagster api") == "/bin/python -m dagster api"
