"""Tests that may be looked at after every answer: evidence that grows while traffic goes on.

An e-process is a non-negative number that, while its hypothesis holds, is expected to stay at 1 whenever one looks. It
exceeds 1/alpha at any time at all with probability alpha at most (Ville 1939), so one may stop when it does. Here: the
e-processes, as the logarithm after each observation. Not here: what is tested and what follows (`contest`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BETS = np.geomspace(0.01, 0.9, 12)  # shares of the largest bet that cannot ruin
STAKES = BETS / BETS.sum()  # laid on each: most on the large ones, for what is clear is to be found soon


def spent(alpha: float, part: int) -> float:
    """What part 1, 2, 3 … of something without end may take of alpha: all of them together take no more than that.

    alpha x 6 / (pi x part)^2, as the reciprocals of the squares sum to pi^2 / 6.
    """
    return alpha * 6 / (math.pi * part) ** 2


@dataclass(frozen=True)
class Test:
    """One question to the traffic. path: log e-value after each observation; alpha: how often it may answer wrongly."""

    __test__ = False  # for pytest, which collects classes of this name

    name: str
    path: np.ndarray
    alpha: float

    @property
    def threshold(self) -> float:
        """The logarithm of the e-value at which the question is answered: 1/alpha."""
        return -math.log(self.alpha)

    @property
    def answered_after(self) -> int | None:
        """How many observations it took; None while it is open."""
        reached = np.flatnonzero(self.path >= self.threshold)
        return int(reached[0]) + 1 if len(reached) else None

    @property
    def answered(self) -> bool:
        """Whether it ever reached the threshold: evidence that has sufficed once is not taken back."""
        return self.answered_after is not None

    @property
    def p(self) -> float:
        """An always-valid p-value."""
        return min(1.0, math.exp(-float(self.path.max()))) if len(self.path) else 1.0


def rate_above(hits: np.ndarray, limit: float) -> np.ndarray:
    """Evidence that True comes more often than `limit`, in a bool [N]. The hypothesis: each comes with at most that
    probability, whatever came before. Likelihood ratios, mixed over all rates above (Robbins 1970)."""
    from scipy.special import betaincc

    return _mixed(hits, limit, betaincc, 1 - limit)


def rate_below(hits: np.ndarray, limit: float) -> np.ndarray:
    """Evidence that True comes less often than `limit`: the same, mixed over all rates below."""
    from scipy.special import betainc

    return _mixed(hits, limit, betainc, limit)


def mean_above(values: np.ndarray, floor: float) -> np.ndarray:
    """Evidence that values from -1 to 1, float [N], are above `floor` on average. The hypothesis: none is expected to
    be above it, given those before. Bets of several sizes, held on to (Waudby-Smith and Ramdas 2024)."""
    gains = (values - floor) / 2  # at least -(1 + floor) / 2
    bets = BETS / ((1 + floor) / 2)
    fortunes = np.cumsum(np.log1p(gains[None, :] * bets[:, None]), axis=1)
    return np.asarray(np.logaddexp.reduce(fortunes + np.log(STAKES)[:, None], axis=0))


def mean_below(values: np.ndarray, ceiling: float) -> np.ndarray:
    """Evidence that they are below `ceiling` on average."""
    return mean_above(-values, -ceiling)


def _mixed(hits: np.ndarray, limit: float, share: np.ufunc, width: float) -> np.ndarray:
    """log of the mean likelihood over the rates on one side, by the beta function, less that of the limit."""
    from scipy.special import betaln

    hit = np.cumsum(hits, dtype=float)
    missed = np.arange(1, len(hits) + 1) - hit
    with np.errstate(divide="ignore"):  # far on the other side the share is 0, and so is the evidence
        mixed = betaln(hit + 1, missed + 1) + np.log(share(hit + 1, missed + 1, limit)) - math.log(width)
    return np.asarray(mixed - hit * math.log(limit) - missed * math.log1p(-limit))
