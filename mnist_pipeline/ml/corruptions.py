"""Images made worse on purpose, each way at four severities, and how many a model still gets right: a corruption card.

After ImageNet-C (Hendrycks and Dietterich, Benchmarking Neural Network Robustness, 2019) and MNIST-C (Mu and Gilmer
2019). Severities are such that a good network loses little at the first and much at the last. Augmentation for
training is elsewhere (`augmentation`), and whether a model is good enough is decided in `gate`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SEVERITIES = range(5)
MOST_IMAGES = 300  # 29 times through the network; a share of 80 % is known to ±2.3 points (standard error)
SEED = 0

Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(float32 [N, 28, 28] of 0..255, amount, chance) -> the same shape; below 0 and above 255 is cut off afterwards."""


@dataclass(frozen=True)
class Corruption:
    """amounts: what severities 1 to 4 mean, in that unit; 0 leaves an image as it is."""

    corrupt: Corrupt
    unit: str
    amounts: tuple[float, float, float, float]


def rotated(images: np.ndarray, degrees: float, chance: np.random.Generator) -> np.ndarray:
    """Half of them clockwise, half counter-clockwise, by chance."""
    from scipy.ndimage import rotate

    turned, left = images.copy(), chance.random(len(images)) < 0.5
    for side, angle in ((left, degrees), (~left, -degrees)):
        if side.any():
            turned[side] = rotate(images[side], angle, axes=(2, 1), reshape=False, order=1)
    return turned


def blurred(images: np.ndarray, sigma: float, chance: np.random.Generator) -> np.ndarray:
    """By a Gaussian of that standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, sigma, sigma), mode="nearest")


def noisy(images: np.ndarray, sigma: float, chance: np.random.Generator) -> np.ndarray:
    """Gaussian noise of that standard deviation, as a share of white, on each pixel."""
    return images + chance.standard_normal(images.shape, np.float32) * np.float32(255 * sigma)


def washed_out(images: np.ndarray, lost: float, chance: np.random.Generator) -> np.ndarray:
    """That share of the contrast is gone: all pixels are as much nearer to the mean of their image."""
    mean = images.mean((1, 2), keepdims=True)
    return mean + (images - mean) * np.float32(1 - lost)


def inverted(images: np.ndarray, share: float, chance: np.random.Generator) -> np.ndarray:
    """Mixed with its negative by that share: 0.5 is plain grey, 1 dark ink on white."""
    return images + (255 - 2 * images) * np.float32(share)


def thickened(images: np.ndarray, pixels: float, chance: np.random.Generator) -> np.ndarray:
    """Strokes are that many pixels wider."""
    from scipy.ndimage import grey_dilation

    return grey_dilation(images, (1, int(pixels) + 1, int(pixels) + 1))


def occluded(images: np.ndarray, side: float, chance: np.random.Generator) -> np.ndarray:
    """A square of that many pixels a side, anywhere within the middle 20 × 20 where the ink is, has become black."""
    height, at = images.shape[1], int(side)
    margin = 4
    top, left = chance.integers(margin, max(margin, height - margin - at) + 1, (2, len(images), 1, 1))
    rows, columns = np.ogrid[:height, :height]
    hidden = (rows >= top) & (rows < top + at) & (columns >= left) & (columns < left + at)
    return np.where(hidden, 0, images)


CORRUPTIONS: Mapping[str, Corruption] = {
    "rotation": Corruption(rotated, "°", (15, 25, 35, 45)),
    "blur": Corruption(blurred, "px", (0.4, 0.6, 0.8, 1.0)),
    "noise": Corruption(noisy, "of white", (0.1, 0.2, 0.3, 0.4)),
    "contrast": Corruption(washed_out, "lost", (0.1, 0.2, 0.3, 0.4)),
    "inversion": Corruption(inverted, "of the negative", (0.03, 0.06, 0.09, 0.12)),
    "thickness": Corruption(thickened, "px wider", (1, 2, 3, 4)),
    "occlusion": Corruption(occluded, "px a side", (4, 6, 8, 10)),
}


def corrupted(images: np.ndarray, name: str, severity: int, seed: int = SEED) -> np.ndarray:
    """uint8 [N, 28, 28] -> the same, worse. The same seed gives the same; severity 0 gives the images as they are.

    Raises KeyError for an unknown name, ValueError for another severity than 0 to 4.
    """
    corruption = CORRUPTIONS[name]
    if severity not in SEVERITIES:
        raise ValueError(f"a severity is 0 to {SEVERITIES[-1]}, not {severity}")
    if severity == 0:
        return images
    chance = np.random.default_rng([seed, severity, *name.encode()])
    worse = corruption.corrupt(images.astype(np.float32), corruption.amounts[severity - 1], chance)
    return np.rint(worse).clip(0, 255).astype(np.uint8)


def slices(images: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
    """Every corruption at severities 1 to 4: name, severity, images."""
    for name in CORRUPTIONS:
        for severity in SEVERITIES[1:]:
            yield name, severity, corrupted(images, name, severity)


def sample(count: int, most: int = MOST_IMAGES) -> np.ndarray:
    """Rows of at most that many images, drawn without replacement; the same for the same count."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:most])


def card(images: np.ndarray, labels: np.ndarray, answer: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """The share of right answers by corruption and severity, and the worst slice of all, on a sample of the images.

    answer: uint8 [N, 28, 28] -> labels int [N].
    """
    rows = sample(len(images))
    chosen, truth = np.ascontiguousarray(images[rows]), labels[rows]

    def accuracy(seen: np.ndarray) -> float:
        return float((answer(seen) == truth).mean())

    plain = accuracy(chosen)
    table: dict[str, list[float]] = {name: [plain] for name in CORRUPTIONS}
    for name, _, worse in slices(chosen):
        table[name].append(accuracy(worse))
    lowest, name, severity = min((share, name, i) for name, shares in table.items() for i, share in enumerate(shares))
    worst = {"name": name, "severity": severity, "accuracy": lowest}
    return {"images": len(rows), "accuracy": table, "worst_slice": worst}
