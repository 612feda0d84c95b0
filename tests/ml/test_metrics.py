"""Numbers that are worked out by hand or by somebody else, and metrics of one's own that fail by name."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sklearn_metrics

from mnist_pipeline.ml.calibration import calibration_error
from mnist_pipeline.ml.custom_metrics import METRICS, top_2_accuracy
from mnist_pipeline.ml.metrics import (
    Metric,
    MetricFailed,
    evaluate,
    scalars,
    wilson_interval,
    worst_mistakes,
)
from mnist_pipeline.ml.predictor import softmax

NAMES = ("moon", "star", "sun")
TRUTH = np.array([0, 0, 1, 1, 2, 2], np.uint8)
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.1, 0.9, 0.0],  # a moon taken for a star
        [0.2, 0.7, 0.1],
        [0.0, 1.0, 0.0],
        [0.0, 0.4, 0.6],
        [0.5, 0.2, 0.3],  # a sun taken for a moon
    ],
    np.float32,
)

ANSWERS = st.integers(2, 6).flatmap(
    lambda classes: st.integers(1, 40).flatmap(
        lambda count: st.tuples(
            arrays.arrays(np.uint8, count, elements=st.integers(0, classes - 1)),
            arrays.arrays(np.float32, (count, classes), elements=st.floats(-16, 16, width=32)).map(softmax),
        )
    )
)


# --- by hand ---


def test_a_small_report_is_as_worked_out_by_hand() -> None:
    report = evaluate(TRUTH, PROBABILITIES, NAMES)
    assert (report["images"], report["accuracy"]) == (6, pytest.approx(4 / 6))
    assert report["per_class"] == {
        "moon": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2},
        "star": {"precision": pytest.approx(2 / 3), "recall": 1, "f1": pytest.approx(4 / 5), "support": 2},
        "sun": {"precision": 1, "recall": 1 / 2, "f1": pytest.approx(2 / 3), "support": 2},
    }
    assert report["macro_precision"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert report["macro_recall"] == pytest.approx(2 / 3)
    assert report["macro_f1"] == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert report["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert report["worst_class"] == {"name": "moon", **report["per_class"]["moon"]}
    assert report["mistakes"] == [
        {"row": 1, "truth": "moon", "predicted": "star", "confidence": pytest.approx(0.9)},
        {"row": 5, "truth": "sun", "predicted": "moon", "confidence": pytest.approx(0.5)},
    ]


@given(ANSWERS)
def test_any_report_agrees_with_scikit_learn_and_fits_into_json(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answers
    predicted, classes = probabilities.argmax(1), list(range(probabilities.shape[1]))
    report = evaluate(truth, probabilities, [f"class {i}" for i in classes])
    f1 = sklearn_metrics.f1_score(truth, predicted, labels=classes, average="macro", zero_division=0)
    assert report["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert report["macro_f1"] == pytest.approx(f1)
    assert np.sum(report["confusion"]) == len(truth)
    assert sum(each["support"] for each in report["per_class"].values()) == len(truth)
    assert len(report["mistakes"]) == min(36, (predicted != truth).sum())
    assert report["accuracy_low"] <= report["accuracy"] <= report["accuracy_high"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_class_without_images_is_not_the_worst() -> None:
    report = evaluate(TRUTH[:4], PROBABILITIES[:4], NAMES)
    assert report["per_class"]["sun"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert report["worst_class"]["name"] == "moon"


def test_only_the_most_confident_mistakes_are_kept_the_most_confident_first() -> None:
    confidence = np.linspace(0.55, 0.95, 50)
    probabilities = np.stack([1 - confidence, confidence], 1)
    kept = worst_mistakes(np.zeros(50, int), probabilities, ("no", "yes"))
    assert [each["row"] for each in kept] == list(range(49, 13, -1))
    assert {(each["truth"], each["predicted"]) for each in kept} == {("no", "yes")}


def test_single_numbers_are_told_from_tables() -> None:
    report = evaluate(TRUTH, PROBABILITIES, NAMES, [top_2_accuracy])
    assert set(scalars(report)) == {
        *("images", "accuracy", "accuracy_low", "accuracy_high", "macro_precision", "macro_recall", "macro_f1"),
        *("calibration_error", "calibration_error_before", "top_2_accuracy"),
    }


# --- interval ---


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(9, 10, 0.5958, 0.9821), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (9_900, 10_000, 0.9879, 0.9918)],
)
def test_the_interval_is_wilsons(right: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(right, of) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 100_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_holds_the_share_and_is_within_0_and_1(counts: tuple[int, int]) -> None:
    right, of = counts
    low, high = wilson_interval(right, of)
    rounding = 1e-9
    assert 0 <= low <= right / of + rounding
    assert right / of - rounding <= high <= 1 + rounding
    z = 1.959964
    half = z / (1 + z**2 / of) * math.sqrt(right / of * (1 - right / of) / of + z**2 / (4 * of**2))
    assert (high - low) / 2 == pytest.approx(half, abs=1e-6)


# --- calibration ---


def sure(right: int, wrong: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """So many right and wrong answers of the same confidence, of two classes."""
    truth = np.repeat([1, 0], [right, wrong])
    return truth, np.tile(np.array([1 - confidence, confidence]), (right + wrong, 1))


@pytest.mark.parametrize(
    ("right", "wrong", "confidence", "error"),
    [(10, 0, 1.0, 0.0), (0, 10, 1.0, 1.0), (8, 2, 0.8, 0.0), (5, 5, 0.9, 0.4), (9, 1, 0.6, 0.3)],
)
def test_calibration_error_is_the_gap_of_confidence_and_accuracy(
    right: int, wrong: int, confidence: float, error: float
) -> None:
    assert calibration_error(*sure(right, wrong, confidence)) == pytest.approx(error)


def test_gaps_in_different_bins_do_not_cancel() -> None:
    over, under = sure(5, 5, 0.9), sure(9, 1, 0.6)
    truth, probabilities = (np.concatenate(pair) for pair in zip(over, under, strict=True))
    assert calibration_error(truth, probabilities) == pytest.approx((0.4 + 0.3) / 2)


@given(ANSWERS)
def test_calibration_error_is_within_0_and_1(answers: tuple[np.ndarray, np.ndarray]) -> None:
    assert 0 <= calibration_error(*answers) <= 1


# --- metrics of one's own ---


def test_a_metric_of_ones_own_is_in_the_report_under_its_name() -> None:
    def mean_confidence(truth: np.ndarray, probabilities: np.ndarray) -> float:
        return float(probabilities.max(1).mean())

    report = evaluate(TRUTH, PROBABILITIES, NAMES, [mean_confidence])
    assert report["mean_confidence"] == pytest.approx(PROBABILITIES.max(1).mean())


def test_the_example_metric_is_measured() -> None:
    assert top_2_accuracy in METRICS
    assert top_2_accuracy(TRUTH, PROBABILITIES) == 1
    assert top_2_accuracy(np.array([2, 2]), PROBABILITIES[[2, 3]] + [[0.1, 0, 0]]) == 0


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return 1.0


def top_2(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return 0.5


@pytest.mark.parametrize(("metrics", "name"), [([accuracy], "accuracy"), ([top_2, top_2], "top_2")])
def test_a_metric_replaces_no_other_number(metrics: list[Metric], name: str) -> None:
    with pytest.raises(MetricFailed, match=f"there is a number named {name} in the report already: rename the metric"):
        evaluate(TRUTH, PROBABILITIES, NAMES, metrics)


def raises(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float(probabilities[len(truth) + 1, 0])


def gives_nan(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return math.nan


def gives_infinity(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return -math.inf


def gives_nothing(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (raises, "metric raises raised IndexError: index 7 is out of bounds"),
        (gives_nan, "metric gives_nan gave nan; a metric must be a finite number"),
        (gives_infinity, "metric gives_infinity gave -inf"),
        (gives_nothing, "metric gives_nothing raised TypeError"),
    ],
)
def test_a_metric_that_fails_is_named(metric: Metric, message: str) -> None:
    with pytest.raises(MetricFailed, match=message):
        evaluate(TRUTH, PROBABILITIES, NAMES, [top_2_accuracy, metric])
