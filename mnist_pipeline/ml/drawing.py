"""What every picture shares: colours, empty figures, names as they can be drawn, PNG bytes. Not what is drawn."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#3b6ea5", "#e08214", "#4d9a57", "#8a8a8a"
COLORS = (BLUE, ORANGE, GREEN)


def panel(width: float, height: float) -> "tuple[Figure, Axes]":
    """One pair of axes on a figure of that many inches; 7.5 are as wide as Dagster's UI shows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def two_panels(width: float, height: float) -> "tuple[Figure, tuple[Axes, Axes]]":
    """Two pairs of axes beside each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, (left, right)


def message(text: str) -> bytes:
    """A picture that says in words why there is nothing to draw."""
    figure, axes = panel(4, 1)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    return png(figure)


def labels(names: Iterable[str], longest: int = 40) -> list[str]:
    """Names, which may be those of somebody's folders, as they can be drawn: not too long, and no formulas."""
    short = (name if len(name) <= longest else name[: longest - 1] + "…" for name in names)
    return [name.replace("$", r"\$") for name in short]


def png(figure: "Figure") -> bytes:
    """The figure as it stands, at 110 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
