"""Whether a candidate deserves production: the numbers it must reach, and a paired test against what serves now.

Fails closed: a number that is missing or not finite refuses the candidate, and so does a model in production that could
not be asked the same; a difference within noise leaves the champion in place. The paired test is in `paired`; recording
the decision is the store's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mnist_pipeline.ml.paired import Comparison


class WrongEvidence(ValueError):
    """The report that was handed in is of another model or of other data."""


@dataclass(frozen=True)
class Unopposed:
    """Nobody is there to be compared with. why: in words; nothing was in production, or the candidate itself is."""

    why: str


@dataclass(frozen=True)
class Incomparable:
    """A model is in production and could not be asked the same images. why: in words, with what to do."""

    why: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer; reason is one sentence, evidence goes into the ledger."""

    deploy: bool
    reason: str
    evidence: dict[str, Any]


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
    compared: Comparison | Unopposed | Incomparable,
) -> Verdict:
    """Every minimum must be exceeded on the test part, and the candidate must pass the comparison with production.

    Reasons begin with "not deployed:" where the candidate is not good enough or could not be compared, and with "kept:"
    where it is only not shown to be better.
    """
    evidence = {"minimums": dict(minimums), "metrics": dict(metrics), **_told(compared)}
    faults = [fault for name, least in minimums.items() if (fault := _fault(metrics.get(name), name, least))]
    if isinstance(compared, Incomparable):
        faults.append(compared.why)
    if isinstance(compared, Comparison) and not compared.passes:
        if not faults and not compared.worse:
            return Verdict(False, f"kept: {compared.sentence()}", evidence)
        faults.append(compared.sentence())
    if faults:
        return Verdict(False, "not deployed: " + "; ".join(faults), evidence)
    passed = ", ".join(f"{name} {metrics[name]:.4g} above {least:g}" for name, least in minimums.items())
    beside = compared.sentence() if isinstance(compared, Comparison) else compared.why
    return Verdict(True, f"deployed: {passed or 'no minimum was set'}; {beside}", evidence)


def _told(compared: Comparison | Unopposed | Incomparable) -> dict[str, Any]:
    """For the ledger: the comparison, or why there is none."""
    if isinstance(compared, Comparison):
        return {"comparison": {**asdict(compared), "passes": compared.passes, "sentence": compared.sentence()}}
    return {"not_compared": compared.why}


def _fault(value: float | None, name: str, least: float) -> str | None:
    if value is None:
        return f"{name} is not in the report"
    if not math.isfinite(value):
        return f"{name} is {value}"
    return None if value > least else f"{name} {value:.4g} is not above {least:g}"
