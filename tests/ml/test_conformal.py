"""Prediction sets: MAPIE's, with the coverage that was asked for, never empty, and read back from their file."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from mnist_pipeline.ml.answers import alternatives
from mnist_pipeline.ml.conformal import (
    CONFORMAL,
    NO_SETS,
    PredictionSets,
    conform,
    sets_of,
)
from mnist_pipeline.ml.predictor import softmax
from mnist_pipeline.ml.report import coverage_told

NAMES = ("a", "b", "c", "d", "e")
SETS = PredictionSets(0.9, 0.2, 100)


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is right three times in four, and the truth."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 5, count)
    logits = chance.normal(0, 1.5, (count, 5)) + 2.5 * np.eye(5)[labels]
    return softmax(logits).astype(np.float32), labels


class Given(ClassifierMixin, BaseEstimator):
    """An estimator whose probabilities are its input, which is all that MAPIE wants of a fitted one."""

    classes_ = np.arange(5)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, probabilities: np.ndarray, labels: np.ndarray) -> Given:
        return self

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.argmax(1)

    def predict_proba(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [101, 500])
def test_the_sets_are_those_that_mapie_gives(coverage: float, count: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MAPIE's of its own imports
        from mapie.classification import SplitConformalClassifier
    (known, labels), (new, _) = answers(count, 1), answers(2_000, 2)
    theirs = SplitConformalClassifier(Given(), confidence_level=coverage, conformity_score="lac", prefit=True)
    theirs.conformalize(known.astype(np.float64), labels)
    expected = theirs.predict_set(new.astype(np.float64))[1][:, :, 0]
    ours = new >= conform(known, labels, coverage).threshold
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
def test_the_coverage_is_what_was_asked_for(coverage: float) -> None:
    """On average over calibrations, which is what is promised; not much more either."""
    measured = [
        conform(*answers(400, seed), coverage).measured(
            answers(2_000, 1_000 + seed)[1], answers(2_000, 1_000 + seed)[0]
        )
        for seed in range(20)
    ]
    assert np.mean([each["coverage"] for each in measured]) == pytest.approx(coverage, abs=0.01)


@given(st.integers(1, 60), st.floats(0.05, 0.999), st.integers(0, 9))
def test_a_set_is_never_empty_and_begins_with_the_answer(count: int, coverage: float, seed: int) -> None:
    probabilities, labels = answers(count, seed)
    sets = conform(probabilities, labels, coverage)
    among = sets.among(probabilities)
    for row, possible, inside in zip(probabilities.tolist(), among, probabilities.argmax(1), strict=True):
        found = sets.of(row, NAMES)
        assert found[0] == NAMES[inside]
        assert sorted(found) == [name for name, there in zip(NAMES, possible, strict=True) if there]


@pytest.mark.parametrize(("count", "coverage"), [(5, 0.9), (98, 0.99), (1, 0.6)])
def test_too_few_images_for_the_coverage_leave_every_class_possible(count: int, coverage: float) -> None:
    probabilities, labels = answers(count, 0)
    sets = conform(probabilities, labels, coverage)
    assert (sets.threshold, sets.images) == (0.0, count)
    assert sets.among(probabilities).all()


def test_99_images_are_enough_for_99_of_100() -> None:
    probabilities, labels = answers(99, 0)
    assert conform(probabilities, labels, 0.99).threshold == probabilities[np.arange(99), labels].min()


@pytest.mark.parametrize(("coverage", "count"), [(0.0, 9), (1.0, 9), (0.9, 0)])
def test_what_cannot_be_promised_is_refused(coverage: float, count: int) -> None:
    with pytest.raises(ValueError, match=f"coverage {coverage} cannot be calibrated on {count} images"):
        conform(*answers(count, 0), coverage)


def test_classes_come_the_most_probable_first() -> None:
    assert SETS.of([0.25, 0.05, 0.4, 0.3, 0.0], NAMES) == ["c", "d", "a"]
    assert SETS.of([0.2, 0.2, 0.2, 0.2, 0.2], NAMES) == list(NAMES)
    assert replace(SETS, threshold=0.9).of([0.25, 0.05, 0.4, 0.3, 0.0], NAMES) == ["c"]


def test_what_is_measured_tells_what_is_promised_from_what_is_shown() -> None:
    truth = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.35, 0.65], [0.95, 0.05]])
    measured = PredictionSets(0.75, 0.6, 9).measured(truth, probabilities)
    assert (measured["coverage"], measured["coverage_shown"]) == (0.75, 1.0)  # the second is empty until it is shown
    said = coverage_told({**measured, "images": 4})
    assert "Of 4 test images, which calibrated nothing, the sets as given hold the truth in 100.00%" in said
    assert "as calibrated, where a set may be empty, in 75.00% (" in said
    assert coverage_told({"accuracy": 1.0}) == "this version has no prediction sets"
    assert (measured["mean_set_size"], measured["singletons"], measured["coverage_asked"]) == (1.0, 1.0, 0.75)
    assert measured["coverage_low"] < 0.75 < measured["coverage_high"]


def test_no_images_have_no_sets() -> None:
    assert SETS.among(np.zeros((0, 5), np.float32)).shape == (0, 5)


# --- the file ---


def test_sets_are_read_back_as_they_were() -> None:
    assert sets_of({CONFORMAL: SETS.as_json()}) == SETS
    said = json.loads(SETS.as_json())
    assert said == {"method": "LAC", "coverage": 0.9, "threshold": 0.2, "images": 100}


def test_a_version_without_the_file_has_no_sets() -> None:
    none = sets_of({})
    assert none is NO_SETS
    assert (none.of([0.5, 0.5], "ab"), none.among(np.eye(2))) == (None, None)
    assert none.measured(np.arange(2), np.eye(2)) == {}


@pytest.mark.parametrize("change", [{"method": "APS"}, {"threshold": 2}, {"alpha": 0.1}])
def test_a_file_that_says_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=CONFORMAL):
        sets_of({CONFORMAL: json.dumps({**json.loads(SETS.as_json()), **change}).encode()})


@pytest.mark.parametrize(
    ("names", "said"),
    [(("4",), "4"), (("4", "9"), "4 or 9"), (("1", "4", "9"), "1, 4 or 9"), (("a b", "c"), "a b or c")],
)
def test_alternatives_in_words(names: tuple[str, ...], said: str) -> None:
    assert alternatives(names) == said
