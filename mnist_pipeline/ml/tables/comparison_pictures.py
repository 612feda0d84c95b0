"""Scores set beside each other, of models and of datasets, as PNG bytes. What is noise is not decided here."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.drawing import BLUE, GREY, INK, PALE, WIDE, fitted, labels, looks_of, message, panel, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = 2.6  # inches for a name
Row = Mapping[str, Any]


def leaderboard(rows: Sequence[Row], metric: str, title: str) -> bytes:
    """Models as dots with 95 % intervals, the best first, and in words which are within noise of the best.

    rows: "model", "score", "low", "high" (None or NaN: no interval), "within_noise", a bool, and, where it is known,
    "ahead_on_test" as by `ranking.ranked`. A score of NaN, of a model that could not be measured, comes last. title:
    which rows were asked.
    """
    if not rows:
        return message("No model: nothing to show.")
    ranked = best_first(rows)
    figure, axes = panel(WIDE, 1.0 + 0.36 * len(ranked))
    for y, row in enumerate(ranked):
        _line(axes, y, row)
    axes.set_yticks(range(len(ranked)), [fitted(row["model"], NAME, 9) for row in ranked], fontsize=9)
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    axes.set_title(fitted(title, WIDE - 3, 10), fontsize=10, loc="left")
    axes.set_xlabel(f"{labels([metric])[0]}, with 95 % interval")
    return png(figure)


def best_first(rows: Sequence[Row]) -> list[Row]:
    """By score, those without one last."""
    return sorted(rows, key=lambda row: -row["score"] if _is_number(row["score"]) else float("inf"))


def verdict(place: int, row: Row) -> str:
    """What is said beside a model at that place, 0 being the best: score, interval, and whether that is noise."""
    if not _is_number(row["score"]):
        return "no score"
    low, high = _interval(row)
    interval = f" ({low:.3f} to {high:.3f})" if low < high else ""
    said = "the best" if place == 0 else "within noise of the best" if row["within_noise"] else "worse, beyond noise"
    ahead = row.get("ahead_on_test", "no")
    on_test = "" if ahead == "no" else f"; on test ahead, {ahead}"
    return f"{row['score']:.3f}{interval}\n{said}{on_test}"


def datasets_side_by_side(rows: Sequence[Row], metric: str) -> bytes:
    """A line a dataset, a dot a model. rows: "dataset", "model", "score" and "ranked_on", the rows that were asked;
    datasets in the order in which they come.

    Large datasets are ranked on validation, small ones on folds: beside each line stands on which.
    """
    scored = [row for row in rows if _is_number(row["score"])]
    if not scored:
        return message("No scores: nothing to show.")
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    looks = looks_of(row["model"] for row in rows)
    figure, axes = panel(WIDE, 1.3 + 0.3 * len(datasets) + 0.2 * ((len(looks) - 1) // 4))
    for y, dataset in enumerate(datasets):
        scores = [row["score"] for row in scored if row["dataset"] == dataset]
        axes.plot([min(scores), max(scores)] if scores else [], [y, y] if scores else [], color=PALE, lw=3, zorder=1)
    for model, (color, marker, _) in looks.items():
        dots = [row for row in scored if row["model"] == model]
        at = [datasets.index(row["dataset"]) for row in dots]
        style: dict[str, Any] = {"ls": "", "marker": marker, "ms": 6, "color": color, "alpha": 0.85}
        axes.plot([row["score"] for row in dots], at, label=fitted(model, 1.3, 9), **style)
    axes.set_yticks(range(len(datasets)), [fitted(dataset, NAME, 9) for dataset in datasets], fontsize=9)
    axes.set_ylim(len(datasets) - 0.5, -0.5)
    asked = {row["dataset"]: row["ranked_on"] for row in rows}
    for y, dataset in enumerate(datasets):
        where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8, "color": INK}
        axes.text(1.02, y, f"on {asked[dataset]}", **where)
    mixed = "\ncompare within a line: folds and validation are other rows" if len(set(asked.values())) > 1 else ""
    axes.set_xlabel(f"{labels([metric])[0]}{mixed}")
    figure.legend(loc="outside upper right", ncols=min(4, len(looks)), frameon=False, fontsize=9)
    return png(figure)


def _line(axes: "Axes", y: int, row: Row) -> None:
    """A model's interval and dot; beside the axes what is said of it."""
    if _is_number(row["score"]):
        color = BLUE if y == 0 or row["within_noise"] else GREY
        axes.plot(_interval(row), [y, y], color=color, lw=2, solid_capstyle="butt")
        axes.plot(row["score"], y, "o", ms=7, color=color)
    where = axes.get_yaxis_transform()
    axes.text(1.02, y, verdict(y, row), transform=where, va="center", fontsize=8, color=INK)


def _interval(row: Row) -> tuple[float, float]:
    """From low to high; only the score where one of them is not known."""
    low, high = row["low"], row["high"]
    return (low, high) if _is_number(low) and _is_number(high) else (row["score"], row["score"])


def _is_number(value: float | None) -> bool:
    return value is not None and isfinite(value)
