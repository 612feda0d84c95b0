"""What an image is like in a few numbers, without knowing what is on it: for comparing many images with many others.

Not here: what the network makes of it, and whether two sets of images differ (`drift.py`).
"""

from functools import cache

import numpy as np

from mnist_pipeline.ml.digits import SIDE

PIXELS = ("ink", "contrast", "sharpness", "slant")
"""ink: mean of the pixels, 0 to 255, as in the service's log; contrast: their standard deviation; sharpness: mean
difference of neighbours beside each other; slant: by how many pixels ink leans to the left for each row down."""
ROWS = 64
"""At a time: in the processor's cache, and too few for BLAS to begin threads, which ONNX Runtime's would wait for."""


def pixel_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """float32 [N] for each name in PIXELS, from uint8 [N, 28, 28] or [N, 784]; slant is 0 where there is no ink."""
    flat, moments, beside = images.reshape(len(images), SIDE * SIDE), _moments(), _beside()
    parts = [_sums(flat[at : at + ROWS], moments, beside) for at in range(0, max(1, len(images)), ROWS)]
    ink, squares, steps = (np.concatenate(each) for each in zip(*parts, strict=True))
    mean = ink[:, 0] / np.float32(SIDE * SIDE)
    return {
        "ink": mean,
        "contrast": np.sqrt(np.maximum(squares / np.float32(SIDE * SIDE) - mean * mean, 0)),
        "sharpness": steps / beside.sum(),
        "slant": _slant(ink),
    }


@cache  # the service's log asks for a few images at a time
def _moments() -> np.ndarray:
    """float32 [784, 5]: what the pixels are multiplied with for 1, y, x, y² and xy, from the middle of the image."""
    y, x = (each.ravel().astype(np.float32) - (SIDE - 1) / 2 for each in np.indices((SIDE, SIDE)))
    return np.stack([np.ones_like(y), y, x, y * y, y * x], 1)


@cache
def _beside() -> np.ndarray:
    """float32 [783]: 1 for a pixel whose next one is beside it, 0 for the last of a line."""
    found = np.ones((SIDE, SIDE), np.float32)
    found[:, -1] = 0
    return found.ravel()[:-1]


def _sums(flat: np.ndarray, moments: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the ink's moments, of its squares, and of the steps from pixel to pixel. Exact, whoever adds up, but for the
    higher moments: whole numbers below 2^24."""
    values, left, right = flat.astype(np.float32), flat[:, :-1], flat[:, 1:]
    steps = np.maximum(left, right) - np.minimum(left, right)
    return values @ moments, np.einsum("ij,ij->i", values, values), steps.astype(np.float32) @ beside


def _slant(sums: np.ndarray) -> np.ndarray:
    """By the second moments of the ink, as images are deskewed."""
    y, x, yy, yx = (sums[:, i] / np.maximum(sums[:, 0], 1) for i in range(1, 5))
    lean = (y * x - yx) / np.maximum(yy - y * y, np.float32(1e-3))
    return np.where(sums[:, 0] > 0, lean, np.float32(0))
