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
    WIDE,
    fitted,
    inches_of,
    labels,
    message,
    panel,
    png,
    two_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_pipeline.ml.training import Epoch

CELL, CAPTION, TITLE = 0.72, 0.68, 0.3  # inches of a contact sheet: an image with its gap, the text below, the title
PIXEL, GAP = 0.023, 4  # inches of a pixel there, and pixels between two images
SMALL = 7  # points
ABREAST = 5  # answers that the dialog of Dagster's UI has room for


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
    columns, under = min(columns, len(images)), [caption_lines(each) for each in captions]
    figure, axes = panel(columns * CELL, _inches_tall(under, columns))
    _lay_out(axes, images, under, columns)
    return png(figure)


def contact_sheets(sheets: Mapping[str, tuple[np.ndarray, Sequence[str]]], columns: int = 12) -> bytes:
    """Several contact sheets below each other, title -> (uint8 [N, 28, 28], captions); an empty one is its title."""
    from matplotlib.figure import Figure

    under = [[caption_lines(each) for each in captions] for _, captions in sheets.values()]
    tall = [max(0.1, _inches_tall(each, columns)) for each in under]
    figure = Figure(figsize=(columns * CELL, sum(tall) + TITLE * len(tall)), layout="constrained")
    grid = figure.subplots(len(sheets), squeeze=False, height_ratios=tall)
    for axes, (title, (images, _)), lines in zip(grid[:, 0], sheets.items(), under, strict=True):
        axes.set_title(*labels([title], longest=90), loc="left", fontsize=10)
        _lay_out(axes, images, lines, columns)
    return png(figure)


def _pixels_tall(under: Sequence[list[str]]) -> int:
    """Of a row: an image and the longest of the captions."""
    return SIDE + 5 + 7 * max(map(len, under))


def _inches_tall(under: Sequence[list[str]], columns: int) -> float:
    return -(-len(under) // columns) * _pixels_tall(under) * PIXEL if under else 0.0


def _lay_out(axes: "Axes", images: np.ndarray, under: Sequence[list[str]], columns: int) -> None:
    """The grid of a contact sheet; its last row may have fewer than `columns`. under: lines of each caption."""
    axes.set_axis_off()
    if len(images) == 0:
        return
    tall, wide = _pixels_tall(under), SIDE + GAP
    sheet = np.full((-(-len(images) // columns) * tall, columns * wide), 255, np.uint8)
    for i, (image, lines) in enumerate(zip(images, under, strict=True)):
        top, left = i // columns * tall, i % columns * wide
        sheet[top : top + SIDE, left : left + SIDE] = 255 - image
        middle = left + SIDE / 2, top + (SIDE + tall) / 2
        axes.text(*middle, "\n".join(lines), ha="center", va="center", fontsize=SMALL)
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


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
    """What the network saw, and below it the probability that it gave each class: ABREAST images a row."""
    if len(images) == 0:
        return message("nothing was predicted")
    from matplotlib.figure import Figure

    names = labels(class_names, longest=12)
    rows, columns = -(-len(images) // ABREAST), min(ABREAST, len(images))
    figure = Figure(figsize=(1.4 * max(4, columns), 3.3 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[1, 1.7] * rows)
    pairs = grid.reshape(rows, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
    for axes in pairs[len(images) :].flat:
        axes.set_axis_off()
    for (top, bottom), image, shares in zip(pairs, images, probabilities, strict=False):
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
