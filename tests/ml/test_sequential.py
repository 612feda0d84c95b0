"""Always-valid tests: they may be looked at after every answer, and are wrong as seldom as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from mnist_pipeline.ml.sequential import Test, mean_above, mean_below, rate_above, rate_below

CONTESTS, ANSWERS = 400, 600


def ever(paths: list[np.ndarray], alpha: float = 0.05) -> float:
    """The share of contests in which a test was answered at any time at all."""
    return float(np.mean([Test("?", path, alpha).answered for path in paths]))


@pytest.mark.parametrize("limit", [0.05, 0.5])
@given(hits=st.lists(st.booleans(), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_evidence_about_a_rate_is_the_mean_likelihood_ratio(limit: float, hits: list[bool]) -> None:
    """By the definition: integrated over all rates above, or below."""
    hit, missed = sum(hits), len(hits) - sum(hits)

    def ratio(rate: float) -> float:
        return (rate / limit) ** hit * ((1 - rate) / (1 - limit)) ** missed

    above, below = quad(ratio, limit, 1)[0] / (1 - limit), quad(ratio, 0, limit)[0] / limit
    assert math.exp(rate_above(np.array(hits), limit)[-1]) == pytest.approx(above, rel=1e-5)
    assert math.exp(rate_below(np.array(hits), limit)[-1]) == pytest.approx(below, rel=1e-5)


@pytest.mark.parametrize("limit", [0.05, 0.5])
def test_at_the_limit_a_rate_is_called_above_or_below_in_at_most_five_of_a_hundred(limit: float) -> None:
    draws = np.random.default_rng(0).random((CONTESTS, ANSWERS)) < limit
    assert ever([rate_above(each, limit) for each in draws]) <= 0.05
    assert ever([rate_below(each, limit) for each in draws]) <= 0.05


@pytest.mark.parametrize("floor", [-0.02, 0.1])
def test_at_its_limit_a_mean_is_called_above_or_below_in_at_most_five_of_a_hundred(floor: float) -> None:
    rng = np.random.default_rng(1)
    draws = np.where(rng.random((CONTESTS, ANSWERS)) < 0.5, floor - 0.4, floor + 0.4)
    assert ever([mean_above(each, floor) for each in draws]) <= 0.05
    assert ever([mean_below(each, floor) for each in draws]) <= 0.05


def test_what_is_clearly_so_is_found_soon() -> None:
    rng = np.random.default_rng(2)
    assert (Test("?", rate_above(rng.random(200) < 0.3, 0.05), 0.05).answered_after or 999) <= 40
    assert (Test("?", rate_below(np.zeros(200, bool), 0.05), 0.05).answered_after or 999) <= 150
    assert (Test("?", mean_below(rng.normal(-0.3, 0.1, 200).clip(-1, 1), -0.02), 0.05).answered_after or 999) <= 40
    assert (Test("?", mean_above(np.zeros(2_000), -0.02), 0.05).answered_after or 9999) <= 500


@given(st.lists(st.floats(-1, 1), max_size=50), st.floats(-0.9, 0.9))
def test_no_value_between_minus_one_and_one_ruins_a_bet(values: list[float], floor: float) -> None:
    assert np.isfinite(mean_above(np.array(values), floor)).all()
    assert np.isfinite(mean_below(np.array(values), floor)).all()


def test_without_answers_nothing_is_answered() -> None:
    none = Test("?", rate_above(np.zeros(0, bool), 0.5), 0.05)
    assert (none.answered, none.answered_after, none.p) == (False, None, 1.0)


def test_evidence_that_has_sufficed_once_is_not_taken_back() -> None:
    path = np.array([0.0, 4.0, -2.0])
    test = Test("?", path, 0.05)
    assert (test.answered, test.answered_after) == (True, 2)
    assert test.p == pytest.approx(math.exp(-4))
