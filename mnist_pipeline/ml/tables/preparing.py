"""From checked rows to what models learn from: features, the target, the parts. Nothing is fitted to rows here."""

import hashlib
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.tables.reading import FIRST_ROW, ROW, BadTable
from mnist_pipeline.ml.tables.task import DATE_PARTS, PART, TARGET, TableTask, date_part

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FEWEST_TRAINED = 5  # a fold of five has one of each class then
FEWEST = 10  # rows of each class, so that every part and every fold has some


def counted(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a table that comes from no file, counted as if it did."""
    rows = frame.set_axis(range(FIRST_ROW, FIRST_ROW + len(frame)), axis=0)
    return rows.rename_axis(ROW)


def positive(frame: "pd.DataFrame", task: TableTask) -> "np.ndarray":
    """Whether each row is positive: bool [rows]."""
    values = frame[task.target.column]
    if task.target.equals is not None:
        return (values == task.target.equals).to_numpy()
    return (values > task.target.above).to_numpy()


def sampled(frame: "pd.DataFrame", task: TableTask, fraction: float, seed: int) -> "pd.DataFrame":
    """A share of the rows of each class, in their order."""
    if fraction >= 1:
        return frame
    classes = positive(frame, task)
    return frame.groupby(classes, sort=False).sample(frac=fraction, random_state=seed).sort_index()


def prepared(frame: "pd.DataFrame", task: TableTask) -> "pd.DataFrame":
    """Features and the target, bool: dates as year, month and weekday (0: Monday), days between dates.

    Raises BadTable when one class has too few rows to learn and to measure.
    """
    columns: dict[str, Any] = {}
    for column in task.seen:
        values = frame[column.name]
        if column.kind == "date":
            columns |= {date_part(column.name, part): getattr(values.dt, part).astype(float) for part in DATE_PARTS}
        else:
            columns[column.name] = values
    for name, (begin, end) in task.days.items():
        columns[name] = (frame[end] - frame[begin]).dt.days.astype(float)
    target = positive(frame, task)
    _check_classes(target, task)
    import pandas as pd

    return pd.DataFrame({name: columns[name] for name in task.features} | {TARGET: target}, index=frame.index)


def split(table: "pd.DataFrame", task: TableTask, seed: int) -> "pd.DataFrame":
    """The same rows with a column that says the part of each; every part has its share of each class."""
    import numpy as np

    draw = np.random.default_rng(seed)
    parts = np.empty(len(table), object)
    bounds = np.cumsum(list(task.parts.values()))[:-1]
    for answer in (False, True):
        rows = draw.permutation(np.flatnonzero(table[TARGET].to_numpy() == answer))
        for part, chosen in zip(task.parts, np.split(rows, np.round(bounds * len(rows)).astype(int)), strict=True):
            parts[chosen] = part
    cut = table.assign(**{PART: parts})
    _check_parts(cut, task)
    return cut


def _check_parts(table: "pd.DataFrame", task: TableTask) -> None:
    """Raises BadTable for a part without rows of both classes."""
    for part in task.parts:
        _features, target = part_of(table, part)
        fewest = FEWEST_TRAINED if part == "train" else 1
        if min(target.sum(), (~target).sum()) < fewest:
            raise BadTable(
                f"{task.name}: part {part!r} has {target.sum():,} {task.target.names[1]} and {(~target).sum():,} "
                f"{task.target.names[0]} rows; {fewest} of each are needed. Take more rows, or give that part more"
            )


def part_of(table: "pd.DataFrame", *names: str) -> "tuple[pd.DataFrame, np.ndarray]":
    """Features and target (bool) of one part, or of several together."""
    rows = table[table[PART].isin(names)]
    return rows.drop(columns=[PART, TARGET]), rows[TARGET].to_numpy()


def shared_rows(table: "pd.DataFrame") -> int:
    """Rows of the test part whose features also stand in another part."""
    features = [name for name in table if name not in (PART, TARGET)]
    tested = table[PART] == "test"
    keys = table[features].astype(str).agg("\0".join, axis=1)
    return int(keys[tested].isin(set(keys[~tested])).sum())


def digest(frame: "pd.DataFrame") -> str:
    """sha256 over column names, types, rows and values."""
    import pandas as pd

    found = hashlib.sha256(repr([(str(name), str(kind)) for name, kind in frame.dtypes.items()]).encode())
    found.update(pd.util.hash_pandas_object(frame, index=True).to_numpy().tobytes())
    return found.hexdigest()


def _check_classes(target: "np.ndarray", task: TableTask) -> None:
    counts = {task.target.names[0]: int((~target).sum()), task.target.names[1]: int(target.sum())}
    if min(counts.values()) < FEWEST:
        told = " and ".join(f"{count:,} {name}" for name, count in counts.items())
        raise BadTable(
            f"{task.name}: {told} rows, told from {task.target.column!r}; at least {FEWEST} of each are needed. "
            "Is the column right, is the sample too small?"
        )
