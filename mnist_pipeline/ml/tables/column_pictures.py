"""A small drawing for every column of a table, all on one sheet, as PNG bytes. What they show is computed elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_pipeline.ml.drawing import BLUE, GREY, INK, ORANGE, WIDE, fitted, labels, message, png, sheet, wrapped
from mnist_pipeline.ml.metrics import wilson_interval
from mnist_pipeline.ml.tables import categories, columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Target = np.ndarray | pd.Series | Sequence[int]

MOST = 40  # numeric columns on a sheet
MOST_CATEGORICAL = 20
SMALL = 7.5  # points
TICK: dict[str, Any] = {"fontsize": SMALL - 1, "color": INK, "va": "top"}
LINE = 0.2  # inches from one category to the next


class Box(NamedTuple):
    """Where on a sheet, in inches from its upper left corner."""

    left: float
    top: float
    wide: float
    tall: float


def numeric_distributions(frame: "pd.DataFrame", target: "Target", names: tuple[str, str]) -> bytes:
    """A histogram a numeric column for either class, the column that separates them best (AUC) first."""
    positive = columns.is_positive(target, len(frame))
    ranked = columns.by_separation(columns.numeric(frame), positive)
    if not ranked or not len(positive):
        return message("No numeric columns: nothing to show.")
    shown = ranked[:MOST]
    across = 3 if len(shown) <= 6 else 4 if len(shown) <= 12 else 5
    top, tall, wide = 0.4, 1.2 if across == 5 else 1.5, (WIDE - 0.2) / across
    below = top + -(-len(shown) // across) * tall
    figure, axes = sheet(WIDE, below + 0.25)
    for i, (column, auc) in enumerate(shown):
        box = Box(0.2 + i % across * wide, top + i // across * tall, wide - 0.2, tall - 0.2)
        _histograms(axes, box, column, auc, positive)
    _legend(figure, [(BLUE, labels(names)[0]), (ORANGE, labels(names)[1])])
    words = (
        "Height: share of a class's rows. AUC: of the column alone, 0.5 is chance. ‹ ›: about 1 % of rows lie beyond."
    )
    _words(axes, below, [words + f" The best {len(shown)} of {len(ranked):,}." * (len(ranked) > len(shown))])
    return png(figure)


def category_rates(frame: "pd.DataFrame", target: "Target", names: tuple[str, str]) -> bytes:
    """Bars of the share of positive rows in each category, the column that tells most (Cramér's V) first."""
    positive = columns.is_positive(target, len(frame))
    ranked = categories.by_association(frame, positive)
    if not ranked or not len(positive):
        return message("No columns of categories: nothing to show.")
    telling = [column for column in ranked if not column.scattered]
    shown = telling[:MOST_CATEGORICAL]
    hidden = _listed("They tell less", telling[MOST_CATEGORICAL:])
    hidden += _listed("Too many categories to show", [column for column in ranked if column.scattered])
    if not shown:
        return message(" ".join(hidden))
    boxes = _stacked([len(column.rates) for column in shown], top=0.5)
    below = max(box.top + box.tall for box in boxes)
    figure, axes = sheet(WIDE, below + 0.1 + 0.17 * (1 + len(hidden)))
    for box, column in zip(boxes, shown, strict=True):
        _bars(axes, box, column, positive.mean())
    whole = f"of all {len(positive):,} rows, {positive.mean():.1%}"
    _legend(figure, [(BLUE, f"share that is {labels(names)[1]}"), (ORANGE, whole)])
    words = "Beside a bar its share, and of how many rows; black: 95 % interval. V: Cramér's, 0 unrelated, 1 decisive."
    _words(axes, below, [words, *hidden])
    return png(figure)


def _histograms(axes: "Axes", box: Box, column: columns.Numbers, auc: float, positive: np.ndarray) -> None:
    """One small drawing: name, AUC, the histogram of either class, where they begin and end."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon

    there = ~np.isnan(column.values)
    facts = [] if np.isnan(auc) else [f"AUC {auc:.2f}"]
    facts += [f"{(~there).sum():,} missing"] * (not there.all())
    name = fitted(column.name, box.wide + 0.15, SMALL, "bold")
    axes.text(box.left, box.top, name, fontsize=SMALL, va="top", weight="bold")
    axes.text(box.left, box.top + 0.14, ", ".join(facts), fontsize=SMALL, va="top", color=INK)
    floor = box.top + box.tall - 0.14
    axes.add_artist(Line2D([box.left, box.left + box.wide], [floor, floor], color=GREY, lw=0.8))
    if not there.any():
        return
    bins = columns.bins_of(column.finite)
    shares = [bins.shares(column.values[there & (positive == side)]) for side in (False, True)]
    x = np.repeat(box.left + box.wide * bins.places, 2)
    height = (floor - box.top - 0.3) / max(share.max() for share in shares)
    for share, color in zip(shares, (BLUE, ORANGE), strict=True):
        y = np.concatenate([[0], np.repeat(share, 2), [0]])
        outline = np.column_stack([x, floor - height * y])
        axes.add_artist(Polygon(outline, facecolor=(color, 0.35), edgecolor=color, lw=1))
    _ends(axes, box, floor, bins, column.finite)


def _ends(axes: "Axes", box: Box, floor: float, bins: columns.Bins, values: np.ndarray) -> None:
    """The numbers at which a histogram begins and ends."""
    low, high = max(bins.edges[0], values.min()), min(bins.edges[-1], values.max())
    low_text, high_text = _number(low) + " ‹" * bool(bins.below), "› " * bool(bins.above) + _number(high)
    right = box.left + box.wide
    if low == high:
        axes.text(box.left + box.wide / 2, floor + 0.03, f"always {low_text}", ha="center", **TICK)
        return
    axes.text(box.left, floor + 0.03, low_text, ha="left", **TICK)
    axes.text(right, floor + 0.03, high_text, ha="right", **TICK)
    if bins.logarithmic:
        axes.text(box.left + box.wide / 2, floor + 0.03, "log", ha="center", style="italic", **TICK)


def _number(value: float) -> str:
    if value == round(value) and abs(value) < 1e4:
        return f"{value:.0f}"  # years have no comma
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}"


def _stacked(lines: Sequence[int], top: float) -> list[Box]:
    """Boxes for so many bars each under a title, in two columns, each below the shorter one so far."""
    across = min(2, len(lines))
    ends, boxes = [top] * across, []
    for count in lines:
        at = int(np.argmin(ends))
        tall = LINE * (count + 1.9)
        boxes.append(Box(0.2 + at * WIDE / 2, ends[at], WIDE / across - 0.4, tall))
        ends[at] += tall
    return boxes


def _listed(why: str, hidden: Sequence[categories.Categories]) -> list[str]:
    """Columns that are not shown, with the number of their categories, in lines; none if there are none."""
    names = labels(f"{column.name} ({column.number:,})" for column in hidden)
    return wrapped(f"{why}: {', '.join(names)}.", WIDE - 0.4, SMALL)[:4] if hidden else []


def _bars(axes: "Axes", box: Box, column: categories.Categories, whole: float) -> None:
    """One column's categories: a bar each, its interval, and a line for the share of all rows."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    v = f"V {categories.association(column.rates):.2f}"
    axes.text(box.left, box.top, f"{fitted(column.name, box.wide - 1, 8, 'bold')}   {v}", fontsize=8, weight="bold")
    zero, wide, top = box.left + 0.4 * box.wide, 0.33 * box.wide, box.top + 0.2
    for i, rate in enumerate(column.rates):
        y = top + LINE * i
        style = "normal" if rate.stands_for == 1 else "italic"
        name = fitted(rate.name, 0.38 * box.wide, SMALL)
        axes.text(zero - 0.06, y, name, fontsize=SMALL, ha="right", va="center", style=style)
        color = BLUE if rate.stands_for == 1 else GREY
        axes.add_artist(Rectangle((zero, y - 0.35 * LINE), wide * rate.share, 0.7 * LINE, facecolor=color))
        low, high = wilson_interval(rate.positive, rate.rows)
        axes.add_artist(Line2D([zero + wide * low, zero + wide * high], [y, y], color=INK, lw=0.8))
        said = f"{rate.share:.1%} of {rate.rows:,}"
        axes.text(zero + wide + 0.06, y, said, fontsize=SMALL, va="center", color=INK)
    line = zero + wide * whole
    axes.add_artist(Line2D([line, line], [top - LINE / 2, y + LINE / 2], color=ORANGE, lw=1))


def _legend(figure: "Figure", entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=text) for color, text in entries]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=9)


def _words(axes: "Axes", below: float, lines: Sequence[str]) -> None:
    for i, line in enumerate(lines):
        axes.text(0.2, below + 0.1 + 0.17 * i, line, fontsize=SMALL, color=INK, va="center")
