"""Learning, importance and ranking: from parts to a leaderboard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.comparing import Compared, compare
from mnist_pipeline.ml.tables.learning import SMALL, Learned, learn
from mnist_pipeline.ml.tables.models import MODELS, LogisticRegression, RandomForest
from mnist_pipeline.ml.tables.preparing import part_of
from mnist_pipeline.ml.tables.ranking import ranked, said
from mnist_pipeline.ml.tables.scores import scores
from mnist_pipeline.ml.tables.superstore import SUPERSTORE

QUICK = {**SUPERSTORE.models, "random_forest": RandomForest(trees=10)}


@pytest.fixture(scope="module")
def learned(orders: pd.DataFrame) -> dict[str, Learned]:
    return {name: learn(orders, SUPERSTORE, settings) for name, settings in QUICK.items()}


@pytest.fixture(scope="module")
def compared(learned: dict[str, Learned], orders: pd.DataFrame) -> Compared:
    return compare(learned, orders, SUPERSTORE)


def test_every_model_learns_something(learned: dict[str, Learned]) -> None:
    assert min(each.report["test"]["roc_auc"] for each in learned.values()) > 0.85


def test_the_numbers_hold_each_part_and_the_means_of_the_folds(learned: dict[str, Learned]) -> None:
    numbers = learned["knn"].numbers
    assert numbers["test_accuracy"] == learned["knn"].report["test"]["accuracy"]
    assert numbers["folds_roc_auc"] == pytest.approx(np.mean(learned["knn"].report["folds"]["roc_auc"]))
    assert all(np.isfinite(value) for value in numbers.values())


def test_folds_are_drawn_only_where_the_test_part_is_small(orders: pd.DataFrame) -> None:
    many = pd.concat([orders] * 4, ignore_index=True)
    assert (many["part"] == "test").sum() >= SMALL
    report = learn(many, SUPERSTORE, LogisticRegression()).report
    assert report["folds"] == {}
    answers = {"one": (np.array([True, False]), np.array([0.9, 0.1]))}
    rows = ranked({"one": report}, answers, answers, seed=0)
    assert rows[0]["ranked_on"] == "validation"
    assert "folds_accuracy" not in rows[0]
    assert said(rows).endswith("; there is no other")


@pytest.mark.parametrize("name", MODELS)
def test_importance_is_a_share_of_every_feature_and_discount_comes_first(
    name: str, learned: dict[str, Learned]
) -> None:
    found = learned[name].report["importances"]
    assert set(found) == set(SUPERSTORE.features)
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0
    assert next(iter(found)) == "Discount"
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_ranking_is_by_folds_and_says_who_is_within_noise(compared: Compared) -> None:
    scores = [row["score"] for row in compared.rows]
    assert scores == sorted(scores, reverse=True)
    best = compared.rows[0]
    assert best["within_noise"]
    assert all(row["low"] <= row["score"] <= row["high"] for row in compared.rows)
    assert not compared.rows[-1]["within_noise"]
    assert compared.sentence == said(compared.rows)
    told = f"{best['model']} is best over 5×5 folds of the training part: ROC-AUC {best['score']:.4f}"
    assert compared.sentence.startswith(told)


def test_every_score_of_the_folds_has_an_interval(learned: dict[str, Learned], compared: Compared) -> None:
    folds = {row["score"]: row for row in learned["knn"].folds}
    assert list(folds) == ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc"]
    assert all(row["low"] < row["mean"] < row["high"] for row in folds.values())
    (row,) = (row for row in compared.rows if row["model"] == "knn")
    assert (row["low"], row["high"]) == (folds["roc_auc"]["low"], folds["roc_auc"]["high"])
    accuracy = [row[f"folds_accuracy{end}"] for end in ("", "_low", "_high")]
    assert accuracy == [folds["accuracy"][name] for name in ("mean", "low", "high")]


Answers = tuple[np.ndarray, np.ndarray]
TRUTH = np.arange(2_000) % 4 > 0


def answered(good: float, noise: int, rows: int = 2_000) -> Answers:
    """Answers that are the better the larger `good` is; of the same noise, they differ by that only."""
    drawn = np.random.default_rng(noise).normal(size=rows)
    return TRUTH[:rows], 1 / (1 + np.exp(-good * TRUTH[:rows] - drawn))


def reports_of(validation: dict[str, Answers], test: dict[str, Answers]) -> dict[str, Any]:
    return {
        name: {"folds": {}, "validation": scores(*validation[name]), "test": scores(*test[name])} for name in validation
    }


def rows_of(validation: dict[str, Answers], test: dict[str, Answers]) -> list[dict[str, Any]]:
    return ranked(reports_of(validation, test), validation, test, seed=0)


def test_the_more_models_the_best_is_compared_with_the_more_it_takes_to_be_beyond_noise() -> None:
    two = {"a": answered(2.0, 0), "b": answered(1.8, 1)}
    many = {**two, **{f"c{i}": answered(1.0, i) for i in range(19)}}
    (alone,) = (row["within_noise"] for row in rows_of(two, two)[1:])
    among = {row["model"]: row["within_noise"] for row in rows_of(many, many)}
    assert (alone, among["b"], among["c0"]) == (False, True, False)


def test_what_test_says_against_the_ranking_is_said() -> None:
    validation = {"a": answered(2.5, 0), "b": answered(2.4, 0), "c": answered(1.0, 1)}
    agreed = said(rows_of(validation, validation))
    assert agreed.startswith("a is best on validation: ROC-AUC ")
    assert "Test" not in agreed
    rows = rows_of(validation, {"a": answered(1.0, 0), "b": answered(2.5, 0), "c": answered(1.01, 0, 400)})
    assert [(row["model"], row["ahead_on_test"]) for row in rows][:2] == [("a", "no"), ("b", "beyond noise")]
    assert "Test, on which nothing is ranked, has another order: b ahead of it beyond noise" in said(rows)


def test_another_order_on_test_that_may_be_noise_is_said_as_that() -> None:
    validation = {"a": answered(2.5, 0), "b": answered(2.0, 1)}
    rows = rows_of(validation, {"a": answered(2.0, 2, 200), "b": answered(2.0, 7, 200)})
    assert rows[1]["ahead_on_test"] == "within noise"
    assert said(rows).endswith("has another order: b ahead of it within noise")


def test_a_model_and_its_twin_are_within_noise(learned: dict[str, Learned], orders: pd.DataFrame) -> None:
    twins = {"one": learned["knn"], "two": learned["knn"]}
    assert [row["within_noise"] for row in compare(twins, orders, SUPERSTORE).rows] == [True, True]


def test_who_ranks_does_not_look_at_the_test_part(learned: dict[str, Learned], orders: pd.DataFrame) -> None:
    turned = orders.copy()
    turned.loc[turned["part"] == "test", "target"] ^= True
    order = [row["model"] for row in compare(learned, turned, SUPERSTORE).rows]
    assert order == [row["model"] for row in compare(learned, orders, SUPERSTORE).rows]


def test_what_is_compared_is_answered_on_the_test_part(compared: Compared, orders: pd.DataFrame) -> None:
    truth = part_of(orders, "test")[1]
    for model, (said_truth, probability) in compared.answers.items():
        assert np.array_equal(said_truth, truth)
        assert np.sum(compared.confusions[model]) == len(probability)


@pytest.mark.slow
def test_a_table_of_numbers_only_and_one_of_categories_only(tumours: pd.DataFrame, orders: pd.DataFrame) -> None:
    numbers = learn(tumours, BREAST_CANCER, LogisticRegression())
    assert set(numbers.report["importances"]) == set(BREAST_CANCER.features)
    only = replace(
        SUPERSTORE,
        columns=tuple(
            replace(each, left_out="not asked")
            if each.kind in ("number", "date") and not each.left_out and each.name != "Profit"
            else each
            for each in SUPERSTORE.columns
        ),
        days={},
    )
    assert only.features == only.categories
    few = orders[[*only.features, "target", "part"]]
    for settings in QUICK.values():
        assert set(learn(few, only, settings).report["importances"]) == set(only.features)


def test_a_large_table_without_a_validation_part_is_ranked_on_folds(orders: pd.DataFrame) -> None:
    task = replace(SUPERSTORE, parts={"train": 0.8, "test": 0.2})
    many = pd.concat([orders.replace({"part": {"validation": "train"}})] * 4, ignore_index=True)
    assert (many["part"] == "test").sum() >= SMALL
    found = compare({"one": learn(many, task, LogisticRegression())}, many, task)
    assert found.rows[0]["ranked_on"] == "5×5 folds"


def test_a_number_that_is_missing_in_all_rows_is_of_no_importance_and_moves_no_other(tumours: pd.DataFrame) -> None:
    gone = BREAST_CANCER.features[0]
    report = learn(tumours.assign(**{gone: np.nan}), BREAST_CANCER, BREAST_CANCER.models["decision_tree"]).report
    rest = learn(tumours.assign(**{gone: 0.0}), BREAST_CANCER, BREAST_CANCER.models["decision_tree"]).report
    assert report["importances"][gone] == 0
    assert report["importances"] == rest["importances"]
