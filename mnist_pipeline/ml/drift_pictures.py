"""Pictures of drift as PNG bytes: what was, what is, and how it went over the days. Nothing is compared here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.drawing import BLUE, GREY, ORANGE, PALE, WIDE, fitted, labels, message, png, two_panels
from mnist_pipeline.ml.drift import CLASSES, CONFIDENCE, Comparison, features_of
from mnist_pipeline.ml.drift_report import accuracy_of, excess_of
from mnist_pipeline.ml.reference import Reference, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS, SHOWN = 30, 4
WAS, IS = "when the model was new", "this day"
UNITS = {
    "ink": "mean of the pixels, 0 to 255",
    "contrast": "standard deviation of the pixels",
    "sharpness": "mean difference of neighbours",
    "slant": "pixels to the left, a row down",
    CONFIDENCE: "confidence",
}
NINES = (0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def distributions(reference: Reference, sample: Sample, found: Comparison, class_names: Sequence[str]) -> bytes:
    """The four statistics that differ most beyond chance, before and now."""
    worst = [each for each in found.worst if each.name != CLASSES][:SHOWN]
    if not worst:
        return message("nothing was compared")
    from matplotlib.figure import Figure

    old, new = features_of(reference, class_names), features_of(sample, class_names)
    figure = Figure(figsize=(WIDE, 5.2), layout="constrained")
    for axes, each in zip(figure.subplots(2, 2).ravel(), worst, strict=False):
        _histogram(axes, each.name, old[each.name], new[each.name])
        said = "drifted" if each.drifted else "as it was"
        name = fitted(each.name, WIDE / 2 - 0.8, 9)
        title = f"{name}\n{each.distance:.2f} apart, {each.threshold:.2f} allowed: {said}"
        axes.set_title(title, fontsize=9, color=ORANGE if each.drifted else "black")
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=2, frameon=False)
    return png(figure)


def answers(reference: Reference, sample: Sample, class_names: Sequence[str]) -> bytes:
    """Predicted classes and confidence, before and now, as shares of the images."""
    figure, (left, right) = two_panels(WIDE, 3.2)
    at, width = np.arange(len(class_names)), 0.4
    for i, (each, color, name) in enumerate(((reference, BLUE, WAS), (sample, ORANGE, IS))):
        counts = np.bincount(each.predicted, minlength=len(class_names))
        left.bar(at + (i - 0.5) * width, counts / max(1, counts.sum()), width * 0.95, color=color, label=name)
    left.set_xticks(at, labels(class_names, 12), rotation=90 if max(map(len, class_names)) > 3 else 0)
    _in_percent(left)
    left.set_xlabel("predicted class")
    left.set_ylabel("share of the images")
    old, new = (features_of(each, class_names)[CONFIDENCE] for each in (reference, sample))
    _histogram(right, CONFIDENCE, old, new)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return png(figure)


def trend(reports: Sequence[Mapping[str, Any]], tolerance: float, strong: float) -> bytes:
    """Over days, oldest first: the largest distance beyond chance with its limits, and the estimated accuracy.

    A day without a verdict leaves a gap; one whose estimate is not to be trusted is hollow.
    """
    days = [each["day"] for each in reports]
    figure, (left, right) = two_panels(WIDE, 3.0)
    far = distances(reports)
    left.plot(range(len(far)), far, "o-", ms=4, color=BLUE)
    for limit, name in ((tolerance, "drift"), (strong, "strong drift")):
        left.axhline(limit, color=ORANGE, lw=1, ls="--" if limit == strong else ":", label=f"{name}: {limit:g}")
    left.set_ylim(-0.01, 1.15 * max([strong, *(each for each in far if np.isfinite(each))]))
    left.set_ylabel("distance beyond chance")
    left.legend(frameon=False, fontsize=8)
    _estimates(right, reports)
    right.set_ylabel("estimated accuracy")
    _in_percent(right)
    step = max(1, len(days) // 5)
    for axes in (left, right):
        axes.set_xlim(-0.5, max(len(days) - 0.5, 0.5))
        axes.set_xticks(range(0, len(days), step), [day[5:] for day in days[::step]])
        axes.grid(axis="y", color=PALE)
    return png(figure)


def distances(reports: Sequence[Mapping[str, Any]]) -> list[float]:
    """Beyond chance, of each day; NaN, which no line goes through, of one without a verdict."""
    found = map(excess_of, reports)
    return [np.nan if each is None else max(0.0, each) for each in found]


def _estimates(axes: "Axes", reports: Sequence[Mapping[str, Any]]) -> None:
    hollow = ""
    for i, made in enumerate(reports):
        if estimate := accuracy_of(made):
            axes.plot([i, i], [estimate["low"], estimate["high"]], color=GREY, lw=1)
            color, hollow = (BLUE, hollow) if estimate["trusted"] else ("white", "not to be trusted")
            axes.plot([i], [estimate["estimate"]], "o", ms=5, mec=BLUE, mfc=color)
    if hollow:
        axes.plot([], [], "o", ms=5, mec=BLUE, mfc="white", label=hollow)
        axes.legend(frameon=False, fontsize=8)


def _histogram(axes: "Axes", name: str, old: np.ndarray, new: np.ndarray) -> None:
    """Shares of the images in bins over what both have; those without a digit are left out."""
    old, new = (each[np.isfinite(each)] for each in (old, new))
    both = np.concatenate([old, new])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 0.01), BINS + 1)
    for values, color, label in ((old, BLUE, WAS), (new, ORANGE, IS)):
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        axes.stairs(shares, edges, color=color, label=label, fill=True, alpha=0.25)
        axes.stairs(shares, edges, color=color)
    _in_percent(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(UNITS.get(name, "probability"))
    if name == CONFIDENCE:
        axes.set_xticks(range(len(NINES)), [f"{each:.10g}" for each in NINES], fontsize=8)
        axes.set_xlim(edges[0], edges[-1])
    elif name not in UNITS:  # a probability, as the power of ten that it is
        ticks = np.arange(np.ceil(edges[0]), 1, 2)
        axes.set_xticks(ticks, [rf"$10^{{{tick:.0f}}}$" if tick else "1" for tick in ticks])


def _in_percent(axes: "Axes") -> None:
    """With as many digits as the ticks need."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))
