"""Each asset under kill -9: what was there before stays as it was or is replaced whole, and the next run succeeds."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import pytest
from children import Start, make, tonight
from fault_table import Tried
from pipelines import TINY, Pipeline
from witness import Witness

pytestmark = pytest.mark.slow
KILLS = 4
VALUES = (  # what assets hand on; the nightly predictions are a table
    *("raw_mnist_data", "processed_mnist_data", "digit_classifier"),
    *("model_evaluation", "production_digit_classifier", "digit_predictions"),
)


def config_of(asset: str, versions: list[str]) -> dict[str, Any]:
    """What makes the asset quick, and a decision of each run."""
    choice = {"strategy": "manual", "version": versions[1]}
    return {"digit_classifier": TINY, "production_digit_classifier": choice}.get(asset, {})


def everything_is_whole(pipeline: Pipeline, before: dict[str, str]) -> None:
    """before: the model store, where nothing may ever change."""
    after = pipeline.stored()
    assert {key: after.get(key) for key in before} == before
    for name in pipeline.store.versions():
        pipeline.store.load(name)
        for report in pipeline.store.reports(name):
            pipeline.store.report(report)
    for asset in VALUES:
        pipeline.value(asset)
    assert pipeline.value("digit_classifier") in pipeline.store.versions()


@pytest.mark.parametrize("asset", [*VALUES, "batch_digit_predictions"])
def test_kill_in_each_asset(pipeline: Pipeline, versions: list[str], start: Start, asset: str, tried: Tried) -> None:
    pipeline.run("digit_predictions")
    witness, chance = Witness(pipeline, versions), random.Random(asset)
    night = tonight() if asset == "batch_digit_predictions" else None
    config = config_of(asset, versions)
    for _ in range(KILLS):
        witness.drop(10)
        before = pipeline.stored()
        child, _said = start(make, pipeline.env, asset, config, night)
        time.sleep(chance.uniform(0, 1.5))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        everything_is_whole(pipeline, before)
        witness.versions = pipeline.store.versions()
        witness.look()
        pipeline.run(asset, night=night, **({asset: config} if config else {}))
        everything_is_whole(pipeline, before)
    pipeline.run("batch_digit_predictions", night=tonight())
    witness.look_at_the_end()
    tried(f"kill -9 in {asset}, then another run", KILLS)
