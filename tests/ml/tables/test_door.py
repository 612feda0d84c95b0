"""The door: good tables pass with their types, of bad ones every bad value is named."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.door import LISTED, LONGEST, BadRows, checked, schema_of
from mnist_pipeline.ml.tables.preparing import counted
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import TableTask


def rows_of(task: TableTask) -> pd.DataFrame:
    assert task.embedded
    return counted(task.embedded())


def with_value(row: int, column: str, value: Any) -> pd.DataFrame:
    frame = rows_of(SUPERSTORE)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize("task", [BREAST_CANCER, SUPERSTORE], ids=lambda task: task.name)
def test_the_embedded_tables_pass(task: TableTask) -> None:
    frame = checked(rows_of(task), task, "embedded")
    kinds = {column.name: column.kind for column in task.columns}
    for name, kind in frame.dtypes.items():
        assert str(kind) == {"number": "float64", "date": "datetime64[ns]"}.get(kinds[str(name)], "object")
    pd.testing.assert_frame_equal(checked(frame, task, "again"), frame)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("Sales", "abc", "not a number"),
        ("Sales", "-1", "below 0"),
        ("Sales", "inf", "not finite"),
        ("Discount", "1.5", "above 1"),
        ("Order Date", "2018-11-08", "no date like %m/%d/%Y"),
        ("Order Date", "13/32/2018", "no date like %m/%d/%Y"),
        ("Ship Date", None, "missing"),
        ("Ship Date", "1/1/2001", "before Order Date"),
        ("Profit", None, "missing"),
        ("Segment", "Robots", "none of Consumer, Corporate, Home Office"),
    ],
)
def test_a_bad_value_is_named_with_row_and_column(column: str, value: Any, fault: str) -> None:
    with pytest.raises(BadRows) as caught:
        checked(with_value(17, column, value), SUPERSTORE, "x.csv")
    (found,) = caught.value.rows
    assert (found["row"], found["column"], found["fault"]) == (17, column, fault)
    assert f"row 17, {column}: " in str(caught.value)


def test_what_may_be_missing_may() -> None:
    assert checked(with_value(17, "Postal Code", None), SUPERSTORE, "x.csv")["Postal Code"].isna().sum() == 1


def test_a_value_that_must_not_occur_twice_is_named_at_both_places() -> None:
    with pytest.raises(BadRows, match="there more than once") as caught:
        checked(with_value(5, "Row ID", "9"), SUPERSTORE, "x.csv")
    assert [each["row"] for each in caught.value.rows] == [5, 10]


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    frame = rows_of(SUPERSTORE)
    frame.loc[[30, 20], "Quantity"] = "0"
    frame.loc[20, "Sales"] = "?"
    frame.loc[10, ["Ship Date", "Profit"]] = ["1/1/2001", None]
    with pytest.raises(BadRows, match=r"x.csv: 5 bad values in 3 rows \(the header is row 1\)") as caught:
        checked(frame, SUPERSTORE, "x.csv")
    assert [(each["row"], each["column"]) for each in caught.value.rows] == [
        *((10, "Ship Date"), (10, "Profit"), (20, "Sales"), (20, "Quantity"), (30, "Quantity")),
    ]


def test_a_whole_bad_column_is_summed_up_and_listed_only_so_far() -> None:
    frame = rows_of(SUPERSTORE).assign(Quantity="many")
    with pytest.raises(BadRows, match=r"and 1,490 more in Quantity: not a number") as caught:
        checked(frame, SUPERSTORE, "x.csv")
    assert len(caught.value.rows) == LISTED


def test_the_schema_says_what_the_description_says() -> None:
    schema = schema_of(SUPERSTORE)
    assert list(schema.columns) == [column.name for column in SUPERSTORE.columns]
    assert schema.columns["Postal Code"].nullable
    assert schema.columns["Row ID"].unique


def test_a_value_that_is_very_long_is_told_by_its_beginning() -> None:
    with pytest.raises(BadRows) as caught:
        checked(with_value(5, "Sales", "x" * 100_000), SUPERSTORE, "x.csv")
    assert [len(each["value"]) for each in caught.value.rows] == [LONGEST]
    assert len(str(caught.value)) < 300
