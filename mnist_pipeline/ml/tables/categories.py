"""Categories and how often their rows are positive: the numbers behind the pictures. Nothing is drawn here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SCATTERED = 0.1  # of the rows: if the categories that can be shown hold less, as with names and numbers of orders


class Rate(NamedTuple):
    """Rows of a category, and how many of them are positive."""

    name: str
    rows: int
    positive: int
    stands_for: int = 1  # categories: several where the rare ones are gathered, 0 for rows without a value

    @property
    def share(self) -> float:
        """Positive rows among all of the category, which is never empty."""
        return self.positive / self.rows


class Categories(NamedTuple):
    """A column of categories, the highest share first; gathered and missing ones last."""

    name: str
    rates: list[Rate]

    @property
    def number(self) -> int:
        """Different categories that the column holds."""
        return sum(rate.stands_for for rate in self.rates)

    @property
    def scattered(self) -> bool:
        """Whether nearly all rows are in categories too rare to be shown, or nearly every row in one of its own."""
        gathered, rows = (sum(rate.rows for rate in self.rates if rate.stands_for > few) for few in (1, 0))
        return gathered > (1 - SCATTERED) * rows or (gathered > 0 and rows < 2 * self.number)


def categorical(frame: "pd.DataFrame") -> "list[tuple[str, pd.Series]]":
    """The columns of texts, categories and booleans; neither numbers nor times."""
    from pandas.api.types import is_bool_dtype, is_object_dtype, is_string_dtype

    return [
        (str(name), column)
        for name, column in frame.items()
        if is_bool_dtype(column) or is_object_dtype(column) or is_string_dtype(column) or column.dtype == "category"
    ]


def rates(column: "pd.Series", positive: np.ndarray, most: int = 12) -> list[Rate]:
    """Positive rows of each category, the highest share first; of more than `most` the rarest are gathered."""
    codes, names = column.factorize()
    rows = np.bincount(codes + 1, minlength=len(names) + 1)
    hits = np.bincount(codes + 1, weights=positive, minlength=len(names) + 1).astype(int)
    by_size = 1 + np.argsort(-rows[1:], kind="stable")
    kept = by_size if len(names) <= most else by_size[: most - 1]
    rare = by_size[len(kept) :]
    found = [Rate(str(names[i - 1]), int(rows[i]), int(hits[i])) for i in kept]
    found.sort(key=lambda rate: (-rate.share, rate.name))
    if len(rare):
        found.append(Rate(f"other ({len(rare):,})", int(rows[rare].sum()), int(hits[rare].sum()), len(rare)))
    if rows[0]:
        found.append(Rate("missing", int(rows[0]), int(hits[0]), 0))
    return found


def association(of: Sequence[Rate]) -> float:
    """Cramér's V between such lines and the target: 0 for none, 1 if the category decides; 0 where all is one class."""
    rows, shares = np.array([rate.rows for rate in of]), np.array([rate.share for rate in of])
    whole = np.average(shares, weights=rows) if len(of) else 0.0
    if not 0 < whole < 1:
        return 0.0
    return float(np.sqrt(np.average((shares - whole) ** 2, weights=rows) / (whole * (1 - whole))))


def by_association(frame: "pd.DataFrame", positive: np.ndarray) -> list[Categories]:
    """The columns of categories, those first that tell most about the target."""
    found = [Categories(name, rates(column, positive)) for name, column in categorical(frame)]
    return sorted(found, key=lambda each: -association(each.rates))
