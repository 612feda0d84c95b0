"""Postgres stopped and started again while a run goes on: the run ends, the models are whole, the next run succeeds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_table import Tried
from pipelines import ROOT, TINY, Pipeline, instance_of
from postgres_server import Postgres, postgres
from processes import Process

pytestmark = pytest.mark.slow
MOMENTS = ((0.0, 6.0), (6.0, 12.0), (12.0, 20.0))  # seconds after the start of a run between which Postgres goes
PATIENCE_S = 240.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def env(server: Postgres, tmp_path: Path) -> dict[str, str]:
    return {
        "DAGSTER_HOME": str(ROOT / "instances" / "postgres"),
        "DAGSTER_POSTGRES_URL": server.url,
        "MNIST_PIPELINE_STATE": str(tmp_path / "state"),
        "MNIST_DATASET": "embedded",
        "MLFLOW_TRACKING_URI": "none",
    }


def launch(env: dict[str, str], log: Path) -> Process:
    config = json.dumps({"ops": {"digit_classifier": {"config": TINY}}})
    dg_command = str(Path(sys.executable).with_name("dg"))
    return Process(
        "run", [sys.executable, dg_command, "launch", "--job", "make_model", "--config-json", config], env, log
    )


def ended(process: Process) -> int:
    """Its exit status. Whether it hangs is what this is about."""
    assert process.child
    try:
        return process.child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the run hangs:\n{process.tail()}") from None
    finally:
        process.end()


def test_postgres_restarted_in_mid_run(env: dict[str, str], server: Postgres, tmp_path: Path, tried: Tried) -> None:
    log, chance = tmp_path / "run.log", random.Random(4)
    assert ended(launch(env, log).start()) == 0, log.read_text()[-3_000:]
    pipeline, results = Pipeline(tmp_path / "state"), []
    for begin, end in MOMENTS:
        before = pipeline.stored()
        process = launch(env, log).start()
        time.sleep(chance.uniform(begin, end))
        server.restart(gone_s=chance.uniform(0, 3))
        results.append(ended(process))
        after = pipeline.stored()
        assert {key: after.get(key) for key in before} == before
        assert pipeline.store.verify_chain() == []
        for name in pipeline.store.versions():
            pipeline.store.load(name)
    assert ended(launch(env, log).start()) == 0, log.read_text()[-3_000:]
    with instance_of(env) as instance:
        statuses = [run.status.value for run in instance.get_runs()]
    assert statuses[0] == "SUCCESS"
    assert set(statuses) <= {"SUCCESS", "FAILURE"}  # none looks alive and holds up what comes after it
    tried("Postgres restarted in mid-run", len(MOMENTS), remark=f"{results.count(0)} of these runs succeeded")
