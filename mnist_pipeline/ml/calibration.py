"""Whether a confidence of 90 % is right 90 times in 100: measuring it, and the one number that mends it.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017) divides all logits by one temperature,
so no answer changes, only how sure it is. Sets of classes instead of one are in `conformal`.
"""

from typing import Any

import numpy as np

CALIBRATION_BINS = 15
COLDEST, HOTTEST = 0.1, 20.0  # at either end the images teach nothing; below, rounding errors would be blown up


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood on images that were not trained on, four digits of it.

    logits: [N, classes]; labels: int [N]. One right and one wrong image are imagined beside the N (the rule of
    succession, as Platt 1999): else the likelihood of a model that makes no mistake on them is the higher the colder,
    and it would claim to be certain of everything. The same logits give the same temperature. Raises ValueError where
    there are no images, or logits that are not finite.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) == 0 or not np.isfinite(logits).all():
        fault = "there are no images" if len(labels) == 0 else "some of their logits are not finite"
        raise ValueError(f"a temperature cannot be fitted on the validation images: {fault}")
    exact, doubt = logits.astype(np.float64), 1 / (len(labels) + 2)
    wanted = np.full(exact.shape, doubt / exact.shape[1])
    wanted[np.arange(len(labels)), labels] += 1 - doubt

    def loss(log_temperature: float) -> float:
        return float(-(wanted * _log_softmax(exact / np.exp(log_temperature))).sum(1).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """What the same network gave before its logits were divided by the temperature. float [N, classes], both."""
    with np.errstate(divide="ignore"):  # a probability of 0 was one too small for its type, and stays 0
        powers = np.log(probabilities.astype(np.float64)) * temperature
    return np.exp(_log_softmax(powers))


def calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017); 0 is perfect, 1 the worst."""
    bins, confidence, right = _binned(truth, probabilities)
    gaps = np.bincount(bins, right - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Each of the 15 bins that has images: how many, their mean confidence, and the share that is right."""
    bins, confidence, right = _binned(truth, probabilities)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    sums = (np.bincount(bins, each, CALIBRATION_BINS) for each in (confidence, right))
    rows = zip(counts.tolist(), *(each.tolist() for each in sums), strict=True)
    return [
        {"bin": i, "images": count, "confidence": sure / count, "accuracy": hits / count}
        for i, (count, sure, hits) in enumerate(rows)
        if count
    ]


def _binned(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bin, the confidence and whether it is right, of each image."""
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    return np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1), confidence, right


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
