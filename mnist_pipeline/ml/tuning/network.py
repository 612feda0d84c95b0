"""Tuning `DigitCNN`: what is searched, and a score by the validation images. The test images are never here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.learning import learn
from mnist_pipeline.ml.paired import compare
from mnist_pipeline.ml.training import Epoch, TrainingDiverged
from mnist_pipeline.ml.tuning.problems import Abandoned, Advantage, Scored
from mnist_pipeline.ml.tuning.spaces import Choices, Floats, Integers, Space

# Not searched: how long and on what is trained (epochs, min_steps, patience, device, precision, seed), which are the
# conditions under which configurations are compared.
SPACE: Space = {
    "width_1": Choices((8, 16, 32, 48)),
    "width_2": Choices((16, 32, 64, 96)),
    "width_3": Choices((32, 64, 128, 192)),
    "dropout": Floats(0.0, 0.5),
    "learning_rate": Floats(1e-3, 3e-2, log=True),
    "weight_decay": Floats(1e-4, 1e-1, log=True),
    "batch_size": Choices((64, 128, 160, 256, 512)),
    "label_smoothing": Floats(0.0, 0.15),
    "shift": Integers(0, 3),
    "rotation": Floats(0.0, 20.0),
    "scale": Floats(0.0, 0.2),
    "shear": Floats(0.0, 0.2),
}


@dataclass(frozen=True)
class NetworkProblem:
    """current: every field of ModelConfig."""

    training: LabeledImages
    validation: LabeledImages
    classes: int
    current: dict[str, Any]
    space: Space = field(default_factory=lambda: SPACE)
    measure: str = "validation accuracy"

    def score(self, settings: Mapping[str, Any], on_step: Callable[[int, float], None]) -> Scored:
        """Accuracy on the validation images; on_step: epoch and its accuracy, but for the last epoch."""

        def on_epoch(epoch: Epoch) -> None:
            if epoch.number < epoch.of:
                on_step(epoch.number, epoch.validation_accuracy)

        try:
            trained = learn(self.training, self.validation, self.classes, ModelConfig(**settings), on_epoch)
        except TrainingDiverged as error:
            raise Abandoned(str(error)) from error
        return self._scored(trained.network)

    def advantage(self, best: Scored, current: Scored) -> Advantage:
        """McNemar's exact test on the validation images, one-sided."""
        best_right, current_right = self._right(best), self._right(current)
        paired = compare(np.ones(len(self.validation), bool), current_right, best_right)
        sentence = (
            f"of {len(self.validation):,} validation images only the best is right on {paired.production_only}, "
            f"only the current one on {paired.candidate_only}"
        )
        return Advantage(paired.p_worse, sentence)

    def _scored(self, network: Any) -> Scored:
        """The loss is the plain cross entropy: the one of training is smoothed, by a knob that is searched."""
        from mnist_pipeline.ml.artifacts import torch_logits

        logits, labels = torch_logits(network, self.validation.images).astype(np.float64), self.validation.labels
        right = logits.argmax(1) == labels
        normal = np.logaddexp.reduce(logits, axis=1)
        loss = float((normal - logits[np.arange(len(labels)), labels]).mean())
        return Scored(float(right.mean()), loss, np.packbits(right).tobytes().hex())

    def _right(self, scored: Scored) -> np.ndarray:
        """bool [N]: on which validation images this one is right."""
        bits = np.frombuffer(bytes.fromhex(scored.evidence), np.uint8)
        return np.unpackbits(bits, count=len(self.validation)).astype(bool)
