"""How right a model probably is on images that nobody has labelled, with the error of the estimate.

Not here: measured accuracy (`metrics.py`).
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 200
WITHIN = 1.96  # standard errors: 95 % of the cases


@dataclass(frozen=True)
class AccuracyEstimate:
    """estimate: between low and high in 95 % of the cases, as long as it is trusted. mean_confidence: the second
    opinion, which is right where the probabilities are calibrated."""

    estimate: float
    low: float
    high: float
    mean_confidence: float
    trusted: bool


def estimate_accuracy(
    confidence: np.ndarray, right: np.ndarray, observed: np.ndarray, *, trusted: bool = True, seed: int = 0
) -> AccuracyEstimate | None:
    """By average thresholded confidence: the share of images above the confidence that the model was wrong below.

    confidence: float32 [N], right: bool [N], of labelled images; observed: float32 [M] of others. The threshold is the
    one that as many labelled images lie below as were wrong (Garg et al. 2022). trusted: False under strong drift,
    where a network is confident of anything. None where nothing was observed or nothing was labelled.
    The error holds that of the labelled images and of the observed, by bootstrap (Efron 1979), and that the number of
    wrong answers varies by itself.
    """
    if not len(observed) or not len(confidence):
        return None
    draw = np.random.default_rng(seed)
    estimate = _thresholded(confidence, right, observed)
    again = [
        _thresholded(confidence[rows], right[rows], draw.choice(observed, len(observed)))
        for rows in draw.integers(0, len(confidence), (DRAWS, len(confidence)))
    ]
    likely = (estimate * len(observed) + 1) / (len(observed) + 2)  # not 1, where a single image may still be wrong
    error = WITHIN * float(np.sqrt(np.var(again) + likely * (1 - likely) / len(observed)))
    low, high = max(0.0, estimate - error), min(1.0, estimate + error)
    return AccuracyEstimate(estimate, low, high, float(observed.mean()), trusted)


def _thresholded(confidence: np.ndarray, right: np.ndarray, observed: np.ndarray) -> float:
    wrong = int((~right).sum())
    if wrong == 0:
        return float((observed >= confidence.min()).mean())
    if wrong == len(right):
        return 0.0
    threshold = np.partition(confidence, wrong)[wrong]
    return float((observed >= threshold).mean())
