"""Trainers: what checkpoints are bound to, that they outlive a failure and not a success."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData, Origin
from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.ml.training import Epoch
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.trainers import Lesson, LocalTrainer

TINY: dict[str, Any] = {"width_1": 2, "width_2": 3, "width_3": 4, "epochs": 3, "device": "cpu", "dropout": 0.2}


class StoringFailed(Exception):
    """As when the network is away for a while."""


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    images = read_embedded()["train"]
    parts = {"train": images.take(np.arange(128)), "validation": images.take(np.arange(128, 200))}
    return Lesson(DigitData(parts, Origin("embedded", "a few", tuple("0123456789"))), ModelConfig(**TINY), "code")


@pytest.fixture
def trainer(tmp_path: Path) -> LocalTrainer:
    return LocalTrainer(DiskShelf(tmp_path / "checkpoints"), 0.0, logging.getLogger("training"))


def quiet(*_: Any) -> None:
    """Nobody asks how far it is."""


def weights(network: torch.nn.Module) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in network.state_dict().items()}


def test_checkpoints_outlive_a_failure_and_the_next_attempt_goes_on(trainer: LocalTrainer, lesson: Lesson) -> None:
    told: list[Epoch] = []
    with trainer.fitted(lesson, told.append, quiet) as whole:
        assert (len(told), whole.resumed_at) == (3, 0)
    assert trainer.shelf.list("") == []
    with pytest.raises(StoringFailed), trainer.fitted(lesson, quiet, quiet):
        raise StoringFailed
    assert len(trainer.shelf.list("")) == 1
    with trainer.fitted(lesson, quiet, quiet) as again:
        assert again.resumed_at > 0
        assert weights(again.network) == weights(whole.network)
    assert trainer.shelf.list("") == []


def test_what_is_trained_otherwise_never_goes_on_from_it(trainer: LocalTrainer, lesson: Lesson) -> None:
    fewer = DigitData({**lesson.data.parts, "train": lesson.data["train"].take(np.arange(100))}, lesson.data.origin)
    others = [
        replace(lesson, code="other code"),
        replace(lesson, data=fewer),
        replace(lesson, config=ModelConfig(**{**TINY, "seed": 1})),
        replace(lesson, config=ModelConfig(**{**TINY, "epochs": 4})),
        replace(lesson, config=ModelConfig(**{**TINY, "precision": "bfloat16"})),
    ]
    bounds = [trainer.files(each).bound for each in (lesson, *others)]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    bounds.append(trainer.files(lesson).bound)
    torch.set_num_threads(threads)
    assert len(set(bounds)) == len(bounds)
    assert trainer.files(lesson).bound == bounds[0]


def test_a_classical_model_leaves_no_checkpoint_wherever_it_is_fitted(trainer: LocalTrainer, lesson: Lesson) -> None:
    tree = replace(lesson, config=ModelConfig(architecture="tree", device="mps"))
    with trainer.fitted(tree, quiet, quiet) as fitted:
        assert fitted.resumed_at == 0
        assert trainer.shelf.list("") == []


def test_training_for_less_than_the_time_between_two_checkpoints_writes_none(
    trainer: LocalTrainer, lesson: Lesson
) -> None:
    with replace(trainer, every_s=60.0).fitted(lesson, quiet, quiet):
        assert not (trainer.shelf.root).exists()  # type: ignore[attr-defined]
