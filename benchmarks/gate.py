"""How often the gate promotes: of models that are equal, and of models that are better by half a point.

The answers of a pair are simulated: an image is hard for both to a degree (a shared normal variable), and each has a
share of its own. The conditions are those of real pairs: of seven networks on MNIST's test images (`fast`, `accurate`,
and `fast` trained on 4,000 images, 98.2 to 99.65 % right) each two share 0.82 to 0.96 of the variance of difficulty.
What the power hangs on is how many images only one of the two reads right, so that is said with it, and how many there
may be before it falls below 80 %: models that err less alike need more images.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.common import Row
from mnist_pipeline.ml.paired import ALPHA, compare

PAIRS, IMAGES, SEEDS = 200, 10_000, 3
ACCURACIES, SHARED = (0.982, 0.99, 0.993), (0.82, 0.96)  # of production; of the variance of difficulty, what both share
BETTER, MARGIN = 0.005, 0.002
POWER = 0.8


def chances(better_by: float, accuracy: float, shared: float) -> tuple[float, float, float]:
    """That only the candidate reads an image right, that only production does, and that they are alike."""
    from scipy.stats import multivariate_normal, norm

    right = accuracy + better_by, accuracy
    both = multivariate_normal([0, 0], [[1, shared], [shared, 1]]).cdf(norm.ppf(right))
    return right[0] - both, right[1] - both, 1 - right[0] - right[1] + 2 * both


def promoted(better_by: float, accuracy: float, shared: float, seed: int, margin: float = 0.0) -> float:
    """Share of PAIRS that pass."""
    rng, truth = np.random.default_rng([seed, int(accuracy * 1e4), int(shared * 10)]), np.ones(IMAGES, bool)
    drawn = rng.multinomial(IMAGES, chances(better_by, accuracy, shared), PAIRS)
    return float(np.mean([compare(truth, *_answers(*counts), margin).passes for counts in drawn]))


def power(discordant: float) -> float:
    """Of McNemar's exact test, exactly, where this share of the images is read right by one of the two only."""
    from scipy.stats import binom

    counts = np.arange(int(IMAGES * discordant * 2) + 50)
    least = binom.isf(ALPHA, counts, 0.5) + 1  # wins that suffice
    passes = binom.sf(least - 1, counts, (discordant + BETTER) / (2 * discordant))
    return float(binom.pmf(counts, IMAGES, discordant) @ passes)


def most_discordant() -> float:
    """Share of the images, to a tenth of a percent, up to which the power is as was asked for."""
    return max(share for share in np.arange(6, 100) / 1000 if power(share) >= POWER)


def _answers(candidate: int, production: int, alike: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is read right, by both; where they are alike it does not matter how."""
    return tuple(np.repeat([won, lost, True], [candidate, production, alike]) for won, lost in ((1, 0), (0, 1)))  # type: ignore[return-value]


def _shares(better_by: float, margin: float = 0.0, seeds: int = SEEDS) -> list[float]:
    """Of every accuracy and correlation, the mean over seeds."""
    return [
        float(np.mean([promoted(better_by, accuracy, shared, seed, margin) for seed in range(seeds)]))
        for accuracy in ACCURACIES
        for shared in SHARED
    ]


def _conditions() -> str:
    """Under which the power was measured."""
    apart = [sum(chances(BETTER, each, shared)[:2]) for each in ACCURACIES for shared in SHARED]
    right = f"production {min(ACCURACIES):.1%} to {max(ACCURACIES):.1%} right"
    return f"{right}, {min(apart):.1%} to {max(apart):.1%} of {IMAGES:,} images read right by one only"


def run() -> list[Row]:
    """Three rows. The level is the mean over accuracies and correlations, the power the least of them."""
    equal, worse, better = _shares(0.0), _shares(-MARGIN, MARGIN, seeds=1), _shares(BETTER)
    level, with_margin = float(np.mean(equal)), float(np.mean(worse))
    doubt = 2 * math.sqrt(ALPHA * (1 - ALPHA) / (PAIRS * len(worse)))
    said = f"{PAIRS} pairs × {SEEDS} seeds × {len(equal)} kinds, {IMAGES:,} images"
    return [
        Row(f"gate: equal models promoted; {said}", f"{level:.1%}", "–", "–", "≤ 5 %", level <= 0.05),
        Row(
            f"gate: better by 0.5 points, promoted at least; {_conditions()}",
            f"{min(better):.1%} (80 % or more while that is at most {most_discordant():.1%})",
            "–",
            "–",
            "≥ 80 %",
            min(better) >= POWER,
        ),
        Row(
            "gate, margin 0.2 points: worse by as much, promoted",
            f"{with_margin:.1%}",
            "–",
            "–",
            f"5 % is its level, ± {doubt:.1%} by the simulation",
            with_margin <= ALPHA + doubt,
        ),
    ]
