"""Pictures of digits as PNG bytes. Where they are kept and shown is not decided here; those of tables are elsewhere."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.ml.drawing import (
    BLUE,
    COLORS,
    GREY,
    ORANGE,
    fitted,
    inches_of,
    labels,
    message,
    panel,
    png,
    two_panels,
)

CELL, CAPTION = 0.72, 0.68  # inches of a contact sheet: an image with its gap, and the text below
SMALL = 7  # points

if TYPE_CHECKING:
    from mnist_pipeline.ml.training import Epoch


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
    """uint8 [N, 28, 28] as a grid, each with a caption under it; dark on light, easier to read in print.

    A caption that is too long for its image takes several lines.
    """
    if len(images) == 0:
        return message("nothing to show")
    under = [caption_lines(each) for each in captions]
    rows, gap, foot = -(-len(images) // columns), 4, 5 + 7 * max(map(len, under))
    columns = min(columns, len(images))
    tall, wide = SIDE + foot, SIDE + gap
    sheet = np.full((rows * tall, columns * wide), 255, np.uint8)
    figure, axes = panel(columns * CELL, rows * 0.023 * tall)
    for i, (image, lines) in enumerate(zip(images, under, strict=True)):
        top, left = i // columns * tall, i % columns * wide
        sheet[top : top + SIDE, left : left + SIDE] = 255 - image
        middle = left + SIDE / 2
        axes.text(middle, top + SIDE + foot / 2, "\n".join(lines), ha="center", va="center", fontsize=SMALL)
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return png(figure)


def caption_lines(caption: str) -> list[str]:
    """In one line where an image is wide enough; else broken at spaces and behind an arrow, the words shortened."""
    if inches_of(labels([caption])[0], SMALL) <= CAPTION:
        return labels([caption])
    return [
        fitted(line, CAPTION, SMALL)
        for line in textwrap.wrap(caption.replace("→", "→ "), 12, max_lines=4, placeholder="…")
    ]


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


def confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> bytes:
    """Counts, true classes down, given answers across; colour shows the share of the row among mistakes."""
    counts = np.asarray(matrix)
    wrong = counts * (1 - np.eye(len(counts)))
    figure, axes = panel(5.4, 5.0)
    axes.imshow(wrong / max(1.0, wrong.max()), cmap="Oranges", vmin=0, vmax=1.4)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            weight = "bold" if row == column else "normal"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7, weight=weight)
    names = labels(class_names)
    axes.set_xticks(range(len(counts)), names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(counts)), names)
    axes.set_xlabel("answered")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    return png(figure)


def per_class(scores: Mapping[str, Mapping[str, float]]) -> bytes:
    """Precision, recall and F1 of each class as dots; the axis begins near the worst, at 99 % at the latest."""
    from matplotlib.ticker import PercentFormatter

    figure, axes = panel(7.5, 3.2)
    names = list(scores)
    for score, color, shift in zip(("precision", "recall", "f1"), COLORS, (-0.2, 0, 0.2), strict=True):
        at = [i + shift for i in range(len(names))]
        axes.plot(at, [scores[name][score] for name in names], "o", ms=6, color=color, label=score)
    lowest = min(0.99, *(each[score] for each in scores.values() for score in ("precision", "recall", "f1")))
    axes.set_ylim(lowest - (1 - lowest) * 0.2, 1 + (1 - lowest) * 0.1)
    axes.set_yticks([tick for tick in axes.get_yticks() if lowest - (1 - lowest) * 0.2 <= tick <= 1.0])
    axes.set_xticks(range(len(names)), labels(names), rotation=45 if max(map(len, names)) > 3 else 0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
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
