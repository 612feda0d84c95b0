"""What every picture shares: colours, empty figures, names as they can be drawn, PNG bytes. Not what is drawn."""

import io
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#3b6ea5", "#e08214", "#4d9a57", "#8a8a8a"
COLORS = (BLUE, ORANGE, GREEN)
SERIES: tuple[tuple[str, str, Any], ...] = (  # colour, marker and line: told apart without seeing colours, too
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    ("#5b2a56", "D", ":"),
    ("#d58bb5", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("#7a5c3e", "P", (0, (8, 2))),
)
WIDE = 7.5  # inches: 825 pixels, which Dagster's UI shows whole
PALE, INK = "#e5e5e5", "#333333"  # lines that guide the eye; words that explain


def panel(width: float, height: float) -> "tuple[Figure, Axes]":
    """One pair of axes on a figure of that many inches."""
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
    lines = wrapped(text, WIDE - 0.4, 10)
    figure, axes = panel(max(4, 0.4 + max(inches_of(line, 10) for line in lines)), 0.8 + 0.2 * len(lines))
    axes.set_axis_off()
    axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", transform=axes.transAxes)
    return png(figure)


def sheet(width: float, height: float) -> "tuple[Figure, Axes]":
    """Blank axes in inches, y downwards: for many small drawings at once, where 30 axes would take a second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def labels(names: Iterable[str], longest: int = 40) -> list[str]:
    """Names, which may be those of somebody's folders or columns, as they can be drawn.

    In one line; the middle of a long one left out, since what tells names apart is at either end; no formulas; boxes
    for what the font does not know, where matplotlib would warn of each.
    """
    return [_shortened(_in_font(" ".join(name.split())), longest).replace("$", r"\$") for name in names]


def fitted(name: str, inches: float, size: float, weight: str = "normal") -> str:
    """A name as by `labels`, short enough for so many inches at that font size in points."""
    if inches_of(whole := labels([name], len(name))[0], size, weight) <= inches:
        return whole
    fits, wide = 1, len(name)
    while wide - fits > 1:
        middle = (fits + wide) // 2
        narrow = inches_of(labels([name], middle)[0], size, weight) <= inches
        fits, wide = (middle, wide) if narrow else (fits, middle)
    return labels([name], fits)[0]


def wrapped(text: str, inches: float, size: float) -> list[str]:
    """Labels and words between them, in lines of about that many inches."""
    letters = int(0.95 * inches * len(text) / inches_of(text, size))
    return textwrap.wrap(text, max(20, letters))


def inches_of(label: str, size: float, weight: str = "normal") -> float:
    """How wide a label, as by `labels`, is drawn at that font size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(label.replace(r"\$", "$"), font, ismath=False)
    return width / 72


def _shortened(name: str, longest: int) -> str:
    tail = (longest - 1) // 3
    return name if len(name) <= longest else f"{name[: longest - 1 - tail]}…{name[len(name) - tail :]}"


def _in_font(name: str) -> str:
    """Only other than Latin letters are looked up: loading the font's table takes a while."""
    return "".join(char if ord(char) < 0x180 or _known(char) else "□" for char in name if ord(char) >= 32)


def _known(char: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont("DejaVu Sans")).get_char_index(ord(char)) != 0


def looks_of(series: Iterable[str]) -> dict[str, tuple[str, str, Any]]:
    """Colour, marker and line of each, of models say: by the alphabet, so that pictures of the same ones agree."""
    count = len(SERIES)
    return {
        name: (SERIES[i % count][0], *SERIES[(i + i // count) % count][1:])  # the seventh is blue as well, but no dot
        for i, name in enumerate(sorted(set(series)))
    }


def png(figure: "Figure") -> bytes:
    """The figure as it stands, at 110 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
