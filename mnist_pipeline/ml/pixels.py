"""What an image is like in a few numbers, without knowing what is on it: for comparing many images with many others.

Not here: what the network makes of it, and whether two sets of images differ (`drift.py`).
"""

import numpy as np

from mnist_pipeline.ml.digits import SIDE

PIXELS = ("ink", "contrast", "sharpness", "slant")
"""ink: mean of the pixels, 0 to 255, as in the service's log; contrast: their standard deviation; sharpness: mean
difference of neighbours beside each other; slant: by how many pixels ink leans to the left for each row down."""
ROWS = 64
"""At a time: in the processor's cache, and too few for BLAS to begin threads, which ONNX Runtime's would wait for."""


def pixel_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """float32 [N] for each name in PIXELS, from uint8 [N, 28, 28]; slant is 0 where there is no ink."""
    moments = _moments()
    parts = [_of_some(images[at : at + ROWS], moments) for at in range(0, max(1, len(images)), ROWS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in PIXELS}


def _moments() -> np.ndarray:
    """float32 [784, 5]: what the pixels are multiplied with for 1, y, x, y² and xy, from the middle of the image."""
    y, x = (each.ravel().astype(np.float32) - (SIDE - 1) / 2 for each in np.indices((SIDE, SIDE)))
    return np.stack([np.ones_like(y), y, x, y * y, y * x], 1)


def _of_some(images: np.ndarray, moments: np.ndarray) -> dict[str, np.ndarray]:
    flat = images.reshape(len(images), SIDE * SIDE).astype(np.float32)
    sums = flat @ moments  # of the ink exact, whoever adds up: whole numbers below 2^24
    ink, squares = sums[:, 0] / np.float32(SIDE * SIDE), np.einsum("ij,ij->i", flat, flat) / np.float32(SIDE * SIDE)
    left, right = images[:, :, :-1], images[:, :, 1:]
    beside = np.maximum(left, right) - np.minimum(left, right)
    return {
        "ink": ink,
        "contrast": np.sqrt(np.maximum(squares - ink * ink, 0)),
        "sharpness": beside.sum((1, 2), dtype=np.uint32).astype(np.float32) / np.float32(SIDE * (SIDE - 1)),
        "slant": _slant(sums),
    }


def _slant(sums: np.ndarray) -> np.ndarray:
    """By the second moments of the ink, as images are deskewed."""
    y, x, yy, yx = (sums[:, i] / np.maximum(sums[:, 0], 1) for i in range(1, 5))
    lean = (y * x - yx) / np.maximum(yy - y * y, np.float32(1e-3))
    return np.where(sums[:, 0] > 0, lean, np.float32(0))
