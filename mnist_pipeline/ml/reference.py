"""What a model was like when it was new: pixel statistics, probabilities and labels of validation images.

Kept with the version as a file of its own, so that what it meets later is compared with this and nothing else.
Not here: the comparison (`drift.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.pixels import PIXELS, pixel_statistics

if TYPE_CHECKING:
    from mnist_pipeline.ml.digits import LabeledImages
    from mnist_pipeline.ml.predictor import Predictor

REFERENCE = "reference.safetensors"
MOST_IMAGES = 5_000  # a fifth of a megabyte; more would tell distances below a hundredth apart, which nobody asks


@dataclass(frozen=True)
class Sample:
    """Images as drift sees them.

    pixels: statistic -> float32 [N]. probabilities: float32 [N, classes]. Both are NaN where an image shows no digit.
    """

    pixels: Mapping[str, np.ndarray]
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def seen(self) -> np.ndarray:
        """bool [N], which images show a digit."""
        return np.isfinite(self.probabilities).all(1)

    @property
    def confidence(self) -> np.ndarray:
        """float32 [M], of the images that show a digit."""
        return self.probabilities[self.seen].max(1)

    @property
    def predicted(self) -> np.ndarray:
        """int64 [M], the classes of the images that show a digit."""
        return self.probabilities[self.seen].argmax(1)

    def at_most(self, most: int, seed: int) -> Sample:
        """This, or as many images of it at random, always the same ones for a seed, in their order."""
        if len(self) <= most:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False))
        return Sample({name: values[rows] for name, values in self.pixels.items()}, self.probabilities[rows])


@dataclass(frozen=True)
class Reference(Sample):
    """With what was right: labels uint8 [N]."""

    labels: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """bool [N], which images the model had right."""
        return self.probabilities.argmax(1) == self.labels

    @property
    def accuracy(self) -> float:
        """Share of them."""
        return float(self.right.mean())


def reference_of(predictor: Predictor, validation: LabeledImages, most: int = MOST_IMAGES) -> Reference:
    """Of at most so many validation images, drawn with a fixed seed.

    predictor: over the graph that is stored, so that reference and traffic come from the same arithmetic. Its answers
    are the network's own features, in which shifts show best (Lipton et al. 2018; Rabanser et al. 2019).
    """
    if len(validation) > most:
        rows = np.sort(np.random.default_rng(0).choice(len(validation), most, replace=False))
        validation = validation.take(rows)
    found = predictor.predict(validation.images)
    return Reference(pixel_statistics(validation.images), found.probabilities, validation.labels)


def pack_reference(reference: Reference) -> bytes:
    """As the file of a version."""
    from safetensors.numpy import save

    pixels = {f"pixels.{name}": np.ascontiguousarray(values) for name, values in reference.pixels.items()}
    return save({**pixels, "probabilities": reference.probabilities, "labels": reference.labels})


def read_reference(data: bytes) -> Reference:
    """From that file; statistics that are not known any more are left out."""
    from safetensors.numpy import load

    arrays = load(data)
    pixels = {name: arrays[f"pixels.{name}"] for name in PIXELS if f"pixels.{name}" in arrays}
    return Reference(pixels, arrays["probabilities"], arrays["labels"])
