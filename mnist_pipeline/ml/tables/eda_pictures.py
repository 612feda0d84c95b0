"""Pictures of a table before anything is learned from it, as PNG bytes. What they show is computed in columns.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.drawing import BLUE, INK, ORANGE, PALE, WIDE, fitted, inches_of, message, png, sheet
from mnist_pipeline.ml.tables import columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    Target = np.ndarray | pd.Series | Sequence[int]

FEW = 16  # columns and target, up to which correlations are written into their cells
MOST = 40  # columns that a picture shows; the rest is named in a line of words
SMALL = 7.5  # points
THIN = 0.015  # inches: the smallest bar that can be seen


def target_balance(target: "Target", names: tuple[str, str]) -> bytes:
    """Rows of either class as bars, with their number and share. names: of the negative and the positive class."""
    positive = columns.is_positive(target, len(target))
    if not len(positive):
        return message("No rows: nothing to show.")
    counts = [int((~positive).sum()), int(positive.sum())]
    bars = [(name, count / len(positive), f"{count:,} rows") for name, count in zip(names, counts, strict=True)]
    return _bars_of_all(bars, (BLUE, ORANGE), f"Of all {len(positive):,} rows.")


def missingness(frame: "pd.DataFrame") -> bytes:
    """Share of the rows without a value, a bar a column; the columns that lack nothing are counted in words."""
    rows, width = frame.shape
    gaps = columns.missing(frame)
    if not gaps:
        return message(f"Nothing is missing: {rows:,} rows, {width:,} columns.")
    bars = [(name, count / rows, f"{count:,} rows") for name, count in gaps[:MOST]]
    words = f"Rows without a value, of {rows:,}. "
    words += f"Not shown: {len(gaps) - MOST:,} columns that lack fewer. " * (len(gaps) > MOST)
    return _bars_of_all(bars, (BLUE,), f"{words}Complete columns: {width - len(gaps):,} of {width:,}.")


def _bars_of_all(bars: Sequence[tuple[str, float, str]], colors: Sequence[str], words: str) -> bytes:
    """Bars on a track that stands for all rows. bars: name, share, what is said of it."""
    from matplotlib.patches import Rectangle

    said = [f"{_percent(share)}, {text}" for _, share, text in bars]
    names = [fitted(name, 2.5, 9) for name, *_ in bars]
    left = 0.3 + max(inches_of(name, 9) for name in names)
    wide = WIDE - left - 0.3 - max(inches_of(text, 9) for text in said)
    figure, axes = sheet(WIDE, 0.45 + 0.26 * len(bars))
    for i, (_, share, _) in enumerate(bars):
        y, color = 0.25 + 0.26 * i, colors[i % len(colors)]
        axes.add_artist(Rectangle((left, y - 0.09), wide, 0.18, facecolor=PALE))
        axes.add_artist(Rectangle((left, y - 0.09), max(wide * share, THIN * bool(share)), 0.18, facecolor=color))
        axes.text(left - 0.08, y, names[i], ha="right", va="center_baseline", fontsize=9)
        axes.text(left + wide + 0.1, y, said[i], va="center_baseline", fontsize=9)
    axes.text(0.2, 0.28 + 0.26 * len(bars), words, fontsize=SMALL, color=INK, va="center")
    return png(figure)


def correlations(frame: "pd.DataFrame", target: "Target", names: tuple[str, str]) -> bytes:
    """Spearman's correlations of numeric columns and the target as a heat map, columns that say the same together.

    names: of the negative and the positive class; the target is 1 for the positive one.
    """
    positive = columns.is_positive(target, len(frame))
    numbers = [column for column, _ in columns.by_separation(columns.numeric(frame), positive)]
    if not numbers or not len(positive):
        return message("No numeric columns: nothing to show.")
    shown = numbers[:MOST]
    matrix = columns.rank_correlations(shown, positive)
    order = np.concatenate([[0], 1 + columns.alike_together(matrix[1:, 1:])])
    every = (f"target: {names[1]}", *(column.name for column in shown))
    fit = [fitted(every[i], 1.6, _size(len(order)), "normal" if i else "bold") for i in order]
    words = "rank correlation (Spearman)"
    words += "; grey: none, a column is constant or empty" * bool(np.isnan(matrix).any())
    words += f"; the {len(shown)} of {len(numbers):,} columns that separate best" * (len(numbers) > len(shown))
    return _heat_map(matrix[np.ix_(order, order)], fit, words)


def _size(cells: int) -> float:
    return 9 if cells <= FEW else SMALL


def _heat_map(matrix: np.ndarray, names: Sequence[str], words: str) -> bytes:
    """On a sheet, since tick labels for 30 columns and a layout to hold them take a third of a second."""
    longest = max(inches_of(name, _size(len(names)), "normal" if i else "bold") for i, name in enumerate(names))
    left, top, wide = longest + 0.25, 0.3, min(WIDE - longest - 0.95, 1.2 * len(names))
    tall = min(0.42, wide / len(names)) * len(names)
    figure, axes = sheet(WIDE, top + tall + longest * (0.6 if len(names) <= FEW else 1) + 0.25)
    extent = (left, left + wide, top + tall, top)
    axes.imshow(matrix, cmap=_blue_to_orange(), vmin=-1, vmax=1, aspect="auto", extent=extent)
    middle = (np.arange(len(names)) + 0.5) / len(names)
    across, down = left + wide * middle, top + tall * middle
    _name_cells(axes, names, across, down)
    if len(names) <= FEW:
        _write_cells(axes, matrix, across, down)
    axes.plot([left, left + wide], [(down[0] + down[1]) / 2] * 2, color="black", lw=1)  # sets the target apart
    axes.plot([(across[0] + across[1]) / 2] * 2, [top, top + tall], color="black", lw=1)
    axes.text(min(left, WIDE - 0.2 - inches_of(words, SMALL)), top - 0.1, words, fontsize=SMALL, color=INK)
    _color_bar(axes, left + wide + 0.12, top, min(tall, 3.0))
    return png(figure)


def _name_cells(axes: "Axes", names: Sequence[str], across: np.ndarray, down: np.ndarray) -> None:
    """Beside the rows and below the columns, which have the same names: few are slanted, many stand upright."""
    left, below = across[0] * 1.5 - across[1] * 0.5 - 0.06, down[-1] * 1.5 - down[-2] * 0.5 + 0.06
    few = len(names) <= FEW
    for i, name in enumerate(names):
        style: dict[str, Any] = {"fontsize": _size(len(names)), "weight": "bold" if i == 0 else "normal", "ha": "right"}
        axes.text(left, down[i], name, va="center_baseline", **style)
        style |= {"rotation": 35, "va": "top"} if few else {"rotation": 90, "va": "center"}
        axes.text(across[i], below, name, rotation_mode="anchor", **style)


def _write_cells(axes: "Axes", matrix: np.ndarray, across: np.ndarray, down: np.ndarray) -> None:
    for (i, j), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            rounded = f"{round(value, 2) + 0.0:.2f}"  # no -0.00
            axes.text(across[j], down[i], rounded, ha="center", va="center", fontsize=SMALL)


def _color_bar(axes: "Axes", left: float, top: float, tall: float) -> None:
    """From 1 down to -1."""
    shades = np.linspace(1, -1, 101)[:, None]
    axes.imshow(shades, cmap=_blue_to_orange(), aspect="auto", extent=(left, left + 0.13, top + tall, top))
    for value in (1, 0.5, 0, -0.5, -1):
        axes.text(left + 0.18, top + (1 - value) / 2 * tall, f"{value:g}", fontsize=SMALL, va="center")


def _blue_to_orange() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("blue to orange", [BLUE, "white", ORANGE])
    return colors.with_extremes(bad="#d0d0d0")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
