"""Whether a candidate deserves production: the numbers it must reach, and a paired test against what serves now.

Fails closed: a number that is missing or not finite refuses the candidate. Recording the decision is the store's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05


class WrongEvidence(ValueError):
    """The report that was handed in is of another model or of other data."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images: how often only one of them was right, and what chance would make of it.

    p_worse: one-sided p of McNemar's exact test (1947) that the candidate is worse; small means it is.
    """

    candidate_only: int
    production_only: int
    images: int
    p_worse: float

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse beyond noise, at the 5 % level."""
        return self.p_worse < ALPHA

    def sentence(self) -> str:
        """What a manager can read."""
        gap = (self.candidate_only - self.production_only) / self.images
        verdict = "worse than production beyond noise" if self.worse else "not worse than production beyond noise"
        return (
            f"{verdict}: {gap:+.2%} on the same {self.images:,} images "
            f"(only the candidate right on {self.candidate_only}, only production on {self.production_only}, "
            f"p = {self.p_worse:.3f})"
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's answer; reason is one sentence, evidence goes into the ledger."""

    deploy: bool
    reason: str
    evidence: dict[str, Any]


def compare(truth: np.ndarray, candidate: np.ndarray, production: np.ndarray) -> Comparison:
    """Labels given by both models to the same images -> the paired comparison."""
    from scipy.stats import binomtest

    candidate_right, production_right = candidate == truth, production == truth
    better = int((candidate_right & ~production_right).sum())
    worse = int((production_right & ~candidate_right).sum())
    p_worse = binomtest(worse, better + worse, alternative="greater").pvalue if better + worse else 1.0
    return Comparison(better, worse, len(truth), float(p_worse))


def check_evidence(report: Mapping[str, Any], model_digest: str, data_digest: str) -> None:
    """Raise WrongEvidence unless the report is of exactly this model on exactly this data."""
    for what, ours in (("model_digest", model_digest), ("data_digest", data_digest)):
        if report.get(what) != ours:
            raise WrongEvidence(
                f"the evaluation report is of another {what.split('_')[0]} ({str(report.get(what))[:12]}, expected "
                f"{ours[:12]}): materialize model_evaluation for this model first"
            )


def judge(
    metrics: Mapping[str, float],
    minimums: Mapping[str, float],
    comparison: Comparison | None,
    alone: str = "nothing was in production",
) -> Verdict:
    """Every minimum must be exceeded on the test part, and production must not be better.

    alone: why there is nothing to compare with, where comparison is None.
    """
    evidence: dict[str, Any] = {"minimums": dict(minimums), "metrics": dict(metrics)}
    if comparison is not None:
        evidence["comparison"] = {**asdict(comparison), "sentence": comparison.sentence()}
    faults = [fault for name, least in minimums.items() if (fault := _fault(metrics.get(name), name, least))]
    if comparison is not None and comparison.worse:
        faults.append(comparison.sentence())
    if faults:
        return Verdict(False, "not deployed: " + "; ".join(faults), evidence)
    passed = ", ".join(f"{name} {metrics[name]:.4g} above {least:g}" for name, least in minimums.items())
    beside = comparison.sentence() if comparison is not None else alone
    return Verdict(True, f"deployed: {passed or 'no minimum was set'}; {beside}", evidence)


def _fault(value: float | None, name: str, least: float) -> str | None:
    if value is None:
        return f"{name} is not in the report"
    if not math.isfinite(value):
        return f"{name} is {value}"
    return None if value > least else f"{name} {value:.4g} is not above {least:g}"
