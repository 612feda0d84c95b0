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
