"""What the pictures of categories show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from odd_tables import TABLES

from mnist_pipeline.ml.tables import categories
from mnist_pipeline.ml.tables.categories import Categories, Rate


def rates(values: list[object], positive: list[int], most: int = 12) -> list[Rate]:
    return categories.rates(pd.Series(values), np.array(positive, bool), most)


def test_columns_of_categories_are_found_by_type() -> None:
    names = [name for name, _ in categories.categorical(TABLES["dtypes"].frame)]
    assert names == ["boolean", "text", "category", "numbered", "flag", "mixed"]


def test_the_highest_share_comes_first_and_missing_rows_last() -> None:
    found = rates(["a", "a", "b", "c", None, "c"], [0, 1, 1, 0, 1, 0])
    assert found == [Rate("b", 1, 1), Rate("a", 2, 1), Rate("c", 2, 0), Rate("missing", 1, 1, 0)]
    assert found[1].share == 0.5


def test_the_rarest_are_gathered_and_none_is_lost() -> None:
    values: list[object] = [f"c{i}" for i in range(20) for _ in range(i + 1)]
    found = rates(values, [1] * len(values))
    assert len(found) == 12
    assert found[-1] == Rate("other (9)", sum(range(1, 10)), sum(range(1, 10)), 9)
    assert sum(rate.rows for rate in found) == len(values)


@pytest.mark.parametrize(("number", "lines"), [(1, 1), (11, 11), (12, 12), (13, 12), (500, 12)])
def test_at_most_twelve_lines(number: int, lines: int) -> None:
    found = Categories("c", rates(list(range(number)), [0] * number))
    assert len(found.rates) == lines
    assert found.number == number


def test_categories_that_nobody_has_are_no_line() -> None:
    column = pd.Series(pd.Categorical(["a", "b"], ["a", "b", "z"]))
    assert [rate.name for rate in categories.rates(column, np.array([True, False]))] == ["a", "b"]


def test_association_is_cramers() -> None:
    assert categories.association([Rate("a", 10, 10), Rate("b", 10, 0)]) == 1
    assert categories.association([Rate("a", 10, 5), Rate("b", 20, 10)]) == 0
    table = np.array([[30, 10], [20, 40]])  # chi² = 16.67 over 100 rows
    assert categories.association([Rate("a", 40, 10), Rate("b", 60, 40)]) == pytest.approx(
        np.sqrt(16.6667 / table.sum()), rel=1e-3
    )


@pytest.mark.parametrize("of", [[], [Rate("a", 3, 3)], [Rate("a", 3, 0), Rate("b", 1, 0)]])
def test_one_class_is_associated_with_nothing(of: list[Rate]) -> None:
    assert categories.association(of) == 0


def test_the_column_that_tells_most_comes_first() -> None:
    positive = np.arange(40) % 2 == 0
    frame = pd.DataFrame(
        {"none": ["a"] * 40, "all": np.where(positive, "y", "n"), "some": np.where(np.arange(40) % 3, "y", "n")}
    )
    assert categories.by_association(frame, positive)[0].name == "all"


def test_names_and_numbers_of_orders_are_scattered() -> None:
    few, each_its_own, many = [i % 20 for i in range(1000)], list(range(60)), [i % 500 for i in range(5000)]
    for values, scattered in ((few, False), (each_its_own, True), (many, True), (["x"] * 5, False), ([1, 2], False)):
        assert Categories("c", rates(list(values), [0] * len(values))).scattered is scattered
