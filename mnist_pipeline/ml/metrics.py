"""How good a model is on one labelled part: accuracy with its interval, per class, calibration, worst mistakes.

Metrics of your own go into `custom_metrics`; whether the numbers are good enough is decided in `gate`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mnist_pipeline.ml.calibration import calibration_error, reliability, uncalibrated

Metric = Callable[[np.ndarray, np.ndarray], float]
"""(truth: int [N], probabilities: float32 [N, classes]) -> one number; its name is the function's name."""

CONFIDENCE_LEVEL = 0.95
MISTAKES_KEPT = 36


class MetricFailed(RuntimeError):
    """A metric raised or gave something that is not a finite number."""


def evaluate(
    truth: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    metrics: Sequence[Metric] = (),
    temperature: float = 1.0,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything about one part, ready for JSON. Raises MetricFailed naming the metric of yours that did.

    temperature: what the logits were divided by, to tell how well they were calibrated before. more: what else is
    known about the part.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, predicted = truth.astype(np.int64), probabilities.argmax(1)
    before = uncalibrated(probabilities, temperature)
    classes = list(range(len(class_names)))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0)
    columns = (precision, recall, f1, support.astype(int))
    per_class = {
        name: dict(zip(("precision", "recall", "f1", "support"), (c[i].item() for c in columns), strict=True))
        for i, name in enumerate(class_names)
    }
    low, high = wilson_interval(int((predicted == truth).sum()), len(truth))
    worst = min((name for name in class_names if per_class[name]["support"]), key=lambda n: per_class[n]["f1"])
    report = {
        "images": len(truth),
        "accuracy": float((predicted == truth).mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "calibration_error": calibration_error(truth, probabilities),
        "calibration_error_before": calibration_error(truth, before),
        "reliability": {"before": reliability(truth, before), "after": reliability(truth, probabilities)},
        "worst_class": {"name": worst, **per_class[worst]},
        "per_class": per_class,
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
        "mistakes": worst_mistakes(truth, probabilities, class_names),
        **more,
    }
    for metric in metrics:
        if metric.__name__ in report:
            raise MetricFailed(f"there is a number named {metric.__name__} in the report already: rename the metric")
        report[metric.__name__] = _measure(metric, truth, probabilities)
    return report


def scalars(part: dict[str, Any]) -> dict[str, float]:
    """The single numbers of one part, which Dagster can plot over runs and a gate can demand."""
    return {name: value for name, value in part.items() if isinstance(value, int | float)}


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(right, of).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def worst_mistakes(truth: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The wrong answers that were given with the most confidence, the most confident first."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != truth)
    rows = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES_KEPT]
    return [
        {
            "row": int(row),
            "truth": class_names[truth[row]],
            "predicted": class_names[predicted[row]],
            "confidence": float(confidence[row]),
        }
        for row in rows
    ]


def _measure(metric: Metric, truth: np.ndarray, probabilities: np.ndarray) -> float:
    try:
        value = float(metric(truth, probabilities))
    except Exception as error:
        raise MetricFailed(f"metric {metric.__name__} raised {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise MetricFailed(f"metric {metric.__name__} gave {value}; a metric must be a finite number")
    return value
