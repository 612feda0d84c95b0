"""What the pictures of numeric columns show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from odd_tables import TABLES
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mnist_pipeline.ml.tables import columns
from mnist_pipeline.ml.tables.columns import Numbers

RNG = np.random.default_rng(0)
NAN = float("nan")


def test_numeric_columns_are_found_by_type() -> None:
    assert [column.name for column in columns.numeric(TABLES["dtypes"].frame)] == ["whole"]
    assert [column.name for column in columns.numeric(TABLES["strange names"].frame)][-2:] == ["3", "{x} % _^"]
    assert [column.name for column in columns.numeric(TABLES["twins"].frame)] == ["a", "a"]


def test_infinities_count_as_missing() -> None:
    (column,) = columns.numeric(pd.DataFrame({"a": [1.0, np.inf, -np.inf, np.nan]}))
    assert column.finite.tolist() == [1.0]


def test_missing_values_are_counted_most_first() -> None:
    frame = pd.DataFrame({"whole": [1, 2, 3], "one": [1, None, 3], "two": ["a", None, None]})
    assert columns.missing(frame) == [("two", 2), ("one", 1)]


@pytest.mark.parametrize("decimals", [0, 5], ids=["with ties", "without"])
def test_separation_is_the_area_under_the_roc_curve(decimals: int) -> None:
    values, positive = RNG.normal(size=500).round(decimals), RNG.random(500) < 0.3
    values += 0.5 * positive.round()
    assert columns.separation(values, positive) == pytest.approx(roc_auc_score(positive, values))


def test_separation_leaves_gaps_out_and_needs_both_classes() -> None:
    assert columns.separation(np.array([1, 2, NAN, 3]), np.array([False, False, True, True])) == 1.0
    assert np.isnan(columns.separation(np.array([1.0, 2.0]), np.array([True, True])))
    assert np.isnan(columns.separation(np.array([1.0, NAN]), np.array([False, True])))


def test_the_column_that_separates_best_comes_first_whichever_way() -> None:
    positive = np.arange(100) >= 50
    noise, down = RNG.normal(size=100), -np.arange(100.0)
    found = columns.by_separation(
        [Numbers("noise", noise), Numbers("none", np.full(100, NAN)), Numbers("down", down)], positive
    )
    assert [column.name for column, _ in found] == ["down", "noise", "none"]
    assert found[0][1] == 1.0
    assert np.isnan(found[2][1])


def test_outliers_do_not_squash_the_bins() -> None:
    values = np.append(RNG.normal(size=999), 1e9)
    bins = columns.bins_of(values)
    assert bins.edges[-1] < 10
    assert bins.above >= 1
    assert bins.below <= 20


@pytest.mark.parametrize("values", [RNG.uniform(size=1000), np.array([0.0, 1, 2, 1000]), np.array([1] + [0] * 999)])
def test_where_there_are_none_or_few_rows_nothing_is_left_out(values: np.ndarray) -> None:
    bins = columns.bins_of(values.astype(float))
    assert (bins.below, bins.above) == (0, 0)
    assert bins.shares(values).sum() == pytest.approx(1)


def test_whole_numbers_get_a_bin_each() -> None:
    values = np.array([1, 2, 2, 5] * 10, float)
    assert columns.bins_of(values).shares(values).tolist() == [0.25, 0.5, 0, 0, 0.25]


def test_a_long_tail_is_drawn_in_logarithms_and_only_that() -> None:
    tail = 10 ** RNG.uniform(0, 5, 1000)
    assert columns.bins_of(tail).logarithmic
    assert np.diff(columns.bins_of(tail).places) == pytest.approx(1 / 24)
    assert not columns.bins_of(-tail).logarithmic
    assert not columns.bins_of(RNG.uniform(1, 1000, 1000)).logarithmic


@pytest.mark.parametrize("value", [0.0, -3.5, 1e20, 7.0])
def test_a_constant_has_one_bin_around_it(value: float) -> None:
    bins = columns.bins_of(np.full(5, value))
    assert bins.edges[0] < value < bins.edges[-1]
    assert bins.shares(np.full(5, value)).tolist() == [1]


def test_numbers_too_large_for_halves_have_bins() -> None:
    values = 2.0**60 + np.arange(0, 4096, 256)
    assert columns.bins_of(values).shares(values).sum() == pytest.approx(1)


def test_no_values_of_a_class_are_a_flat_line() -> None:
    assert columns.bins_of(np.arange(5.0)).shares(np.array([])).tolist() == [0] * 5


def test_rank_correlations_are_spearmans() -> None:
    a, positive = RNG.normal(size=200), RNG.random(200) < 0.5
    b = np.exp(a) + positive
    found = columns.rank_correlations([Numbers("a", a), Numbers("b", b)], positive)
    assert found == pytest.approx(spearmanr(np.c_[positive, a, b]).statistic)


def test_a_constant_column_correlates_with_nothing() -> None:
    found = columns.rank_correlations([Numbers("a", np.ones(10))], np.arange(10) < 5)
    assert np.isnan(found[1]).all()


def test_columns_that_say_the_same_stand_together() -> None:
    a, b = RNG.normal(size=(2, 100))
    matrix = np.corrcoef([a, b, -a, b + 0.01 * a])
    order = columns.alike_together(matrix).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset((0, 2)), frozenset((1, 3))}


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_any_number_of_columns_can_be_ordered(count: int) -> None:
    assert sorted(columns.alike_together(np.full((count, count), NAN))) == list(range(count))
