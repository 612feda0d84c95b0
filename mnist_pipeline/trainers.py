"""Where a model is trained, and that it goes on from its checkpoints there.

Here: what binds checkpoints to a training; training in this process.
Not here: the training itself (`ml/learning.py`), the files (`checkpoint_files.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mnist_pipeline.checkpoint_files import CheckpointFiles, Log
from mnist_pipeline.ml.config import NETWORKS, ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.storage.shelves import Shelf

if TYPE_CHECKING:
    from mnist_pipeline.ml.training import Epoch, Trained

OnEpoch = Callable[["Epoch"], None]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Lesson:
    """What is to be learned. code: the version of the code that learns."""

    data: DigitData
    config: ModelConfig
    code: str

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.data.origin.class_names)

    def bound(self, circumstances: dict[str, Any]) -> str:
        """What a checkpoint of it is bound to, together with where and how it is computed."""
        from mnist_pipeline.ml.checkpoints import bound_to

        return bound_to(
            data=self.data.digest(), config=self.config.model_dump(), code=self.code, circumstances=circumstances
        )


class Trainer(Protocol):
    """Trains a lesson, or goes on with it."""

    def fitted(self, lesson: Lesson, on_epoch: OnEpoch, on_step: OnStep) -> AbstractContextManager[Trained]:
        """The trained model; its checkpoints are removed when the block ends well. Raises TrainingDiverged."""


@dataclass(frozen=True)
class LocalTrainer:
    """In this process. every_s: seconds at least between two checkpoints, which lie on the shelf."""

    shelf: Shelf
    every_s: float
    log: Log

    @contextmanager
    def fitted(self, lesson: Lesson, on_epoch: OnEpoch, on_step: OnStep) -> Iterator[Trained]:
        from mnist_pipeline.ml.learning import learn

        files = self.files(lesson)
        train, validation = lesson.data["train"], lesson.data["validation"]
        yield learn(train, validation, lesson.classes, lesson.config, on_epoch, on_step, files)
        files.clear()

    def files(self, lesson: Lesson) -> CheckpointFiles:
        """Its checkpoints. Raises ValueError where the device is missing that a network is to be trained on."""
        from mnist_pipeline.ml.training import circumstances

        around = circumstances(lesson.config) if lesson.config.architecture in NETWORKS else {}
        return CheckpointFiles(self.shelf, lesson.bound(around), self.every_s, self.log)
