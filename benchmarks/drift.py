"""Drift: false alarms on clean nights of the real test set, and whether a night of each named shift is noticed.

Nothing is tuned here: the reference comes from validation images, the thresholds from dealing them out again.
Images are shifted as the network sees them, behind the front door: that one would put inverted ones right.
Run by itself it prints, below the rows, how far the label-free estimate of accuracy was off.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.common import Row, mnist
from mnist_pipeline.ml.artifacts import pack
from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.drift import Comparison, compare
from mnist_pipeline.ml.pixels import pixel_statistics
from mnist_pipeline.ml.predictor import ONNX, Predictor
from mnist_pipeline.ml.reference import Reference, Sample, reference_of
from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.ml.training import train

SEEDS = (0, 1)  # of models, by turns
CLEAN, SHIFTED, IMAGES = 100, 40, 1_000  # nights of each kind; images a night
NAMES = [str(digit) for digit in range(10)]
Shift = Callable[[LabeledImages, np.random.Generator, int], LabeledImages]


@dataclass(frozen=True)
class Watched:
    """A model with what it was like when it was new."""

    predictor: Predictor
    reference: Reference

    @classmethod
    def trained(cls, data: DigitData, seed: int) -> "Watched":
        """By the preset `fast`."""
        network = train(data["train"], data["validation"], 10, configure("fast", seed=seed)).network
        predictor = Predictor(pack(network, data["validation"].images)[ONNX])
        return cls(predictor, reference_of(predictor, data["validation"]))


@dataclass(frozen=True)
class Night:
    """What was found, and how right the model really was."""

    found: Comparison
    accuracy: float

    @property
    def error(self) -> float:
        """Of the estimate of its accuracy."""
        return self.found.accuracy.estimate - self.accuracy if self.found.accuracy else np.nan

    @property
    def within(self) -> bool:
        """Whether the accuracy was where it was said to be."""
        estimate = self.found.accuracy
        return estimate is not None and estimate.low <= self.accuracy <= estimate.high


def unchanged(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """As they are."""
    return _some(images, draw)


def rotated(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """By 25° counter-clockwise."""
    from scipy.ndimage import rotate

    some = _some(images, draw)
    turned = rotate(some.images.astype(np.float32), 25, axes=(2, 1), reshape=False, order=1)
    return LabeledImages(np.clip(np.round(turned), 0, 255).astype(np.uint8), some.labels)


def inverted(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """Dark ink on white."""
    some = _some(images, draw)
    return LabeledImages(255 - some.images, some.labels)


def blurred(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """Gaussian, a standard deviation of one pixel."""
    from scipy.ndimage import gaussian_filter

    some = _some(images, draw)
    return LabeledImages(gaussian_filter(some.images, (0, 1, 1)), some.labels)


def noisy(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """Gaussian, a standard deviation of a tenth of white."""
    some = _some(images, draw)
    added = some.images + draw.normal(0, 25.5, some.images.shape)
    return LabeledImages(np.clip(np.round(added), 0, 255).astype(np.uint8), some.labels)


def one_missing(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """Every class has its turn."""
    return _some(images.take(np.flatnonzero(images.labels != night % 10)), draw)


def from_elsewhere(images: LabeledImages, draw: np.random.Generator, night: int) -> LabeledImages:
    """scikit-learn's digits of 8×8 pixels, at the size of MNIST's."""
    embedded = read_embedded()
    both = [embedded[part] for part in ("train", "test")]
    joined = LabeledImages(np.concatenate([p.images for p in both]), np.concatenate([p.labels for p in both]))
    return _some(joined, draw)


SHIFTS: dict[str, Shift] = {
    "rotation by 25°": rotated,
    "inversion": inverted,
    "blur, 1 pixel": blurred,
    "noise, a tenth of white": noisy,
    "one class missing": one_missing,
    "another data set": from_elsewhere,
}


def nights(models: list[Watched], test: LabeledImages, shift: Shift, count: int) -> Iterator[Night]:
    """So many, each by the next model, with images drawn without replacement within a night."""
    for night in range(count):
        model = models[night % len(models)]
        images = shift(test, np.random.default_rng([7, night]), night)
        answers = model.predictor.predict(images.images)
        seen = Sample(pixel_statistics(images.images), answers.probabilities)
        yield Night(compare(model.reference, seen, NAMES, seed=night), float(np.mean(answers.labels == images.labels)))


def _some(images: LabeledImages, draw: np.random.Generator) -> LabeledImages:
    return images.take(draw.choice(len(images), IMAGES, replace=False))


def run() -> list[Row]:
    """One row for the false alarms, one for each shift."""
    data = mnist()
    models = [Watched.trained(data, seed) for seed in SEEDS]
    clean = list(nights(models, data["test"], unchanged, CLEAN))
    alarms = sum(each.found.verdict != "none" for each in clean)
    what = f"false drift alarms, {IMAGES:,} test images a night"
    rows = [_row(what, f"{alarms} in {CLEAN} nights", "≤ 1 in 100", alarms <= CLEAN / 100, clean)]
    for name, shift in SHIFTS.items():
        shifted = list(nights(models, data["test"], shift, SHIFTED))
        found = sum(each.found.verdict != "none" for each in shifted)
        row = _row(f"drift: {name}", f"noticed in {found} of {SHIFTED}", "≥ 95 %", found >= 0.95 * SHIFTED, shifted)
        rows.append(row)
    return rows


def _row(what: str, ours: str, bar: str, met: bool, those: list[Night]) -> Row:
    """With the accuracy that was estimated without labels beside the real one."""
    real = np.mean([each.accuracy for each in those])
    error = np.sqrt(np.mean([each.error**2 for each in those]))
    within = np.mean([each.within for each in those])
    strong = sum(each.found.verdict == "strong" for each in those)
    more = f"{strong} strong; accuracy {real:.1%}, estimated ± {100 * error:.1f}, in the interval {within:.0%}"
    return Row(what, f"{ours} ({more})", "–", "–", bar, met)
