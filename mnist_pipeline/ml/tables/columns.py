"""What a table's columns hold and have to do with a target of two classes: the numbers behind the pictures.

Categories are in categories.py; nothing is drawn here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_pipeline.ml.tables.scores import roc_auc

if TYPE_CHECKING:
    import pandas as pd

FEW = 20  # values, of which none is left out of a picture


class Numbers(NamedTuple):
    """A numeric column: float64, NaN where there is no finite number."""

    name: str
    values: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        """The values that there are."""
        return self.values[~np.isnan(self.values)]


@dataclass(frozen=True)
class Bins:
    """Where a histogram is drawn: its edges, whether they are even in logarithms, and what lies outside of them."""

    edges: np.ndarray
    logarithmic: bool
    below: int
    above: int

    @property
    def places(self) -> np.ndarray:
        """Where the edges are drawn, from 0 to 1."""
        scale = np.log(self.edges) if self.logarithmic else self.edges
        return (scale - scale[0]) / (scale[-1] - scale[0])

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Share of the values in each bin; zeros where there are no values."""
        return np.histogram(values, self.edges)[0] / max(1, len(values))


def is_positive(target: "np.ndarray | pd.Series | Sequence[int]", rows: int) -> np.ndarray:
    """The target as booleans; ValueError where it has another length than the table, or other values than 0 and 1."""
    values = np.asarray(target)
    if values.shape != (rows,):
        raise ValueError(f"The target has shape {values.shape}, the table {rows} rows: hand on one value a row.")
    if not np.isin(values, (0, 1)).all():
        raise ValueError("The target holds other values than 0 and 1 (or False and True): encode its classes first.")
    return values.astype(bool)


def numeric(frame: "pd.DataFrame") -> list[Numbers]:
    """The columns of numbers, booleans not among them; infinities count as missing."""
    from pandas.api.types import is_bool_dtype, is_complex_dtype, is_numeric_dtype

    found = []
    for name, column in frame.items():
        if is_numeric_dtype(column) and not is_bool_dtype(column) and not is_complex_dtype(column):
            values = column.to_numpy(np.float64, na_value=np.nan)
            found.append(Numbers(str(name), np.where(np.isfinite(values), values, np.nan)))
    return found


def missing(frame: "pd.DataFrame") -> list[tuple[str, int]]:
    """Rows without a value of every column that has such, most first."""
    counts = [(str(name), int(column.isna().sum())) for name, column in frame.items()]
    return sorted((each for each in counts if each[1]), key=lambda each: -each[1])


def separation(values: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive row has the larger value (ROC-AUC of the column alone, ties count half).

    Rows without a value are left out; NaN where a class has no row.
    """
    there = ~np.isnan(values)
    return roc_auc(positive[there], values[there])


def by_separation(columns: Iterable[Numbers], positive: np.ndarray) -> list[tuple[Numbers, float]]:
    """Columns with max(AUC, 1 - AUC), best first; those for which there is none come last."""
    scored = [(column, separation(column.values, positive)) for column in columns]
    both_ways = [(column, max(auc, 1 - auc)) for column, auc in scored]
    return sorted(both_ways, key=lambda each: -np.nan_to_num(each[1], nan=-1.0))


def bins_of(values: np.ndarray, most: int = 24) -> Bins:
    """Bins from the 1st to the 99th percentile where more would squash them, else over everything.

    Whole numbers of a small range get a bin each; a long tail of positive numbers is drawn in logarithms.
    values: finite, not empty.
    """
    first, middle, last = np.percentile(values, (0, 50, 100))
    low, high = np.percentile(values, 1, method="higher"), np.percentile(values, 99, method="lower")
    if len(values) < FEW or low >= high or last - first <= 1.5 * (high - low):
        low, high = first, last
    logarithmic = low > 0 and high >= 100 * low and middle - low < 0.1 * (high - low)
    edges = _edges(low, high, most, bool(logarithmic), whole=bool((values == np.round(values)).all()))
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return Bins(edges, bool(logarithmic), int((values < edges[0]).sum()), int((values > edges[-1]).sum()))


def _edges(low: float, high: float, most: int, logarithmic: bool, whole: bool) -> np.ndarray:
    if low == high:
        return low + np.array([-0.5, 0.5]) * (abs(low) or 1.0)
    if whole and high - low < most and max(-low, high) < 2**50:  # beyond that a half is lost
        return np.arange(low, high + 2) - 0.5
    return np.geomspace(low, high, most + 1) if logarithmic else np.linspace(low, high, most + 1)


def rank_correlations(columns: Sequence[Numbers], positive: np.ndarray) -> np.ndarray:
    """Spearman's, [n + 1, n + 1], the target first; NaN where a column is constant. Pairs with a gap are left out."""
    import pandas as pd

    series = [pd.Series(positive, dtype=float), *(pd.Series(column.values) for column in columns)]
    return pd.concat([each.rank() for each in series], axis=1).corr().to_numpy()


def alike_together(correlations: np.ndarray) -> np.ndarray:
    """An order in which columns that say the same stand beside each other: average linkage over 1 - |r|."""
    if len(correlations) < 3:
        return np.arange(len(correlations))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    apart = np.clip(1 - np.abs(np.nan_to_num(correlations)), 0, 1)
    np.fill_diagonal(apart, 0)
    pairs = squareform(apart, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(pairs, "average"), pairs))
