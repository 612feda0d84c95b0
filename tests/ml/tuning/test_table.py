"""Scoring configurations of a table's models."""

from __future__ import annotations

import pytest

from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.preparing import counted, part_of, prepared, split
from mnist_pipeline.ml.tuning.problems import Scored
from mnist_pipeline.ml.tuning.table import FOLDS, REPEATS, SPACES, TableProblem


def problem_of(kind: str) -> TableProblem:
    assert BREAST_CANCER.embedded
    table = split(prepared(counted(BREAST_CANCER.embedded()), BREAST_CANCER), BREAST_CANCER, 0)
    rows, target = part_of(table, "train")
    return TableProblem(rows, target, BREAST_CANCER, kind, BREAST_CANCER.models[kind].model_dump(), SPACES[kind])


def test_the_score_is_the_mean_over_the_same_folds_and_every_fold_is_a_step() -> None:
    problem, steps = problem_of("logistic_regression"), {}
    found = problem.score(problem.current, lambda step, score: steps.update({step: score}))
    assert list(steps) == list(range(1, FOLDS * REPEATS))
    assert len(found.evidence) == FOLDS * REPEATS
    assert found.score == pytest.approx(sum(found.evidence) / len(found.evidence))
    assert found.score > 0.98
    assert found == problem.score(problem.current, lambda *_: None)


def test_settings_matter() -> None:
    problem = problem_of("decision_tree")
    stump = problem.score({**problem.current, "max_depth": 1}, lambda *_: None)
    assert stump.score < problem.score(problem.current, lambda *_: None).score


def test_the_advantage_asks_whether_folds_agree() -> None:
    problem = problem_of("knn")
    today = Scored(0.9, 0.3, [0.90, 0.91, 0.89, 0.9, 0.9] * 2)
    clear = Scored(0.95, 0.2, [each + 0.05 + 0.001 * i for i, each in enumerate(today.evidence)])
    mixed = Scored(0.91, 0.2, [each + (0.1 if i % 2 else -0.08) for i, each in enumerate(today.evidence)])
    assert problem.advantage(clear, today).p < 1e-4
    assert problem.advantage(mixed, today).p > 0.2
    assert problem.advantage(today, today).p == 1
    assert problem.advantage(today, clear).p > 0.99
    assert "in 10 of 10 folds" in problem.advantage(clear, today).sentence
