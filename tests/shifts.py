"""Nights of 1,000 images that drift is to notice, and one of unchanged images that it is not to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from digit_files import strokes
from scipy.ndimage import gaussian_filter, rotate

from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.sources import read_embedded

IMAGES = 1_000
MISSING = 3  # a class


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _noisy(images: np.ndarray) -> np.ndarray:
    return _pixels(images + np.random.default_rng(1).normal(0, 25.5, images.shape))


def _turned(images: np.ndarray) -> np.ndarray:
    return _pixels(rotate(images.astype(np.float32), 25, axes=(2, 1), reshape=False, order=1))


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotation by 25 degrees": _turned,
    "inversion": lambda images: 255 - images,
    "blur of a pixel": lambda images: gaussian_filter(images, (0, 1, 1)),
    "noise, a tenth of white": _noisy,
    "one class missing": lambda images: images,
    "bars": lambda images: strokes(len(images)),
    "scikit-learn's digits": lambda images: read_embedded()["train"].images[: len(images)],
}


def drawn(data: LabeledImages, without: int | None = None) -> np.ndarray:
    """uint8 [1000, 28, 28]; of fewer images some are taken more than once."""
    images = data.images if without is None else data.images[data.labels != without]
    return images[np.random.default_rng(0).choice(len(images), IMAGES, replace=len(images) < IMAGES)]


def shifted(data: LabeledImages, shift: str) -> np.ndarray:
    """A night of this shift."""
    return SHIFTS[shift](drawn(data, MISSING if shift == "one class missing" else None))
