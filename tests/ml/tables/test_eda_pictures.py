"""Pictures of tables before anything is learned: whole, within the page, whatever the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from odd_tables import NAMES, TABLES, Odd
from pngs import fits_the_page
from sklearn.datasets import load_breast_cancer

from mnist_pipeline.ml.tables import eda_pictures
from mnist_pipeline.ml.tables.column_pictures import category_rates, numeric_distributions

ANY_TABLE = pytest.mark.parametrize("odd", TABLES.values(), ids=TABLES)


@pytest.fixture(scope="module")
def cancer() -> Odd:
    data = load_breast_cancer(as_frame=True)
    return Odd(data.data, np.asarray(data.target == 0))


@ANY_TABLE
def test_any_table_gives_five_pictures(odd: Odd) -> None:
    fits_the_page(eda_pictures.target_balance(odd.target, NAMES))
    fits_the_page(eda_pictures.missingness(odd.frame))
    fits_the_page(eda_pictures.correlations(odd.frame, odd.target, NAMES))
    fits_the_page(numeric_distributions(odd.frame, odd.target, NAMES))
    fits_the_page(category_rates(odd.frame, odd.target, NAMES))


def test_thirty_columns_are_drawn_large_enough_to_be_read(cancer: Odd) -> None:
    for png in (numeric_distributions(*cancer, NAMES), eda_pictures.correlations(*cancer, NAMES)):
        tall, wide = fits_the_page(png).shape
        assert wide >= 800
        assert tall >= 700


def test_the_pictures_depend_on_target_and_names(cancer: Odd) -> None:
    frame, flipped = cancer.frame.iloc[:, :2], ~cancer.target
    assert numeric_distributions(frame, cancer.target, ("a", "b")) != numeric_distributions(frame, flipped, ("a", "b"))
    assert eda_pictures.correlations(frame, cancer.target, NAMES) != eda_pictures.correlations(frame, flipped, NAMES)
    both = [eda_pictures.correlations(frame, cancer.target, ("a", name)) for name in "bc"]
    assert both[0] != both[1]
    assert eda_pictures.target_balance(flipped, ("a", "b")) != eda_pictures.target_balance(flipped, ("a", "c"))


def test_the_same_table_gives_the_same_bytes(cancer: Odd) -> None:
    some = Odd(cancer.frame.iloc[:, :3], cancer.target)
    assert numeric_distributions(*some, NAMES) == numeric_distributions(*some, NAMES)


def test_a_few_missing_values_are_seen_among_many_rows() -> None:
    whole = pd.DataFrame({"a": np.zeros(100_000), "b": np.zeros(100_000)})
    one_gap = whole.copy()
    one_gap.loc[0, "a"] = np.nan
    blue = (fits_the_page(eda_pictures.missingness(one_gap)) < 120).sum()
    assert blue > 50
    assert eda_pictures.missingness(whole) != eda_pictures.missingness(one_gap)


@pytest.mark.parametrize("target", [[0, 1], [0, 1, 2], [0, 1, float("nan")], [[0], [1], [0]]])
def test_a_target_that_is_none_is_refused(target: list[float]) -> None:
    with pytest.raises(ValueError, match="target"):
        numeric_distributions(pd.DataFrame({"a": [1, 2, 3]}), np.array(target), NAMES)
