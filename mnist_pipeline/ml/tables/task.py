"""What a table is and what is to be learned from it, as a description that does nothing by itself.

Here: columns as they must come, which of them a model sees, the target, how rows are cut into parts.
Not here: the two tasks that come with the project (`breast_cancer.py`, `superstore.py`), and what reads, checks and
learns by a description.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "text", "date"]
TARGET, PART = "target", "part"  # columns that are added to the table
RESERVED = {  # names that assets of a task have, and their inputs
    *("raw_data", "prepared_data", "eda_summary", "comparison", "dataset_comparison"),
    *("table", "models", "pictures", "tracking", "tables", "context", "config"),
}
DATE_PARTS = ("year", "month", "weekday")


class BadTask(ValueError):
    """A description that contradicts itself; the message names the column."""


@dataclass(frozen=True)
class Column:
    """One column of a table as it comes.

    low, high: inclusive bounds of a number. categories: all that may occur; empty: anything. nullable: whether a value
    may be missing. unique: whether no value may occur twice. left_out: why no model sees this column; empty: it does.
    A date is seen as year, month and weekday. Text is only ever left out.
    """

    name: str
    kind: Kind = "number"
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = False
    unique: bool = False
    left_out: str = ""


@dataclass(frozen=True)
class Target:
    """The question: whether a row is positive, told from one column, which no model sees.

    Positive is a row whose value is greater than `above` (a number) or equal to `equals` (a category).
    names: what negative and positive rows are called.
    """

    column: str
    names: tuple[str, str]
    above: float | None = None
    equals: str | None = None


@dataclass(frozen=True)
class CsvFormat:
    """How the CSV files of a task are written, beyond what can be seen from them. dates: as strptime has it."""

    dates: str = "%Y-%m-%d"


@dataclass(frozen=True)
class TableTask:
    """A table, the question about it, and the models that answer it.

    name: prefix of the assets. embedded: the table that comes with the project, if any. csv: how files are written;
    None: there are none, and the embedded table is all. days: new column -> (from, to), two dates, of which the second
    is in no row before the first. models: the settings of each kind of model by its name. parts: share of the rows of
    each part, in order; "train" and "test" are needed, "validation" may stand between them.
    """

    name: str
    columns: tuple[Column, ...]
    target: Target
    models: Mapping[str, Any]
    embedded: "Callable[[], pd.DataFrame] | None" = None
    csv: CsvFormat | None = None
    days: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "test": 0.2})
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises BadTask."""
        _check(self)

    def column(self, name: str) -> Column:
        """The description of a column. Raises KeyError."""
        return {column.name: column for column in self.columns}[name]

    @property
    def seen(self) -> tuple[Column, ...]:
        """The columns that models see, dates as they come."""
        return tuple(each for each in self.columns if not each.left_out and each.name != self.target.column)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Feature columns that are numbers, those made from dates among them."""
        return (*(each.name for each in self.seen if each.kind == "number"), *self.made)

    @property
    def made(self) -> tuple[str, ...]:
        """Feature columns that are made from dates."""
        dates = [date_part(each.name, part) for each in self.seen if each.kind == "date" for part in DATE_PARTS]
        return (*self.days, *dates)

    @property
    def categories(self) -> tuple[str, ...]:
        """Feature columns that are categories."""
        return tuple(each.name for each in self.seen if each.kind == "category")

    @property
    def features(self) -> tuple[str, ...]:
        """All that a model sees, in order."""
        return (*self.numbers, *self.categories)

    @property
    def is_prepared(self) -> bool:
        """Whether new columns are made before anything is learned, which is then an asset of its own."""
        return bool(self.days) or any(each.kind == "date" for each in self.seen)

    @property
    def left_out(self) -> dict[str, str]:
        """Columns that no model sees -> why."""
        why = {each.name: each.left_out for each in self.columns if each.left_out}
        return {self.target.column: "the answer itself", **why}


def date_part(column: str, part: str) -> str:
    """The name of a column that holds a part of a date: Order Date, year -> Order Date year."""
    return f"{column} {part}"


def _check(task: TableTask) -> None:
    names = [column.name for column in task.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadTask(f"{task.name}: columns described twice: {', '.join(twice)}")
    named = {task.target.column, *(date for pair in task.days.values() for date in pair)}
    if unknown := sorted(named - set(names)):
        raise BadTask(f"{task.name}: {', '.join(unknown)} is used and not described; add it to columns")
    added = (TARGET, PART, *task.made)
    if clash := sorted({name for name in added if name in names or added.count(name) > 1}):
        raise BadTask(f"{task.name}: {', '.join(clash)} is the name of a column that is added: rename yours")
    for column in task.columns:
        _check_column(column, task.name)
    for new, pair in task.days.items():
        if wrong := [name for name in pair if task.column(name).kind != "date"]:
            raise BadTask(f"{task.name}: {new} counts days, and {', '.join(wrong)} is no date: give its kind as date")
    if (task.target.above is None) == (task.target.equals is None):
        raise BadTask(f"{task.name}: the target has either `above` or `equals`")
    _check_target(task)
    if text := [each.name for each in task.seen if each.kind == "text"]:
        raise BadTask(
            f"{task.name}: {', '.join(text)} is text, which no model reads: say in left_out why, or which kind"
        )
    if not {"train", "test"} <= set(task.parts) <= {"train", "validation", "test"}:
        raise BadTask(f"{task.name}: parts are train, test and perhaps validation, not {', '.join(task.parts)}")
    if min(task.parts.values()) <= 0 or abs(sum(task.parts.values()) - 1) > 1e-9:
        raise BadTask(f"{task.name}: the shares of the parts are above 0 and sum to 1, not {dict(task.parts)}")
    if not task.embedded and not task.csv:
        raise BadTask(f"{task.name}: it has neither an embedded table nor a CSV format: where would rows come from?")
    if wrong := [name for name in (task.name, *task.models) if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]:
        raise BadTask(f"{task.name}: {', '.join(wrong)} is no name for assets: write lower case letters, digits and _")
    if clash := sorted(RESERVED & set(task.models)):
        raise BadTask(f"{task.name}: {', '.join(clash)} is the name of another asset or input: rename the model")
    if not task.models:
        raise BadTask(f"{task.name}: it has no models; usual_models() are four")
    if not task.features:
        raise BadTask(f"{task.name}: no column is left that a model could see")


def _check_column(column: Column, task: str) -> None:
    bounds = [bound for bound in (column.low, column.high) if bound is not None]
    if bounds and column.kind != "number":
        raise BadTask(f"{task}: {column.name} is a {column.kind}: low and high are for numbers only")
    if bounds != sorted(bounds):
        raise BadTask(
            f"{task}: {column.name} is at least {column.low:g} and at most {column.high:g}: no number is both"
        )
    if column.categories and column.kind != "category":
        raise BadTask(
            f"{task}: {column.name} is a {column.kind}, and categories are those of a category: give that kind"
        )


def _check_target(task: TableTask) -> None:
    target = task.column(task.target.column)
    if target.nullable:
        raise BadTask(f"{task.name}: the target {target.name} is nullable: what would a row without an answer be?")
    if (task.target.above is not None) != (target.kind == "number"):
        raise BadTask(f"{task.name}: the target {target.name} is a {target.kind}: `above` is for numbers, `equals` not")
    if task.target.equals is not None and target.categories and task.target.equals not in target.categories:
        raise BadTask(f"{task.name}: {task.target.equals!r} is none of the categories of {target.name}")
