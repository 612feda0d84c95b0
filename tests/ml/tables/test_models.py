"""The models of tables: fitted to training rows only, weighted, the same every time; settings that change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mnist_pipeline.ml.tables.models import (
    KNN,
    MODELS,
    DecisionTree,
    LogisticRegression,
    RandomForest,
    Settings,
    pipeline_of,
)
from mnist_pipeline.ml.tables.preparing import part_of
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.tasks import TASKS


def answers(settings: Settings, orders: pd.DataFrame, seed: int = 0) -> np.ndarray:
    features, target = part_of(orders, "train")
    fitted = pipeline_of(settings, SUPERSTORE, seed).fit(features, target)
    return np.asarray(fitted.predict_proba(part_of(orders, "test")[0])[:, 1])


def test_every_task_has_every_kind_of_model() -> None:
    for task in TASKS:
        assert {name: type(settings) for name, settings in task.models.items()} == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_same_rows_and_seed_give_the_same_answers(name: str, orders: pd.DataFrame) -> None:
    settings = SUPERSTORE.models[name]
    assert np.array_equal(answers(settings, orders), answers(settings, orders))


@pytest.mark.parametrize(
    ("plain", "turned"),
    [
        (DecisionTree(), DecisionTree(max_depth=2)),
        (DecisionTree(), DecisionTree(min_samples_leaf=80)),
        (RandomForest(trees=10), RandomForest(trees=11)),
        (RandomForest(trees=10), RandomForest(trees=10, max_depth=2)),
        (RandomForest(trees=10), RandomForest(trees=10, min_samples_leaf=50)),
        (LogisticRegression(), LogisticRegression(c=0.01)),
        (KNN(), KNN(neighbours=3)),
        (KNN(weights="uniform"), KNN(weights="distance")),
    ],
)
def test_every_setting_makes_a_difference(plain: Settings, turned: Settings, orders: pd.DataFrame) -> None:
    assert not np.array_equal(answers(plain, orders), answers(turned, orders))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(DecisionTree, {"max_depth": 0}), (RandomForest, {"trees": 0}), (LogisticRegression, {"c": 0}), (KNN, {"k": 3})],
)
def test_a_setting_out_of_range_or_unknown_is_refused(kind: type[Settings], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**wrong)


def test_nothing_is_learned_from_rows_outside_of_the_training_part(orders: pd.DataFrame) -> None:
    """Wild numbers, new categories and missing values there change no answer to the other rows."""
    wild = orders.copy()
    wild.loc[wild["part"] == "validation", ["Sales", "Discount"]] = 1e9
    wild.loc[wild["part"] == "validation", "State"] = "Nowhere"
    for settings in SUPERSTORE.models.values():
        assert np.array_equal(answers(settings, orders), answers(settings, wild))


def test_missing_values_and_new_categories_get_an_answer(orders: pd.DataFrame) -> None:
    features, target = part_of(orders, "train")
    asked = part_of(orders, "test")[0].head(4).copy()
    asked.iloc[0, asked.columns.get_loc("Sales")] = np.nan
    asked.iloc[1, asked.columns.get_loc("State")] = None
    asked.iloc[2, asked.columns.get_loc("State")] = "Atlantis"
    for settings in SUPERSTORE.models.values():
        found = pipeline_of(settings, SUPERSTORE).fit(features, target).predict_proba(asked)
        assert np.isfinite(found).all()


def test_classes_are_weighted_so_that_the_rare_one_is_not_given_up(orders: pd.DataFrame) -> None:
    train = orders["part"] == "train"
    rare = orders.drop(orders[train & ~orders["target"]].sample(frac=0.9, random_state=0).index)
    truth = part_of(rare, "test")[1]
    said = answers(LogisticRegression(), rare) >= 0.5
    assert (~said[~truth]).mean() > 0.7  # of the rare class, most are found


def test_settings_of_an_unknown_kind_have_no_model() -> None:
    with pytest.raises(TypeError, match="Settings has no model"):
        pipeline_of(Settings(), SUPERSTORE)
