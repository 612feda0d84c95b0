"""Features, target, sample, parts and digests of tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_pipeline.ml.tables import preparing
from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.door import checked
from mnist_pipeline.ml.tables.reading import BadTable
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import PART, TARGET, TableTask


def table_of(task: TableTask) -> pd.DataFrame:
    assert task.embedded
    return checked(preparing.counted(task.embedded()), task, "embedded")


@pytest.fixture(scope="module")
def superstore() -> pd.DataFrame:
    return table_of(SUPERSTORE)


def test_dates_become_parts_and_days(superstore: pd.DataFrame) -> None:
    row = superstore.iloc[[0]].assign(
        **{"Order Date": pd.Timestamp("2018-11-08"), "Ship Date": pd.Timestamp("2018-11-11")}
    )
    found = preparing.prepared(pd.concat([row, superstore.iloc[1:]]), SUPERSTORE).iloc[0]
    assert [found[f"Order Date {part}"] for part in ("year", "month", "weekday")] == [2018, 11, 3]
    assert found["shipping days"] == 3


def test_the_target_is_whether_a_line_is_profitable_and_profit_is_gone(superstore: pd.DataFrame) -> None:
    found = preparing.prepared(superstore, SUPERSTORE)
    assert (found[TARGET] == (superstore["Profit"] > 0)).all()
    assert not {"Profit", "Ship Date", "Order Date"} & set(found)
    assert list(found) == [*SUPERSTORE.features, TARGET]


def test_preparing_needs_no_other_row(superstore: pd.DataFrame) -> None:
    """So nothing is learned from rows before they are parted."""
    whole, half = (preparing.prepared(rows, SUPERSTORE) for rows in (superstore, superstore.iloc[:400]))
    pd.testing.assert_frame_equal(whole.iloc[:400], half)


@pytest.mark.parametrize("answer", ["benign", "malignant"])
def test_one_class_only_is_refused(answer: str) -> None:
    rows = table_of(BREAST_CANCER).assign(diagnosis=answer)
    with pytest.raises(BadTable, match="at least 10 of each are needed"):
        preparing.prepared(rows, BREAST_CANCER)


@given(seed=st.integers(0, 1_000), fraction=st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=20)
def test_a_sample_keeps_the_share_of_each_class_and_the_order(seed: int, fraction: float) -> None:
    rows = table_of(BREAST_CANCER)
    found = preparing.sampled(rows, BREAST_CANCER, fraction, seed)
    assert abs(len(found) - fraction * len(rows)) <= 2
    assert found.index.is_monotonic_increasing
    share = preparing.positive(rows, BREAST_CANCER).mean()
    assert preparing.positive(found, BREAST_CANCER).mean() == pytest.approx(share, abs=0.02)
    assert preparing.digest(found) == preparing.digest(preparing.sampled(rows, BREAST_CANCER, fraction, seed))


@given(seed=st.integers(0, 1_000))
@settings(deadline=None, max_examples=20)
def test_parts_have_their_shares_of_both_classes_and_hold_every_row_once(seed: int) -> None:
    whole = preparing.prepared(table_of(SUPERSTORE), SUPERSTORE)
    cut = preparing.split(whole, SUPERSTORE, seed)
    pd.testing.assert_frame_equal(cut.drop(columns=PART), whole)
    for part, share in SUPERSTORE.parts.items():
        features, target = preparing.part_of(cut, part)
        assert abs(len(features) - share * len(whole)) <= 2
        assert target.mean() == pytest.approx(whole[TARGET].mean(), abs=0.01)


def test_another_seed_parts_otherwise() -> None:
    whole = preparing.prepared(table_of(BREAST_CANCER), BREAST_CANCER)
    assert preparing.digest(preparing.split(whole, BREAST_CANCER, 0)) != preparing.digest(
        preparing.split(whole, BREAST_CANCER, 1)
    )


def test_a_row_that_stands_in_two_parts_is_counted() -> None:
    whole = preparing.prepared(table_of(BREAST_CANCER), BREAST_CANCER)
    assert preparing.shared_rows(preparing.split(whole, BREAST_CANCER, 0)) == 0
    twice = pd.concat([whole, whole], ignore_index=True)
    assert preparing.shared_rows(preparing.split(twice, BREAST_CANCER, 0)) > 100


def test_the_digest_is_of_the_content() -> None:
    rows = table_of(BREAST_CANCER)
    assert preparing.digest(rows) == preparing.digest(rows.copy())
    other = rows.copy()
    other.iloc[5, 3] += 1e-9
    others = (
        other,
        rows.iloc[::-1],
        rows.iloc[1:],
        rows.rename(columns={"mean area": "area"}),
        rows.astype({"mean area": "float32"}),
    )
    assert len({preparing.digest(each) for each in (rows, *others)}) == 6


def test_positive_may_be_told_from_a_number_or_a_category() -> None:
    rows = table_of(BREAST_CANCER)
    assert preparing.positive(rows, BREAST_CANCER).sum() == 212
    large = replace(BREAST_CANCER, target=replace(BREAST_CANCER.target, column="mean area", equals=None, above=1_000.0))
    assert np.array_equal(preparing.positive(rows, large), rows["mean area"] > 1_000)


def test_a_part_that_would_have_no_row_of_a_class_is_refused() -> None:
    whole = preparing.prepared(table_of(BREAST_CANCER), BREAST_CANCER)
    rare = pd.concat([whole[~whole[TARGET]], whole[whole[TARGET]].head(10)])
    thin = replace(BREAST_CANCER, parts={"train": 0.97, "test": 0.03})
    with pytest.raises(BadTable, match="part 'test' has 0 malignant"):
        preparing.split(rare, thin, 0)
