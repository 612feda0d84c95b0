"""A training under kill -9: it goes on from its checkpoint, and the version is the one of a training that was not."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from checkpoint_watch import reached
from children import Start, make
from fault_table import Tried
from pipelines import DATA, Pipeline, metadata
from processes import wait

pytestmark = pytest.mark.slow
EPOCHS, KILLED_AT = 15, 9
LONG: dict[str, Any] = {  # everything that moves: averaged weights, dropout, warps, a schedule, patience
    **{"preset": "accurate", "epochs": EPOCHS, "min_steps": 0, "device": "cpu", "patience": 14},
    **{"width_1": 16, "width_2": 32, "width_3": 64},
}


def test_killed_at_epoch_9_of_15_it_goes_on_to_the_same_version(tmp_path: Path, start: Start, tried: Tried) -> None:
    unbroken = Pipeline(tmp_path / "unbroken", MLFLOW_TRACKING_URI="none", MNIST_CHECKPOINT_S="0")
    unbroken.run(*DATA)
    broken = unbroken.copy(tmp_path / "broken")
    child, _said = start(make, broken.env, "digit_classifier", LONG, None)
    wait(f"epoch {KILLED_AT}", lambda: reached(broken.state / "checkpoints") >= KILLED_AT, 90, every=0.01)
    time.sleep(0.05)  # into the next epoch
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert KILLED_AT <= reached(broken.state / "checkpoints") < EPOCHS
    assert broken.store.versions() == []
    again = broken.run("digit_classifier", digit_classifier=LONG)
    whole = unbroken.run("digit_classifier", digit_classifier=LONG)
    assert broken.store.versions() == unbroken.store.versions() != []
    assert metadata(again, "digit_classifier")["resumed_at_epoch"] >= KILLED_AT
    assert "resumed_at_epoch" not in metadata(whole, "digit_classifier")
    assert any("the training goes on after epoch" in line for line in broken.messages(again))
    assert list((broken.state / "checkpoints").iterdir()) == []
    tried("kill -9 in mid-training, then another run", 1, remark="the same version as without")
