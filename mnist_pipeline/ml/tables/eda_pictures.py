"""Pictures of a table before anything is learned from it, as PNG bytes. What they show is computed in columns.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.drawing import BLUE, INK, ORANGE, WIDE, labels, message, panel, png
from mnist_pipeline.ml.tables import columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    Target = np.ndarray | pd.Series | Sequence[int]

MOST = 40  # columns that a picture shows; the rest is named in a line of words
SMALL = 7.5  # points


def target_balance(target: "Target", names: tuple[str, str]) -> bytes:
    """Rows of either class as bars, with their number and share. names: of the negative and the positive class."""
    positive = columns.is_positive(target, len(target))
    if not len(positive):
        return message("No rows: there is nothing to show.")
    counts = [int((~positive).sum()), int(positive.sum())]
    figure, axes = panel(WIDE, 1.5)
    axes.barh(labels(names), counts, 0.7, color=(BLUE, ORANGE))
    for at, count in enumerate(counts):
        axes.text(count, at, f"  {count:,} rows, {count / len(positive):.1%}", va="center")
    axes.set_xlim(0, max(counts) * 1.35)
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    return png(figure)


def missingness(frame: "pd.DataFrame") -> bytes:
    """Share of the rows without a value, a bar a column; the columns that lack nothing are counted in words."""
    rows, width = frame.shape
    gaps = columns.missing(frame)
    if not gaps:
        return message(f"Nothing is missing: {rows:,} rows, {width:,} columns.")
    shown = gaps[:MOST]
    figure, axes = panel(WIDE, 0.9 + 0.22 * len(shown))
    at = range(len(shown))
    axes.barh(at, [count / rows for _, count in shown], 0.7, color=BLUE)
    axes.set_yticks(at, labels(name for name, _ in shown))
    for i, (_, count) in enumerate(shown):
        axes.text(count / rows, i, f" {count:,} of {rows:,}, {_percent(count / rows)}", va="center", fontsize=SMALL)
    axes.set_xlim(0, 1.35 * shown[0][1] / rows)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda share, _: _percent(share))
    whole = f"{width - len(gaps):,} other columns lack nothing"
    hidden = f"; {len(gaps) - len(shown):,} more lack less" if len(gaps) > len(shown) else ""
    axes.set_xlabel(f"share of the rows without a value ({whole}{hidden})")
    return png(figure)


def correlations(frame: "pd.DataFrame", target: "Target") -> bytes:
    """Spearman's correlations of numeric columns and the target as a heat map, columns that say the same together."""
    positive = columns.is_positive(target, len(frame))
    numbers = [column for column, _ in columns.by_separation(columns.numeric(frame), positive)]
    if not numbers or not len(positive):
        return message("No numeric columns: nothing to show.")
    shown = numbers[:MOST]
    matrix = columns.rank_correlations(shown, positive)
    order = np.concatenate([[0], 1 + columns.alike_together(matrix[1:, 1:])])
    names = ["target", *(column.name for column in shown)]
    figure, axes = panel(WIDE, min(6.8, 2.2 + 0.3 * len(order)))
    _heat(axes, matrix[np.ix_(order, order)], labels([names[i] for i in order], longest=28))
    words = "rank correlation (Spearman)"
    words += "; grey: a column that is constant" * bool(np.isnan(matrix).any())
    words += f"; the {len(shown)} of {len(numbers):,} columns that separate best" * (len(numbers) > len(shown))
    axes.set_title(words, fontsize=SMALL, color=INK, loc="right")
    return png(figure)


def _heat(axes: "Axes", matrix: np.ndarray, names: Sequence[str]) -> None:
    """The cells with their colour bar, and in few cells the numbers; a line sets the target apart."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("blue to orange", [BLUE, "white", ORANGE]).with_extremes(bad="#d0d0d0")
    cells = axes.imshow(matrix, cmap=colors, vmin=-1, vmax=1, aspect="auto")
    size = SMALL if len(names) > 16 else 9
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 16 else 35, fontsize=size)
    if len(names) <= 16:
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.spines[:].set_visible(False)
    axes.axhline(0.5, color="black", lw=1)
    axes.axvline(0.5, color="black", lw=1)
    if len(names) <= 16:
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                axes.text(column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=SMALL)
    bar = axes.figure.colorbar(cells, ax=axes, shrink=0.6, aspect=25, pad=0.01, ticks=(-1, -0.5, 0, 0.5, 1))
    bar.ax.tick_params(labelsize=SMALL)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
