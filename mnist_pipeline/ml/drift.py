"""Whether images are still like those that a model was measured on: distances, and how much of them is chance.

Every distance is a share of images, 0 to 1: so many, at least, would have to be others for the two to agree. What
chance alone makes of it is found by dealing the images of both out again at random, so that all statistics together
give a false alarm as seldom as was asked for, whatever they have to do with each other.
Not here: how right the model probably still is (`label_free.py`), pictures, and what is done about it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from mnist_pipeline.ml.label_free import AccuracyEstimate, estimate_accuracy
from mnist_pipeline.ml.reference import Reference, Sample

Verdict = Literal["none", "drift", "strong", "too few", "no reference"]
MOST_COMPARED = 5_000  # images of a night; of a larger one so many are drawn
GRID = 100  # points at which distributions are compared
DEALS = 1_000  # more for a rate of false alarms below 1 in 200
LEAST_P, LEAST_DOUBT = 1e-10, 1e-5  # below, probabilities differ by the machine that computes them
CONFIDENCE, CLASSES = "confidence", "predicted classes"
PSI_BINS = 10


@dataclass(frozen=True)
class Limits:
    """When a distance is drift.

    false_alarms: share of unchanged nights that may be called drifted. tolerance: a distance that does not matter, such
    as between the writers of two sets of digits. strong: a distance that no model should be trusted over. least_images:
    below, there is no verdict.
    """

    false_alarms: float = 0.005
    tolerance: float = 0.02
    strong: float = 0.25
    least_images: int = 30

    @property
    def deals(self) -> int:
        """How often images are dealt out: five times at least beyond the threshold."""
        return max(DEALS, math.ceil(5 / self.false_alarms))


@dataclass(frozen=True)
class Statistic:
    """One thing that is compared. noise: the distance that chance makes of equal images; p_value: scipy's, of this
    statistic alone; psi: population stability index, by custom little below 0.1 and much above 0.25."""

    name: str
    distance: float
    noise: float
    threshold: float
    drifted: bool
    p_value: float
    psi: float

    @property
    def excess(self) -> float:
        """What chance does not explain."""
        return self.distance - self.noise


@dataclass(frozen=True)
class Comparison:
    """What came of it. images: given; compared: of these; blank: without a digit. excess: the largest of a statistic.
    p_value: how often equal images look this different, all statistics and the tolerance considered.
    class_change: of the class whose share changed most, in words."""

    verdict: Verdict
    images: int
    compared: int = 0
    blank: int = 0
    reference_images: int = 0
    reference_accuracy: float | None = None
    excess: float | None = None
    p_value: float | None = None
    class_change: str = ""
    statistics: list[Statistic] = field(default_factory=list)
    accuracy: AccuracyEstimate | None = None

    @property
    def worst(self) -> list[Statistic]:
        """Those that differ most beyond chance first."""
        return sorted(self.statistics, key=lambda each: -each.excess)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare(
    reference: Reference, observed: Sample, class_names: Sequence[str], limits: Limits | None = None, seed: int = 0
) -> Comparison:
    """Of a model's images when it was new with those it met since, under the same classes.

    The largest of all standardised distances is held against the same of images dealt out at random (permutation test;
    max-T of Westfall & Young 1993). seed: of the draws; the same images always give the same answer.
    """
    limits = limits or Limits()
    if len(observed) < limits.least_images or len(reference) < limits.least_images:
        return Comparison("too few", len(observed), len(observed), reference_images=len(reference))
    drawn = observed.at_most(MOST_COMPARED, seed)
    features = _pooled(reference, drawn, class_names)
    tables = _indicators(features, _classes(reference, drawn), len(class_names))
    member = np.arange(len(reference) + len(drawn)) >= len(reference)
    distances = _distances(member[None].astype(np.float32), tables)[0]
    null = _distances(_dealt(member, limits.deals, seed), tables)
    noise, p_value = _by_chance(distances, null, limits)
    statistics = [
        Statistic(name, float(distance), float(by_chance), float(by_chance + limits.tolerance), bool(drifted), *more)
        for name, distance, by_chance, drifted, more in zip(
            [*features, CLASSES],
            distances,
            noise,
            distances > noise + limits.tolerance,
            _for_people(features, reference, drawn, len(class_names)),
            strict=True,
        )
    ]
    excess = max(each.excess for each in statistics)
    verdict: Verdict = "strong" if excess > limits.strong else "drift" if excess > limits.tolerance else "none"
    return Comparison(
        verdict=verdict,
        images=len(observed),
        compared=len(drawn),
        blank=int((~observed.seen).sum()),
        reference_images=len(reference),
        reference_accuracy=reference.accuracy,
        excess=excess,
        p_value=p_value,
        class_change=_class_change(reference, drawn, class_names),
        statistics=statistics,
        accuracy=estimate_accuracy(
            reference.confidence, reference.right, drawn.confidence, trusted=verdict != "strong", seed=seed
        ),
    )


def features_of(sample: Sample, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> float64 [N]: pixel statistics, the logarithm of each class's probability, confidence as -log10(1 - c).

    Rounded, since what is left of a float32 close to 1 depends on the machine. Blank images are below all others.
    """
    seen, shares = sample.seen, sample.probabilities.astype(np.float64)
    found = {name: np.round(values.astype(np.float64), 3) for name, values in sample.pixels.items()}
    for name, column in zip(class_names, shares.T, strict=True):
        found[f"probability of {name}"] = np.round(np.log10(np.maximum(column, LEAST_P)), 2)
    found[CONFIDENCE] = np.round(-np.log10(np.maximum(1 - shares.max(1), LEAST_DOUBT)), 2)
    return {name: np.where(seen, values, -np.inf) for name, values in found.items()}


def _pooled(reference: Sample, observed: Sample, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """The features that both have, the reference's images first."""
    old, new = features_of(reference, class_names), features_of(observed, class_names)
    return {name: np.concatenate([old[name], new[name]]) for name in old if name in new}


def _classes(reference: Sample, observed: Sample) -> np.ndarray:
    """int64 [N], what was predicted for both; -1 where there is no digit."""
    both = np.concatenate([reference.probabilities, observed.probabilities])
    return np.where(np.isfinite(both).all(1), np.nan_to_num(both).argmax(1), -1)


@dataclass(frozen=True)
class _Tables:
    """below: float32 [N, points], whether an image is at most at a point of the grid of a feature; begins: where the
    points of each feature begin; classes: float32 [N, classes], one-hot."""

    below: np.ndarray
    begins: list[int]
    classes: np.ndarray


def _indicators(features: Mapping[str, np.ndarray], classes: np.ndarray, count: int) -> _Tables:
    """The grid is that of both together, so that it does not tell which image came from where."""
    at = (np.arange(GRID) + 0.5) / GRID
    grids = [np.unique(np.quantile(values, at, method="inverted_cdf")) for values in features.values()]
    columns = [values[:, None] <= grid for values, grid in zip(features.values(), grids, strict=True)]
    begins = np.cumsum([0, *(len(grid) for grid in grids)])[:-1].tolist()
    hot = classes[:, None] == np.arange(count)
    return _Tables(np.concatenate(columns, 1).astype(np.float32), begins, hot.astype(np.float32))


def _dealt(member: np.ndarray, times: int, seed: int) -> np.ndarray:
    """float32 [times, N]: who belongs to the observed, at random and always as many."""
    tiled = np.tile(member.astype(np.float32), (times, 1))
    return np.random.default_rng(seed).permuted(tiled, axis=1)


def _distances(member: np.ndarray, tables: _Tables) -> np.ndarray:
    """float64 [deals, statistics] of member [deals, N]: counted by two matrix products for all deals at once.

    Kolmogorov's distance for each feature. For the classes half of Cohen's w, the root of chi-square over what would be
    images on both sides: of ten classes as frequent, the same number as the share of images that changed class.
    """
    new, size = member[0].sum(), member.shape[1]
    old = size - new
    inside, total = member @ tables.below, tables.below.sum(0)
    gaps = np.abs(inside / new - (total - inside) / old)
    features = np.maximum.reduceat(gaps, tables.begins, axis=1)
    counts = member @ tables.classes
    return np.column_stack([features, _half_w(counts, tables.classes.sum(0) - counts)])


def _half_w(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """float64 [deals] from the counts of classes [deals, classes] on both sides."""
    ours, theirs = new.sum(1, keepdims=True), old.sum(1, keepdims=True)
    pool = (new + old) / np.maximum(ours + theirs, 1)
    gap = new / np.maximum(ours, 1) - old / np.maximum(theirs, 1)
    return np.sqrt((gap**2 / np.maximum(pool, 1e-12)).sum(1)) / 2


def _by_chance(distances: np.ndarray, null: np.ndarray, limits: Limits) -> tuple[np.ndarray, float]:
    """The distance that chance makes of each statistic, and of one of them in `false_alarms` of the cases; p-value."""
    mean, spread = null.mean(0), np.maximum(null.std(0), 1e-9)
    largest = np.sort(((null - mean) / spread).max(1))[::-1]
    beyond = int(limits.false_alarms * (len(null) + 1))
    ours = ((distances - limits.tolerance - mean) / spread).max()
    return mean + largest[beyond - 1] * spread, float((1 + (largest >= ours).sum()) / (1 + len(null)))


def _for_people(
    features: Mapping[str, np.ndarray], reference: Sample, observed: Sample, classes: int
) -> list[tuple[float, float]]:
    """(p-value, PSI) of each statistic alone: Kolmogorov-Smirnov, and chi-square for the classes."""
    from scipy.stats import chi2_contingency, ks_2samp

    found = []
    for values in features.values():
        old, new = values[: len(reference)], values[len(reference) :]
        edges = np.unique(np.quantile(old, np.arange(1, PSI_BINS) / PSI_BINS, method="inverted_cdf"))
        bins = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in (old, new)]
        found.append((float(ks_2samp(old, new, method="asymp").pvalue), psi(*bins)))
    counts = np.array([np.bincount(each.predicted, minlength=classes) for each in (reference, observed)])
    kept = counts[:, counts.sum(0) > 0]
    alone = kept.shape[1] < 2 or not kept.sum(1).all()
    return [*found, (1.0 if alone else float(chi2_contingency(kept).pvalue), psi(*counts))]


def _class_change(reference: Sample, observed: Sample, class_names: Sequence[str]) -> str:
    count = len(class_names)
    old, new = (
        np.bincount(each.predicted, minlength=count) / max(1, each.seen.sum()) for each in (reference, observed)
    )
    most = int(np.abs(new - old).argmax())
    return f"{class_names[most]}: {new[most]:.1%} instead of {old[most]:.1%}"


def psi(reference: np.ndarray, observed: np.ndarray) -> float:
    """Population stability index of the counts of two histograms; half an image is added to each bar."""
    old, new = ((counts + 0.5) / (counts + 0.5).sum() for counts in (reference, observed))
    return float(((new - old) * np.log(new / old)).sum())
