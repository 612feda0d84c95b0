"""The door of a table: every value has the type, range and category that its column says, or the table stays out.

The schema is pandera's, so that all that is wrong is found at once.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.lean_imports import without
from mnist_pipeline.ml.tables.reading import ROW, SHOWN, BadTable
from mnist_pipeline.ml.tables.task import Column, TableTask

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

LISTED = 1_000  # bad values that an error carries
LONGEST = 100  # characters of each
MISSING = "missing"
_WORDS = {"not_nullable": MISSING, "field_uniqueness": "there more than once"}  # for pandera's own


class BadRows(BadTable):
    """Values that are not as their columns say. rows: each as {"row", "column", "value", "fault"}, at most 1,000."""

    def __init__(self, message: str, rows: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.rows = rows


def schema_of(task: TableTask) -> "pa.DataFrameSchema":
    """What pandera has to find in every table of this task."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {column.name: _column(column, _role(column, task)) for column in task.columns},
        index=pa.Index(int, name=ROW),
        strict=True,
        name=task.name,
    )


def checked(frame: "pd.DataFrame", task: TableTask, name: str) -> "pd.DataFrame":
    """The table with its types. frame: may be text. name: of the file, for messages.

    Raises BadRows listing all bad values at once.
    """
    from pandera.errors import SchemaErrors

    typed, listed = _typed(frame, task)
    listed += _out_of_order(typed, frame, task)
    found = {(row, column): (value, fault) for row, column, value, fault in listed}
    try:
        with without("hypothesis"):  # 0.1 s, for made-up tables
            typed = schema_of(task).validate(typed, lazy=True)
    except SchemaErrors as errors:
        for case in errors.failure_cases.itertuples():
            raw = frame.at[case.index, case.column]
            fault = _WORDS.get(case.check, case.check)
            found.setdefault((case.index, case.column), ("" if fault == MISSING else _shown(raw), fault))
    if found:
        faults = _ordered(found, task)
        raise BadRows(_told(faults, name), faults[:LISTED])
    return typed


def _typed(frame: "pd.DataFrame", task: TableTask) -> tuple["pd.DataFrame", list[tuple[Any, str, str, str]]]:
    """Text as numbers and dates; what cannot be read so is missing, and listed as (row, column, value, fault)."""
    import pandas as pd

    typed, faults = frame.copy(), []
    for column in task.columns:
        raw = frame[column.name]
        if column.kind == "number":
            typed[column.name], fault = pd.to_numeric(raw, errors="coerce").astype(float), "not a number"
        elif column.kind == "date":
            form = task.csv.dates if task.csv else None
            typed[column.name], fault = pd.to_datetime(raw, format=form, errors="coerce"), f"no date like {form}"
        else:
            continue
        unread = raw[typed[column.name].isna() & raw.notna()]
        faults += [(row, column.name, _shown(value), fault) for row, value in unread.items()]
    return typed, faults


def _out_of_order(typed: "pd.DataFrame", frame: "pd.DataFrame", task: TableTask) -> list[tuple[Any, str, str, str]]:
    """Dates between which days are counted, and the later one comes first: as (row, column, value, fault).

    Beside the schema, which would say of such a row neither its column nor its value.
    """
    return [
        (row, end, _shown(value), f"before {begin}")
        for begin, end in task.days.values()
        for row, value in frame.loc[typed[end] < typed[begin], end].items()
    ]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _role(column: Column, task: TableTask) -> str:
    """What a column is for, for the page of the asset."""
    why = task.left_out.get(column.name)
    return f"no model sees it: {why}" if why else ""


def _column(column: Column, description: str) -> "pa.Column":
    import pandera.pandas as pa

    checks = []
    if column.low is not None:
        checks.append(_check(pa.Check.ge, column.low, f"below {column.low:g}", f"at least {column.low:g}"))
    if column.high is not None:
        checks.append(_check(pa.Check.le, column.high, f"above {column.high:g}", f"at most {column.high:g}"))
    if column.categories:
        names = ", ".join(column.categories)
        checks.append(_check(pa.Check.isin, column.categories, f"none of {names}", names))
    if column.kind == "number":
        checks.append(_check(pa.Check, _is_finite, "not finite", "finite"))
    kinds = {"number": float, "date": "datetime64[ns]", "category": str, "text": str}
    return pa.Column(
        kinds[column.kind],
        checks,
        nullable=column.nullable,
        unique=column.unique,
        report_duplicates="all",
        description=description,
    )


def _check(kind: Any, bound: Any, fault: str, description: str) -> "pa.Check":
    """fault: what a bad value is. description: what a good one is, for the page of the asset."""
    return kind(bound, error=fault, description=description)


def _is_finite(values: "pd.Series") -> Any:
    import numpy as np

    return ~np.isinf(values)


def _ordered(found: dict[tuple[Any, str], tuple[str, str]], task: TableTask) -> list[dict[str, Any]]:
    """By row, then by column."""
    order = {column.name: i for i, column in enumerate(task.columns)}
    places = sorted(found, key=lambda place: (place[0], order[place[1]]))
    return [
        {"row": int(row), "column": column, "value": found[row, column][0], "fault": found[row, column][1]}
        for row, column in places
    ]


def _told(faults: list[dict[str, Any]], name: str) -> str:
    rows = len({each["row"] for each in faults})
    shown = [_line(each) for each in faults[:SHOWN]]
    if len(faults) > SHOWN:
        kinds = Counter((each["column"], each["fault"]) for each in faults[SHOWN:])
        shown += [f"and {count:,} more in {column}: {fault}" for (column, fault), count in kinds.most_common(SHOWN)]
    return f"{name}: {len(faults):,} bad values in {rows:,} rows (the header is row 1):\n  " + "\n  ".join(shown)


def _line(fault: dict[str, Any]) -> str:
    value = f"{fault['value']!r} " if fault["value"] else ""
    return f"row {fault['row']}, {fault['column']}: {value}is {fault['fault']}"
