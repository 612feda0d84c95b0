"""Descriptions of tables: what they say about themselves, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mnist_pipeline.ml.tables.models import KNN, usual_models
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import BadTask, Column, TableTask, Target
from mnist_pipeline.ml.tables.tasks import TASKS

TINY = TableTask(
    name="tiny",
    columns=(Column("size"), Column("kind", "category"), Column("answer", "category")),
    target=Target("answer", equals="yes", names=("no", "yes")),
    models=usual_models(),
    embedded=lambda: None,  # type: ignore[arg-type,return-value]
)


def answered(column: Column) -> TableTask:
    """The same with another column for the answer."""
    return replace(TINY, columns=(*TINY.columns[:2], column))


def added(*columns: Column, **changes: Any) -> TableTask:
    """The same with more columns."""
    return replace(TINY, columns=(*TINY.columns, *columns), **changes)


def test_bounds_that_are_equal_and_a_part_of_a_date_that_no_model_sees_are_no_contradiction() -> None:
    assert "width" in added(Column("width", low=1, high=1)).features
    assert "from year" in added(Column("from", "date", left_out="as its year"), Column("from year")).features


def test_no_model_sees_the_answer_or_what_is_left_out() -> None:
    for task in TASKS:
        assert task.target.column not in task.features
        assert not set(task.left_out) & set(task.features)
        assert all(task.left_out.values())


def test_superstore_says_of_every_column_whether_it_is_seen_or_why_not() -> None:
    seen = {"Ship Mode", "Segment", "State", "Region", "Category", "Sub-Category", "Sales", "Quantity", "Discount"}
    assert seen < set(SUPERSTORE.features)
    assert set(SUPERSTORE.features) - seen == {
        *("shipping days", "Order Date year", "Order Date month", "Order Date weekday"),
    }
    assert {column.name for column in SUPERSTORE.columns} == seen | set(SUPERSTORE.left_out) | {"Order Date"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: replace(TINY, columns=(*TINY.columns, Column("size"))), "described twice: size"),
        (lambda: replace(TINY, target=replace(TINY.target, column="gone")), "gone is used and not described"),
        (lambda: replace(TINY, days={"wait": ("size", "later")}), "later is used"),
        (lambda: replace(TINY, columns=(*TINY.columns, Column("part"))), "part is the name of a column that is added"),
        (
            lambda: added(Column("from", "date"), days={"wait": ("from", "size")}),
            "wait counts days, and size is no date",
        ),
        (lambda: added(Column("from", "date", low=0)), "from is a date: low and high are for numbers"),
        (lambda: added(Column("kind 2", "category", high=0)), "kind 2 is a category: low and high are for numbers"),
        (lambda: added(Column("from", "date"), Column("from year")), "from year is the name of a column that is added"),
        (
            lambda: added(Column("from", "date"), days={"from month": ("from", "from")}),
            "from month is the name of a column that is added",
        ),
        (lambda: added(Column("width", low=2, high=1.5)), "width is at least 2 and at most 1.5: no number is both"),
        (lambda: added(Column("width", categories=("1", "2"))), "width is a number, and categories are those of a"),
        (lambda: replace(TINY, target=replace(TINY.target, above=1.0)), "either `above` or `equals`"),
        (lambda: replace(TINY, target=replace(TINY.target, equals=None)), "either `above` or `equals`"),
        (lambda: replace(TINY, columns=(*TINY.columns, Column("name", "text"))), "name is text"),
        (lambda: replace(TINY, parts={"train": 1.0}), "train, test and perhaps validation"),
        (lambda: replace(TINY, parts={"train": 0.5, "test": 0.4}), "sum to 1"),
        (lambda: answered(Column("answer", "category", nullable=True)), "answer is nullable"),
        (lambda: answered(Column("answer")), "answer is a number: `above` is for numbers"),
        (lambda: answered(Column("answer", "category", categories=("no", "Yes"))), "'yes' is none of the categories"),
        (lambda: replace(TINY, embedded=None), "where would rows come from"),
        (lambda: replace(TINY, columns=TINY.columns[2:]), "no column is left"),
        (lambda: replace(TINY, models={}), "has no models"),
        (lambda: replace(TINY, models={"RF": KNN()}), "RF is no name for assets"),
        (lambda: replace(TINY, models={"comparison": KNN()}), "comparison is the name of another asset"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(change: Callable[[], TableTask], said: str) -> None:
    with pytest.raises(BadTask, match=said):
        change()
