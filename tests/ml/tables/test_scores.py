"""Scores and their noise, against scikit-learn and against repeated draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mnist_pipeline.ml.tables import scores
from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.models import DecisionTree, pipeline_of
from mnist_pipeline.ml.tables.preparing import part_of


def drawn(seed: int, rows: int, good: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < 0.4
    return truth, np.round(1 / (1 + np.exp(-good * (truth - 0.5) - draw.normal(size=rows))), 2)


def test_scores_are_those_of_scikit_learn() -> None:
    truth, probability = drawn(0, 500)
    found, said = scores.scores(truth, probability), probability >= 0.5
    assert found["accuracy"] == metrics.accuracy_score(truth, said)
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, said))
    assert found["recall"] == pytest.approx(metrics.recall_score(truth, said))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, probability), abs=1e-12)
    assert scores.confusion(truth, probability) == metrics.confusion_matrix(truth, said).tolist()


def test_a_model_that_never_says_yes_has_no_precision_and_no_warning() -> None:
    assert scores.scores(np.array([True, False, True]), np.zeros(3))["precision"] == 0.0


@given(seed=st.integers(0, 10_000), rows=st.integers(20, 200))
@settings(deadline=None, max_examples=25)
def test_weighted_draws_are_the_auc_of_resampled_rows(seed: int, rows: int) -> None:
    """Ties included: probabilities are rounded."""
    truth, probability = drawn(seed, rows)
    if truth.all() or not truth.any():
        return
    weights = scores._weights(np.random.default_rng(seed), truth)[0]
    assert (weights[truth].sum(), weights[~truth].sum()) == (truth.sum(), (~truth).sum())
    wanted = metrics.roc_auc_score(truth, probability, sample_weight=weights)
    assert scores.auc_draws(truth, probability, seed)[0] == pytest.approx(wanted)


def test_a_class_of_two_rows_is_in_every_resample() -> None:
    truth, probability = np.arange(1_200) >= 1_198, np.linspace(0, 1, 1_200)
    assert scores.draw_interval(scores.auc_draws(truth, probability, 0))[0] > 0.99


@pytest.mark.slow
def test_the_interval_of_draws_holds_the_true_auc_about_as_often_as_it_says() -> None:
    truth, probability = drawn(0, 100_000)
    whole = metrics.roc_auc_score(truth, probability)
    hits = 0
    for seed in range(60):
        low, high = scores.draw_interval(scores.auc_draws(*drawn(seed + 1, 400), seed))
        hits += low <= whole <= high
    assert hits >= 51  # of 60; 57 are expected


def test_the_same_answers_do_not_differ_and_clearly_better_ones_do() -> None:
    truth, good = drawn(0, 2_000, good=3.0)
    poor = np.random.default_rng(5).permutation(good)
    same, better = scores.auc_draws(truth, good, 0), scores.auc_draws(truth, poor, 0)
    assert not scores.draws_differ(same, same)
    assert scores.draws_differ(same, better)


def test_several_intervals_hold_together_at_the_level_of_one() -> None:
    assert scores.level_of(1) == scores.level_of(0) == scores.LEVEL
    assert scores.level_of(3) == pytest.approx(1 - 0.05 / 3)
    draws = np.random.default_rng(0).normal(size=scores.DRAWS)
    low, high = scores.draw_interval(draws, scores.level_of(3))
    assert (low, high) == (pytest.approx(-2.39, abs=0.15), pytest.approx(2.39, abs=0.15))
    assert (draws > high).sum() >= 30  # else the end of the interval would itself be noise


def test_a_difference_of_folds_that_is_beyond_noise_alone_is_not_among_many() -> None:
    folds = 0.9 + 0.02 * np.random.default_rng(0).normal(size=25)
    gaps = 0.01 * np.random.default_rng(1).normal(size=25)
    other = folds - gaps + gaps.mean() - 2.2 * scores.fold_error(gaps)  # t is 2.2; 2.06 is needed alone
    assert scores.folds_differ(folds, other)
    assert not scores.folds_differ(folds, other, scores.level_of(3))


def test_folds_that_scatter_do_not_differ_and_steady_ones_do() -> None:
    draw = np.random.default_rng(0)
    folds = 0.9 + 0.02 * draw.normal(size=25)
    assert not scores.folds_differ(folds, folds + 0.02 * draw.normal(size=25))
    assert scores.folds_differ(folds, folds - 0.05 + 0.005 * draw.normal(size=25))


def test_the_corrected_interval_is_wider_than_the_naive_one() -> None:
    folds = 0.9 + 0.02 * np.random.default_rng(0).normal(size=25)
    low, high = scores.fold_interval(folds.tolist())
    assert low < folds.mean() < high
    assert high - low > 2 * (2 * 2.06 * folds.std(ddof=1) / 5)
    assert scores.fold_interval([1.0] * 25) == (1.0, 1.0)


def test_folds_are_25_the_same_for_each_model_and_each_time(tumours: pd.DataFrame) -> None:
    features, target = part_of(tumours, "train")
    model = pipeline_of(DecisionTree(max_depth=2), BREAST_CANCER)
    once = scores.cross_validated(model, features, target, 0)
    assert {len(of) for of in once.values()} == {scores.FOLDS * scores.REPEATS}
    assert once == scores.cross_validated(model, features, target, 0)
    assert 0.85 < np.mean(once["accuracy"]) < 0.99
