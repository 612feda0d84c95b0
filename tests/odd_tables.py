"""Tables as nobody expects them, each with a target: every picture has to make sense of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

ROWS = 60
LONG = "W" * 80
NAMES = ("no $x$", "a positive class\nwith a name that is rather long, for a class")


class Odd(NamedTuple):
    """A table and whether its rows are positive."""

    frame: pd.DataFrame
    target: np.ndarray


def _numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS)


def _frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns, index=range(ROWS))


TARGET = _numbers(0) > 0.5
LONG_TAILS = 10 ** np.random.default_rng(1).uniform(0, 6, ROWS)
GAPS = np.random.default_rng(2).random((ROWS, 60)) < np.linspace(0, 1, 60)
DTYPES = _frame(
    whole=pd.array([1, 2, None] * 20, "Int64"),
    boolean=pd.array([True, False, None] * 20, "boolean"),
    text=pd.array(["a", "b", None] * 20, "string"),
    category=pd.Categorical(list("ab") * 30, list("abz")),
    numbered=pd.Categorical([1, 2] * 30),
    day=pd.date_range("2020", periods=ROWS),
    span=pd.to_timedelta(range(ROWS), "D"),
    flag=TARGET,
    mixed=[1, "1", 2.5] * 20,
    complex=_numbers(0) + 1j,
)
STRANGE = {r"$\frac{a}{": _numbers(1), "two\nlines": _numbers(2), LONG: _numbers(3), "": _numbers(4), 3: _numbers(5)}
STRANGE |= {
    "{x} % _^": _numbers(6),
    "売上": ["$x$", "a\nb", "売上"] * 20,
    LONG[1:]: [LONG + str(i % 20) for i in range(60)],
}

TABLES = {
    "no columns": Odd(pd.DataFrame(index=range(ROWS)), TARGET),
    "no rows": Odd(pd.DataFrame({"a": [], "b": pd.Series([], dtype=str)}), TARGET[:0]),
    "one row": Odd(pd.DataFrame({"a": [1.0], "b": ["x"]}), np.array([1])),
    "two rows": Odd(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": [1, 1]}), np.array([0, 1])),
    "one numeric column": Odd(_frame(a=_numbers(1)), TARGET),
    "no numeric column": Odd(_frame(a=list("xyz") * 20), TARGET),
    "constant columns": Odd(_frame(a=3.25, b=_numbers(1), c="x"), TARGET),
    "empty columns": Odd(_frame(a=np.nan, b=_numbers(1), c=None), TARGET),
    "nothing at all": Odd(_frame(a=np.nan), TARGET),
    "one class": Odd(_frame(a=_numbers(1), b=list("xyz") * 20), np.zeros(ROWS, int)),
    "strange names": Odd(pd.DataFrame(STRANGE), TARGET),
    "twins": Odd(pd.DataFrame(np.c_[_numbers(1), _numbers(2)], columns=["a", "a"]), TARGET),
    "dtypes": Odd(DTYPES, TARGET),
    "infinite and huge": Odd(
        _frame(a=np.where(TARGET, np.inf, 1.0), b=_numbers(1) * 1e300, c=_numbers(2) * 1e-300), TARGET
    ),
    "outliers": Odd(_frame(a=[1e9, *_numbers(1)[1:]], b=LONG_TAILS, c=-LONG_TAILS, d=[1] + [0] * (ROWS - 1)), TARGET),
    "200 columns": Odd(pd.DataFrame(np.c_[tuple(map(_numbers, range(200)))]).add_prefix("a column, number "), TARGET),
    "60 columns with gaps": Odd(pd.DataFrame(np.where(GAPS, np.nan, 1.0)).add_prefix("a rather long name, "), TARGET),
    "30 columns of categories": Odd(
        _frame(**{f"c{i}": np.where(_numbers(i) > 0, "a", "b") for i in range(30)}), TARGET
    ),
    "only names": Odd(_frame(**{f"{LONG} {j}": [f"{j}, {i}" for i in range(ROWS)] for j in range(20)}), TARGET),
}
