"""What a tuning problem is, what a score is, and the rule by which one configuration is better than another.

The rule: the best of n configurations was picked by its score, and the best of many lucky ones looks good. So its
advantage over the current configuration, tested on the same images or folds, must have p < 0.05 / n (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mnist_pipeline.ml.tuning.spaces import Space

ALPHA = 0.05


class Abandoned(Exception):
    """A configuration that is not worth going on with: it falls behind the others, or its training diverged."""


@dataclass(frozen=True)
class Scored:
    """score: more is better. loss: decides between equal scores, less is better.

    evidence: what a comparison with another one on the same data needs, as JSON has it.
    """

    score: float
    loss: float
    evidence: Any


@dataclass(frozen=True)
class Advantage:
    """p: how likely chance alone gives that much. sentence: the same for people."""

    p: float
    sentence: str


class Problem(Protocol):
    """One model on one set of data, without its test part."""

    @property
    def space(self) -> Space:
        """What is searched."""

    @property
    def current(self) -> dict[str, Any]:
        """Every setting as it is today, searched or not."""

    @property
    def measure(self) -> str:
        """What the score is."""

    def score(self, settings: Mapping[str, Any], on_step: Callable[[int, float], None]) -> Scored:
        """Train with these settings. on_step: is told a score on the way, and may raise. Raises Abandoned."""

    def advantage(self, best: Scored, current: Scored) -> Advantage:
        """How far the best is before the current configuration."""


@dataclass(frozen=True)
class Verdict:
    """Whether the best configuration is to be kept, and why."""

    better: bool
    reason: str


def judge(problem: Problem, best: Scored, current: Scored, compared: int) -> Verdict:
    """compared: configurations that the best was picked from, without the current one."""
    if best.score <= current.score:
        return Verdict(False, f"none of {compared} others has a higher {problem.measure} than {current.score:.4f}")
    advantage, limit = problem.advantage(best, current), ALPHA / compared
    noise = "better beyond noise" if advantage.p < limit else "better, but within noise"
    reason = (
        f"{noise}: {problem.measure} {best.score:.4f}, now {current.score:.4f}; {advantage.sentence}, "
        f"p = {advantage.p:.2g} (less than {limit:.2g} is needed, being the best of {compared})"
    )
    return Verdict(advantage.p < limit, reason)
