"""Pictures of a report that are no tables of answers: how honest a confidence is, and what a model withstands."""

from collections.abc import Mapping, Sequence
from math import log1p
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.calibration import CALIBRATION_BINS
from mnist_pipeline.ml.drawing import BLUE, GREY, INK, ORANGE, PALE, WIDE, looks_of, panel, png, two_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS_BELOW = 0.24  # of the height of a reliability diagram is for the counts, as logarithms


def reliability(diagrams: Mapping[str, tuple[float, Sequence[Mapping[str, Any]]]]) -> bytes:
    """Two diagrams beside each other, each with its calibration error and the bins that `calibration` gives: the share
    that is right over confidence, where the diagonal is honest, and below in grey the number of images in each bin."""
    figure, panels = two_panels(WIDE, 3.8)
    for axes, (name, (error, bins)) in zip(panels, diagrams.items(), strict=True):
        _counts(axes, bins)
        _diagram(axes, bins)
        axes.set_title(f"{name} scaling: error {error:.4f}", fontsize=10)
        axes.set_xlabel("confidence")
    panels[0].set_ylabel("share that is right")
    return png(figure)


def _counts(axes: "Axes", bins: Sequence[Mapping[str, Any]]) -> None:
    most = max(each["images"] for each in bins)
    for each in bins:
        at, height = (each["bin"] + 0.5) / CALIBRATION_BINS, COUNTS_BELOW * log1p(each["images"]) / log1p(most)
        axes.bar(at, height, 0.8 / CALIBRATION_BINS, color=PALE)
        axes.text(at, 0.01, f"{each['images']:,}", rotation=90, ha="center", va="bottom", fontsize=7, color=INK)


def _diagram(axes: "Axes", bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
    sure, right = ([each[name] for each in bins] for name in ("confidence", "accuracy"))
    axes.vlines(sure, sure, right, color=ORANGE, lw=3, alpha=0.5)
    axes.plot(sure, right, "o-", ms=5, color=BLUE)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.03)


def robustness(accuracy: Mapping[str, Sequence[float]]) -> bytes:
    """A curve for each corruption: the share of right answers over severity."""
    figure, axes = panel(WIDE, 3.6)
    looks = looks_of(accuracy)
    for name in sorted(accuracy, key=lambda name: -accuracy[name][-1]):
        color, marker, line = looks[name]
        axes.plot(range(len(accuracy[name])), accuracy[name], marker=marker, ls=line, ms=5, color=color, label=name)
    axes.set_xticks(range(5), ["as it is", *map(str, range(1, 5))])
    axes.set_xlabel("severity")
    axes.set_ylabel("share that is right")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(0, 1.03)
    axes.grid(axis="y", color=PALE)
    figure.legend(loc="outside right upper", frameon=False)
    return png(figure)
