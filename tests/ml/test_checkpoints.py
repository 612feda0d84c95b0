"""Checkpoints: a training that is broken off at any epoch and goes on ends in the same weights, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from test_training import HOPELESS, TINY, VIT, weights_digest

from mnist_pipeline.ml.checkpoints import Checkpoint, bound_to, pack, unpack
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.training import Epoch, Trained, circumstances, finished, train

EPOCHS = 4
BOUND = bound_to(test="here")


@dataclass
class Kept:
    """Every checkpoint of a training as bytes. start: what it goes on from."""

    start: bytes = b""
    made: list[bytes] = field(default_factory=list)

    def load(self) -> Checkpoint | None:
        return unpack(self.start, BOUND) if self.start else None

    def save(self, make: Callable[[], Checkpoint], over: bool) -> None:
        self.made.append(pack(make(), BOUND))


@pytest.fixture(scope="module")
def parts(digits: DigitData) -> tuple[LabeledImages, LabeledImages]:
    return digits["train"].take(np.arange(128)), digits["validation"].take(np.arange(60))


def outcome(trained: Trained) -> tuple[str, list[Epoch]]:
    """Weights and history without its times."""
    return weights_digest(trained), [replace(e, images_per_s=0, seconds=0, seconds_left=0) for e in trained.history]


MOVED: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"ema_decay": 0.9},
    "dropout": {"dropout": 0.5},
    "warped": {"rotation": 20.0, "elastic": 1.0, "erasing": 0.5, "plain_epochs": 1},
    "cosine": {"schedule": "cosine"},
    "constant": {"schedule": "constant"},
    "adam": {"optimizer": "adam"},
    "muon": {"optimizer": "muon"},
    "momentum": {"optimizer": "sgd"},
    "momentum, cosine": {"optimizer": "sgd", "schedule": "cosine"},
    "no momentum": {"optimizer": "sgd", "momentum": 0.0},
    "patience": {"patience": 2, "min_delta": HOPELESS, "ema_decay": 0.5},
    "bfloat16": {"precision": "bfloat16", "dropout": 0.2},
    "resnet": {"architecture": "resnet", "epochs": 2, "dropout": 0.2, "ema_decay": 0.9},
    "vit": {**VIT, "dropout": 0.2},
    "everything": {"ema_decay": 0.9, "dropout": 0.3, "rotation": 9.0, "scale": 0.1, "shear": 0.1, "patience": 3},
}


@pytest.mark.parametrize("knobs", MOVED.values(), ids=MOVED)
def test_from_each_epoch_a_training_goes_on_to_the_same_weights(
    parts: tuple[LabeledImages, LabeledImages], knobs: dict[str, Any]
) -> None:
    config, unbroken = ModelConfig(**{**TINY, "epochs": EPOCHS, **knobs}), Kept()
    whole = outcome(train(*parts, 10, config, checkpoints=unbroken))
    assert outcome(train(*parts, 10, config)) == whole  # keeping checkpoints changes nothing
    for number, checkpoint in enumerate(unbroken.made, 1):
        told: list[Epoch] = []
        again = Kept(checkpoint)
        gone_on = train(*parts, 10, config, on_epoch=told.append, checkpoints=again)
        assert outcome(gone_on) == whole
        assert gone_on.resumed_at == number
        assert [epoch.number for epoch in told] == list(range(number + 1, len(whole[1]) + 1))
        assert len(again.made) == len(told)


def test_a_training_that_is_broken_off_after_each_epoch_ends_in_the_same_weights(
    parts: tuple[LabeledImages, LabeledImages],
) -> None:
    config = ModelConfig(**{**TINY, "epochs": EPOCHS, **MOVED["everything"]})
    kept, whole = Kept(), outcome(train(*parts, 10, config))
    for _ in range(EPOCHS):
        kept = Kept(kept.made[-1] if kept.made else b"")
        try:
            trained = train(*parts, 10, config, on_epoch=_after(1), checkpoints=kept)
        except InterruptedError:
            continue
    assert outcome(trained) == whole
    assert trained.resumed_at == EPOCHS - 1


def _after(most: int) -> Callable[[Epoch], None]:
    """Breaks off in the epoch after so many."""
    seen: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        seen.append(epoch)
        if len(seen) > most:
            raise InterruptedError

    return on_epoch


def test_the_time_before_counts_and_the_time_between_does_not(parts: tuple[LabeledImages, LabeledImages]) -> None:
    config, kept = ModelConfig(**{**TINY, "epochs": 2}), Kept()
    first = train(*parts, 10, config, checkpoints=kept).history[0]
    checkpoint = unpack(kept.made[0], BOUND)
    checkpoint.facts["history"][0]["seconds"] = 1_000.0
    last = train(*parts, 10, config, checkpoints=Kept(pack(checkpoint, BOUND))).history[1]
    assert 1_000 < last.seconds < 1_000 + 60
    assert checkpoint.facts["history"] == [{**asdict(first), "losses": list(first.losses), "seconds": 1_000.0}]


def test_the_last_checkpoint_is_the_trained_model(parts: tuple[LabeledImages, LabeledImages]) -> None:
    config, kept = ModelConfig(**{**TINY, "epochs": 3, "ema_decay": 0.5, "min_delta": HOPELESS}), Kept()
    trained = train(*parts, 10, config, checkpoints=kept)
    found = finished(config, 10, unpack(kept.made[-1], BOUND))
    assert (weights_digest(found), found.history) == (weights_digest(trained), trained.history)
    assert found.best.number == 1
    assert not found.network.training


def test_another_trainings_checkpoint_is_refused() -> None:
    data = pack(Checkpoint({"one": torch.ones(1)}, {}), BOUND)
    assert torch.equal(unpack(data, BOUND).tensors["one"], torch.ones(1))
    with pytest.raises(ValueError, match="belongs to another training"):
        unpack(data, bound_to(test="there"))


@pytest.mark.parametrize("bad", [b"", b"short", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]"])
def test_bytes_that_are_no_checkpoint_are_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint|another training"):
        unpack(bad, BOUND)


def test_threads_precision_and_device_are_circumstances() -> None:
    here = circumstances(ModelConfig(**TINY))
    assert here == circumstances(ModelConfig(**TINY))
    assert (here["device"], here["threads"], here["bfloat16"]) == ("cpu", torch.get_num_threads(), False)
    assert circumstances(ModelConfig(**{**TINY, "precision": "bfloat16"})) != here
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert circumstances(ModelConfig(**TINY)) != here
    finally:
        torch.set_num_threads(threads)
