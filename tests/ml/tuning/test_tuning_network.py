"""Scoring configurations of DigitCNN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pipelines import BARELY

from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.ml.split import split_digits
from mnist_pipeline.ml.tuning.network import NetworkProblem
from mnist_pipeline.ml.tuning.problems import Abandoned, Scored

CURRENT = configure("fast", **BARELY).model_dump()


@pytest.fixture(scope="module")
def problem() -> NetworkProblem:
    data = split_digits(read_embedded(), 0.2, 0)
    return NetworkProblem(data["train"], data["validation"], 10, CURRENT)


def scored(right: list[bool]) -> Scored:
    return Scored(float(np.mean(right)), 0.0, np.packbits(right).tobytes().hex())


def test_the_score_is_the_accuracy_on_the_validation_images(problem: NetworkProblem) -> None:
    steps: dict[int, float] = {}
    found = problem.score(CURRENT, lambda step, score: steps.update({step: score}))
    assert list(steps) == [1, 2]  # the third epoch is the last: there is nothing left to be saved
    right = problem._right(found)
    assert right.shape == (len(problem.validation),)
    assert found.score == right.mean() > steps[1]
    assert 0 < found.loss < math.log(10)


def test_the_same_settings_give_the_same_score(problem: NetworkProblem) -> None:
    assert problem.score(CURRENT, lambda *_: None) == problem.score(CURRENT, lambda *_: None)


def test_what_is_abandoned_ends_at_once(problem: NetworkProblem) -> None:
    seen = []

    def stop(step: int, score: float) -> None:
        seen.append(step)
        raise Abandoned("behind")

    with pytest.raises(Abandoned, match="behind"):
        problem.score(CURRENT, stop)
    assert seen == [1]


def test_a_training_that_diverges_is_abandoned(problem: NetworkProblem) -> None:
    wild = {**CURRENT, "optimizer": "sgd", "learning_rate": 1e30, "schedule": "constant"}
    with pytest.raises(Abandoned, match="not finite"):
        problem.score(wild, lambda *_: None)


def test_the_advantage_is_tested_on_the_same_images(problem: NetworkProblem) -> None:
    images = len(problem.validation)
    today = [i >= 20 for i in range(images)]
    best = [i >= 20 or i < 15 for i in range(images)]
    found = problem.advantage(scored(best), scored(today))
    assert found.p == pytest.approx(0.5**15)
    assert "only the best is right on 15, only the current one on 0" in found.sentence
    assert problem.advantage(scored(today), scored(today)).p == 1
    assert problem.advantage(scored(today), scored(best)).p > 0.99
