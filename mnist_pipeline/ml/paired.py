"""Two models on the same images: how often only one of them was right, and what chance would make of it.

Here: the tests and their sentence. Not here: what follows from it for production (`gate`), and tests that may be looked
at while traffic goes on (`sequential`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
NUISANCE = 128  # shares of images that the candidate wins at which the p-value with a margin is looked for
PEAKS, NEAR = 5, 32  # around so many of the highest it is looked for again, at so many shares between their neighbours
FAR = 9.0  # standard deviations beyond which a binomial count adds less than 1e-18


@dataclass(frozen=True)
class Comparison:
    """candidate_only, production_only: images that only this one got right, of all `images`.

    p_better, p_worse: one-sided p of McNemar's exact test (1947) that the candidate is better, or worse; small means
    that it is. margin: by how much it may be worse, as a share of the images; p_within: one-sided p that it is worse
    by less than that, the same as p_better where the margin is 0.
    """

    candidate_only: int
    production_only: int
    images: int
    p_better: float
    p_worse: float
    margin: float
    p_within: float

    @property
    def passes(self) -> bool:
        """Whether the candidate may take production's place, at the 5 % level: better, or worse by less than margin."""
        return self.p_within < ALPHA

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse beyond noise, at the 5 % level."""
        return self.p_worse < ALPHA

    @property
    def gap(self) -> float:
        """Accuracy of the candidate less that of production."""
        return (self.candidate_only - self.production_only) / max(1, self.images)

    def sentence(self) -> str:
        """What a manager can read."""
        verdict, p = self._verdict()
        counts = f"only the candidate right on {self.candidate_only}, only production on {self.production_only}"
        return f"{verdict}: {self.gap:+.2%} on the same {self.images:,} images ({counts}, {_shown(p)})"

    def _verdict(self) -> tuple[str, float]:
        if self.p_better < ALPHA:
            return "better than production beyond noise", self.p_better
        if self.passes:
            return f"not worse than production by {self.margin:.2%} or more, and that was enough", self.p_within
        if self.worse:
            return "worse than production beyond noise", self.p_worse
        if self.margin:
            may_be = f"it may still be worse than production by {self.margin:.2%}, so production stays"
            return may_be, self.p_within
        return "no better than production beyond noise, so production stays", self.p_better


def compare(truth: np.ndarray, candidate: np.ndarray, production: np.ndarray, margin: float = 0.0) -> Comparison:
    """Labels given by both models to the same images -> the paired comparison.

    margin: 0 asks for a candidate that is better; 0.002 for one that is worse by less than 0.2 points.
    """
    candidate_right, production_right = candidate == truth, production == truth
    better = int((candidate_right & ~production_right).sum())
    worse = int((production_right & ~candidate_right).sum())
    p_better, p_worse = mcnemar(better, worse), mcnemar(worse, better)
    p_within = p_worse_by(better, worse, len(truth), margin) if margin else p_better
    return Comparison(better, worse, len(truth), p_better, p_worse, margin, p_within)


def mcnemar(wins: int, losses: int) -> float:
    """One-sided p of McNemar's exact test: so many wins or more if either side won the discordant ones by a coin."""
    from scipy.stats import binom

    return float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0


def p_worse_by(better: int, worse: int, images: int, margin: float) -> float:
    """p of the hypothesis that the candidate's accuracy is lower by `margin` or more. Small: it is not.

    The score statistic of Nam (Biometrics 53, 1997) and Liu et al. (Statistics in Medicine 21, 2002), but not with
    its normal approximation, which is too bold in small samples: the exact, unconditional p-value, the largest over
    the share of discordant images that nobody knows (Sidik, Statistics in Medicine 22, 2003). It is looked for at some
    hundreds of shares, which finds it to 0.1 % of itself: 0.05 may be 0.05005.
    """
    import numpy as np

    observed = float(_score(np.array(better), np.array(worse), images, margin))
    most = _losses_allowed(np.arange(images + 1), images, margin, observed)
    shares = np.linspace(0.0, 1.0, NUISANCE) ** 3 * (1 - margin) / 2  # dense where models differ little
    found = np.array([_chance(most, share, margin) for share in shares])
    largest = found.max()
    for peak in np.argsort(found)[-PEAKS:]:
        near = np.linspace(shares[max(0, peak - 1)], shares[min(peak + 1, NUISANCE - 1)], NEAR)
        largest = max(largest, *(_chance(most, share, margin) for share in near))
    return min(1.0, float(largest))


def _chance(most: np.ndarray, share: float, margin: float) -> float:
    """Of all tables with at most so many losses for each number of wins, where the candidate wins this share of the
    images and loses `margin` more."""
    import numpy as np
    from scipy.stats import binom

    images = len(most) - 1
    spread = FAR * math.sqrt(images * share) + FAR**2
    wins = np.arange(max(0, int(images * share - spread)), min(images, int(images * share + spread)) + 1)
    loses = min(1.0, (share + margin) / (1 - share))  # of the images that the candidate does not win
    return float(binom.pmf(wins, images, share) @ binom.cdf(most[wins], images - wins, loses))


def _losses_allowed(wins: np.ndarray, images: int, margin: float, observed: float) -> np.ndarray:
    """For each number of wins the most losses at which the statistic is as large as observed; -1 for none. It falls
    as losses grow, so halving finds it."""
    import numpy as np

    low, high = np.full(len(wins), -1), images - wins
    while (low < high).any():
        middle = (low + high + 1) // 2
        reached = (middle >= 0) & (_score(wins, np.maximum(middle, 0), images, margin) >= observed - 1e-9)
        low, high = np.where(reached, middle, low), np.where(reached, high, middle - 1)
    return low


def _score(wins: np.ndarray, losses: np.ndarray, images: int, margin: float) -> np.ndarray:
    """The difference plus margin in units of its deviation, where the difference were exactly -margin."""
    import numpy as np

    linear = wins * (1 - margin) + losses * (1 + margin) - 2 * images * margin
    root = np.sqrt(linear**2 + 8 * images * wins * margin * (1 - margin))
    share = np.maximum(0.0, linear + root) / (4 * images)  # of wins, by maximum likelihood under that restriction
    deviation = np.sqrt(images * np.maximum(2 * share + margin - margin**2, 1e-300))
    return np.asarray((wins - losses + images * margin) / deviation)


def _shown(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
