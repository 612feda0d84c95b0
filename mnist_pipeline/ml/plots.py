"""Pictures of digits as PNG bytes. Where they are kept and shown is not decided here; those of tables are elsewhere."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.ml.drawing import BLUE, COLORS, GREY, ORANGE, WIDE, labels, message, panel, png, two_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_pipeline.ml.training import Epoch

CELL_WIDE, CELL_TALL, TITLE_TALL = 0.72, 0.92, 0.3  # inches of an image with its caption, and of the title of a sheet


def class_distribution(counts: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> bytes:
    """Bars of images a class, one colour a part. counts: part -> images of each class."""
    figure, axes = panel(7.5, 3.2)
    width, at = 0.8 / len(counts), np.arange(len(class_names))
    for i, (part, images) in enumerate(counts.items()):
        offset = (i - (len(counts) - 1) / 2) * width
        axes.bar(at + offset, images, width * 0.92, color=COLORS[i % 3], label=f"{part} ({sum(images):,})")
    axes.set_xticks(at, labels(class_names), rotation=45 if max(map(len, class_names)) > 3 else 0)
    axes.set_ylabel("images")
    figure.legend(loc="outside upper right", ncols=len(counts), frameon=False)
    return png(figure)


def contact_sheet(images: np.ndarray, captions: Sequence[str], columns: int = 12) -> bytes:
    """uint8 [N, 28, 28] as a grid, each with a caption under it; dark on light, easier to read in print."""
    if len(images) == 0:
        return message("nothing to show")
    figure, axes = panel(min(columns, len(images)) * CELL_WIDE, _rows(len(images), columns) * CELL_TALL)
    _lay_out(axes, images, captions, min(columns, len(images)))
    return png(figure)


def contact_sheets(sheets: Mapping[str, tuple[np.ndarray, Sequence[str]]], columns: int = 12) -> bytes:
    """Several contact sheets below each other, title -> (uint8 [N, 28, 28], captions); an empty one is its title."""
    from matplotlib.figure import Figure

    rows = [max(0.1, _rows(len(images), columns)) for images, _ in sheets.values()]
    size = (columns * CELL_WIDE, sum(rows) * CELL_TALL + TITLE_TALL * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(sheets), squeeze=False, height_ratios=rows)
    for axes, (title, (images, captions)) in zip(grid[:, 0], sheets.items(), strict=True):
        axes.set_title(*labels([title], longest=90), loc="left", fontsize=10)
        _lay_out(axes, images, captions, columns)
    return png(figure)


def _rows(images: int, columns: int) -> int:
    return -(-images // columns)


def _lay_out(axes: "Axes", images: np.ndarray, captions: Sequence[str], columns: int) -> None:
    """The grid of a contact sheet; its last row may have fewer than `columns`."""
    axes.set_axis_off()
    if len(images) == 0:
        return
    gap, foot = 4, 12
    tall, wide = SIDE + foot, SIDE + gap
    sheet = np.full((_rows(len(images), columns) * tall, columns * wide), 255, np.uint8)
    for i, (image, caption) in enumerate(zip(images, labels(captions), strict=True)):
        top, left = i // columns * tall, i % columns * wide
        sheet[top : top + SIDE, left : left + SIDE] = 255 - image
        middle = left + SIDE / 2
        axes.text(middle, top + SIDE + foot / 2, caption, ha="center", va="center", fontsize=7)
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def training_curves(history: "Sequence[Epoch]") -> bytes:
    """Loss of both parts and validation accuracy, over epochs; the epoch that was kept is marked."""
    figure, (losses, accuracies) = two_panels(7.5, 3.0)
    numbers = [epoch.number for epoch in history]
    along = [
        (epoch.number - 1 + (i + 1) / len(epoch.losses), loss)
        for epoch in history
        for i, loss in enumerate(epoch.losses)
    ]
    losses.plot(*zip(*along, strict=True), color=BLUE, label="training")
    losses.plot(numbers, [epoch.validation_loss for epoch in history], "o-", ms=3, color=ORANGE, label="validation")
    losses.set_ylabel("loss (nats)")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    shares = [epoch.validation_accuracy for epoch in history]
    accuracies.plot(numbers, shares, "o-", ms=3, color=ORANGE)
    accuracies.yaxis.set_major_formatter("{x:.1%}")
    accuracies.set_ylabel("validation accuracy")
    accuracies.set_ylim(min(shares) - 0.3 * (1 - min(shares)) - 0.001, 1.0)
    kept = max((epoch for epoch in history if epoch.best), key=lambda epoch: epoch.number)
    label = f"kept: epoch {kept.number}, {kept.validation_accuracy:.2%}"
    accuracies.axvline(kept.number, color=GREY, lw=1, ls=":", label=label)
    accuracies.legend(frameon=False, loc="lower right")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.set_xlim(0, numbers[-1] * 1.05)
        axes.locator_params(axis="x", integer=True)
    return png(figure)


def confusion(matrices: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> bytes:
    """Counts of two parts beside each other, true classes down, given answers across.

    Colour shows the share of the largest count among mistakes.
    """
    names = labels(class_names, longest=14)
    longest = max(map(len, names))
    figure, panels = two_panels(WIDE, 4.1 + 0.08 * longest)
    for axes, (part, matrix) in zip(panels, matrices.items(), strict=True):
        _count_cells(axes, np.asarray(matrix))
        axes.set_title(part, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=90 if longest > 2 else 0, fontsize=8)
        axes.set_yticks([])
        axes.set_xlabel("answered")
        axes.spines[:].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylabel("true class")
    return png(figure)


def _count_cells(axes: "Axes", counts: np.ndarray) -> None:
    wrong = counts * (1 - np.eye(len(counts)))
    axes.imshow(wrong / max(1.0, wrong.max()), cmap="Oranges", vmin=0, vmax=1.4)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            weight = "bold" if row == column else "normal"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=6, weight=weight)


def per_class(scores: Mapping[str, Mapping[str, float]]) -> bytes:
    """Precision, recall and F1 of each class as dots; the axis begins near the worst."""
    figure, axes = panel(7.5, 3.2)
    names = list(scores)
    for score, color, shift in zip(("precision", "recall", "f1"), COLORS, (-0.2, 0, 0.2), strict=True):
        at = [i + shift for i in range(len(names))]
        axes.plot(at, [scores[name][score] for name in names], "o", ms=6, color=color, label=score)
    lowest = min(each[score] for each in scores.values() for score in ("precision", "recall", "f1"))
    axes.set_ylim(lowest - (1 - lowest) * 0.2 - 0.001, 1 + (1 - lowest) * 0.1 + 0.001)
    axes.set_xticks(range(len(names)), labels(names), rotation=45 if max(map(len, names)) > 3 else 0)
    axes.yaxis.set_major_formatter("{x:.1%}")
    axes.grid(axis="y", color="#e5e5e5")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    return png(figure)


def answers(images: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> bytes:
    """What the network saw, and the probability that it gave each class: one column an image."""
    if len(images) == 0:
        return message("nothing was predicted")
    from matplotlib.figure import Figure

    names = labels(class_names, longest=12)
    figure = Figure(figsize=(1.15 * max(4, len(images)), 3.4), layout="constrained")
    grid = figure.subplots(2, len(images), squeeze=False, height_ratios=[1, 1.7])
    for (top, bottom), image, shares in zip(grid.T, images, probabilities, strict=True):
        top.imshow(255 - image, cmap="gray", vmin=0, vmax=255)
        top.set_axis_off()
        colors = [BLUE if share == shares.max() else "#c9d3de" for share in shares]
        bottom.barh(range(len(names)), shares, color=colors)
        bottom.set_xlim(0, 1)
        bottom.set_xticks([])
        bottom.invert_yaxis()
        bottom.set_yticks(range(len(names)), names, fontsize=6)
        bottom.set_xlabel(f"{names[int(shares.argmax())]}: {shares.max():.1%}", fontsize=8)
        bottom.spines[:].set_visible(False)
    return png(figure)
