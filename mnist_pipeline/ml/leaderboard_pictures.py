"""The leaderboard as PNG bytes: accuracy with intervals beside what it costs. Who is behind is not decided here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.drawing import BLUE, GREY, INK, PALE, WIDE, fitted, message, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = 2.2  # inches
DIGEST = 13  # of a name, with its dash: told apart by place
Row = Mapping[str, Any]


def standing(rows: Sequence[Row]) -> bytes:
    """Left accuracy with its interval, right the time of one image; blue is not told apart from the best.

    rows: as by `leaderboard.ranked`.
    """
    if not rows:
        return message("No version was measured on this data yet.")
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(WIDE, 1.0 + 0.32 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    for y, row in enumerate(rows):
        _line(left, right, y, row)
    names = [f"{row['place']}. {fitted(row['version'][:-DIGEST], NAME, 8)}" for row in rows]
    left.set_yticks(range(len(rows)), names, fontsize=8)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.xaxis.set_major_formatter(PercentFormatter(1))
    left.set_xlabel("test accuracy, with 95 % interval")
    left.locator_params(axis="x", nbins=5)
    right.set_xscale("log")
    _few_ticks(right, [row["latency_ms"] for row in rows])
    right.set_xlabel("one image, ms")
    right.margins(x=0.25)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color=PALE)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=8)
    return png(figure)


def _few_ticks(axes: "Axes", values: Sequence[float]) -> None:
    """At powers of ten, and at 2 and 5 of each where there are few: matplotlib's own labels overlap then."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 20 * min(values) else (1,), numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def _line(left: "Axes", right: "Axes", y: int, row: Row) -> None:
    color = GREY if row["behind"] else BLUE
    left.plot([row["low"], row["high"]], [y, y], color=color, lw=2, solid_capstyle="butt")
    left.plot(row["accuracy"], y, "o", ms=6, color=color)
    right.plot(row["latency_ms"], y, "o", ms=6, color=color)
    size = f"{row['bytes'] / 1e6:,.1f} MB" if row["bytes"] > 5e4 else f"{row['bytes'] / 1e3:,.0f} KB"
    right.text(1.02, y, size, transform=right.get_yaxis_transform(), va="center", fontsize=8, color=INK)
