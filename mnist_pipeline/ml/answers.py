"""What is said of one image, by the asset, the command line and the service alike."""

from collections.abc import Sequence
from typing import Any


def answer_of(probabilities: Sequence[float] | None, names: Sequence[str]) -> dict[str, Any]:
    """Label, its probability, and the probability of each class; all None where there is no digit on the image."""
    if probabilities is None:
        return {"label": None, "confidence": None, "probabilities": None}
    best = max(probabilities)
    shares = dict(zip(names, probabilities, strict=True))
    return {"label": names[probabilities.index(best)], "confidence": best, "probabilities": shares}


def with_set(answer: dict[str, Any], possible: list[str] | None, *, abstain: bool = False) -> dict[str, Any]:
    """The same with the classes that it may be; None where there is no digit, or where the version has no sets.

    abstain: no label, and why, where there are several.
    """
    if abstain and possible and len(possible) > 1:
        answer = {**answer, "label": None, "reason": f"{alternatives(possible)}: not sure enough to say which"}
    return {**answer, "set": possible}


def alternatives(names: Sequence[str]) -> str:
    """ "4 or 9", "1, 4 or 9"."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
