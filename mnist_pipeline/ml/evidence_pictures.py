"""Pictures of a report that are no tables of answers: how honest a confidence is, and what a model withstands."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.drawing import BLUE, GREY, ORANGE, PALE, WIDE, looks_of, panel, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS_BELOW = 0.36  # of the height of a reliability diagram is for the counts


def reliability(diagrams: Mapping[str, tuple[float, Sequence[Mapping[str, Any]]]]) -> bytes:
    """Two diagrams beside each other, each with its calibration error and the bins that `calibration` gives: the share
    that is right over confidence, where the diagonal is honest, and the number of images in each bin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 4.2), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[1, COUNTS_BELOW])
    for (diagram, counts), (name, (error, bins)) in zip(grid.T, diagrams.items(), strict=True):
        _diagram(diagram, bins)
        diagram.set_title(f"{name} scaling: error {error:.4f}", fontsize=10)
        counts.bar([each["confidence"] for each in bins], [each["images"] for each in bins], 0.03, color=GREY)
        counts.set_yscale("log")
        counts.set_ylim(bottom=0.7)
        counts.set_xlabel("confidence")
    grid[0][0].set_ylabel("share that is right")
    grid[1][0].set_ylabel("images")
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _diagram(axes: "Axes", bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
    for each in bins:
        honest = each["confidence"]
        axes.plot([honest, honest], [honest, each["accuracy"]], color=ORANGE, lw=3, alpha=0.5)
    sure, right = ([each[name] for each in bins] for name in ("confidence", "accuracy"))
    axes.plot(sure, right, "o-", ms=5, color=BLUE)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)


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
