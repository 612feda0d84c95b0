"""What an image is like in a few numbers, without knowing what is on it: for comparing many images with many others.

Not here: what the network makes of it, and whether two sets of images differ (`drift.py`).
"""

import numpy as np

from mnist_pipeline.ml.digits import SIDE

PIXELS = ("ink", "contrast", "sharpness", "slant")
"""ink: mean of the pixels, 0 to 255, as in the service's log; contrast: their standard deviation; sharpness: mean
difference of neighbours beside each other; slant: by how many pixels ink leans to the left for each row down."""
ROWS = 5_000  # at a time, so that a large shard costs 16 MB for each array of floats


def pixel_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """float32 [N] for each name in PIXELS, from uint8 [N, 28, 28]; slant is 0 where there is no ink."""
    parts = [_of_some(images[at : at + ROWS]) for at in range(0, max(1, len(images)), ROWS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in PIXELS}


def _of_some(images: np.ndarray) -> dict[str, np.ndarray]:
    flat = images.reshape(len(images), SIDE * SIDE).astype(np.float32)
    beside = np.diff(images.astype(np.int16), axis=2)
    return {
        "ink": flat.mean(1),  # exact, whoever adds up: sums of bytes are whole numbers below 2^24
        "contrast": flat.std(1),
        "sharpness": np.abs(beside).mean((1, 2), dtype=np.float32),
        "slant": _slant(flat),
    }


def _slant(flat: np.ndarray) -> np.ndarray:
    """By the second moments of the ink, as images are deskewed."""
    down, right = (each.ravel().astype(np.float32) - (SIDE - 1) / 2 for each in np.indices((SIDE, SIDE)))
    moments = flat @ np.stack([np.ones_like(down), down, right, down * down, down * right], 1)
    ink = np.maximum(moments[:, 0], 1.0)
    y, x, yy, xy = (moments[:, i] / ink for i in range(1, 5))
    spread = np.maximum(yy - y * y, 1e-3)
    return np.where(moments[:, 0] > 0, (y * x - xy) / spread, 0.0).astype(np.float32)
