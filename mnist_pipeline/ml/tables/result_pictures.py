"""Pictures of what models of a table get right and wrong, and what they go by, as PNG bytes. No comparisons."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mnist_pipeline.ml.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WIDE,
    fitted,
    labels,
    looks_of,
    message,
    panel,
    png,
    sheet,
    two_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 7.5  # points
MOST = 15  # features
INSIDE = 6  # models, of which the legend fits below their curves


class Curves(NamedTuple):
    """Of one model: the two curves with the areas under them, and the share of positive rows."""

    false_positives: np.ndarray
    true_positives: np.ndarray
    auc: float
    recall: np.ndarray
    precision: np.ndarray
    average_precision: float
    positive: float


def curves_of(truth: Sequence[int] | np.ndarray, scores: Sequence[float] | np.ndarray) -> Curves | None:
    """ROC and precision-recall curve; None where all rows are of one class, since there are none then."""
    from sklearn import metrics

    positive = np.asarray(truth).astype(bool)
    if positive.all() or not positive.any():
        return None
    false_positives, true_positives, _ = metrics.roc_curve(positive, scores)
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    precision[-1] = precision[-2]  # where no row is answered with yes yet, sklearn puts 1
    auc, average = metrics.roc_auc_score(positive, scores), metrics.average_precision_score(positive, scores)
    return Curves(false_positives, true_positives, auc, recall, precision, average, positive.mean())


def curves(results: "Mapping[str, tuple[np.ndarray, np.ndarray]]", title: str) -> bytes:
    """ROC and precision-recall curves. results: model -> truth (0, 1) and scores, higher for positive, both [N].

    title: which rows these are.
    """
    found = {model: curves_of(truth, scores) for model, (truth, scores) in results.items()}
    shares = [each.positive for each in found.values() if each]
    if not shares:
        return message("The rows are all of one class: there are no curves.")
    below = len(found) > INSIDE
    figure, (roc, recall) = two_panels(WIDE, 3.95 + 0.19 * (len(found) + 2) * below)
    for model, (color, _, line) in looks_of(found).items():
        _curve(roc, recall, model, found[model], {"color": color, "ls": line, "lw": 1.5})
    roc.plot([0, 1], [0, 1], color=GREY, lw=1, label="chance  0.500", zorder=1)
    recall.axhline(float(np.mean(shares)), color=GREY, lw=1, label=f"chance  {np.mean(shares):.3f}", zorder=1)
    figure.suptitle(fitted(title, WIDE - 0.4, 10), fontsize=10, x=0.01, ha="left")
    _finish(roc, ("false positive rate", "true positive rate"), "model and ROC-AUC", "lower right", below)
    _finish(recall, ("recall", "precision"), "model and average precision", "lower left", below)
    return png(figure)


def _curve(roc: "Axes", recall: "Axes", model: str, of: Curves | None, style: dict[str, Any]) -> None:
    """One model in both panels; a word in the legend where it has no curves."""
    name = fitted(model, 1.3, 8)
    if of is None:
        for axes in (roc, recall):
            axes.plot([], [], label=f"{name}  one class only", **style)
        return
    roc.plot(of.false_positives, of.true_positives, label=f"{name}  {of.auc:.3f}", **style)
    recall.step(of.recall, of.precision, where="post", label=f"{name}  {of.average_precision:.3f}", **style)


def confusions(counts: Mapping[str, Sequence[Sequence[int]]], names: tuple[str, str], title: str) -> bytes:
    """A small matrix a model, 2×2 counts of rows: true classes down, given answers across, shares of the true class.

    title: which rows these are.
    """
    if not counts:
        return message("No model: nothing to show.")
    across = min(4, len(counts))
    wide, top, tall, left = 1.55, 0.15, 1.85, 1.2
    figure, axes = sheet(max(4.0, left + across * wide + 0.1), top + -(-len(counts) // across) * tall + 0.2)
    for i, (model, matrix) in enumerate(counts.items()):
        corner = left + i % across * wide, top + i // across * tall + 0.2
        axes.text(corner[0] + 0.65, corner[1] - 0.1, fitted(model, 1.4, 9), ha="center", va="center", fontsize=9)
        _matrix(axes, corner, np.asarray(matrix), names)
        if i % across == 0:
            for row, name in enumerate(names):
                y = corner[1] + 0.325 + 0.65 * row
                axes.text(left - 0.08, y, fitted(name, 1.0, SMALL), fontsize=SMALL, ha="right", va="center")
    words = f"{fitted(title, 2.0, SMALL)}; true class down, answered across"
    axes.text(0.1, axes.get_ylim()[0] - 0.12, words, fontsize=SMALL, color=INK, va="center")
    return png(figure)


def importances(
    values: Mapping[str, float | tuple[float, float]], title: str, measure: str = "importance", signed: bool = False
) -> bytes:
    """The features that count most as bars; (mean, std) get an error bar of one std.

    signed: of coefficients the size counts, whereas an importance below zero is less than one of zero.
    """
    if not values:
        return message(f"{labels([title])[0]}: no features.")
    shown = largest(values, signed)
    names, means, errors = zip(*shown, strict=True)
    figure, axes = panel(WIDE, 1.1 + 0.24 * len(shown))
    colors = [BLUE if mean >= 0 else ORANGE for mean in means]
    bars: dict[str, Any] = {"xerr": errors, "error_kw": {"ecolor": INK, "lw": 1}} if any(errors) else {}
    axes.barh(range(len(shown)), means, 0.7, color=colors, **bars)
    axes.set_yticks(range(len(shown)), [fitted(name, 2.6, 9) for name in names], fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_title(fitted(title, WIDE - 3, 10), fontsize=10, loc="left")
    more = f" (the {len(shown)} largest of {len(values):,})" if len(values) > len(shown) else ""
    axes.set_xlabel(f"{measure}{', ± one standard deviation' if bars else ''}{more}")
    if min(means) < 0:
        axes.axvline(0, color="black", lw=0.8)
    return png(figure)


def largest(
    values: Mapping[str, float | tuple[float, float]], signed: bool = False, most: int = MOST
) -> list[tuple[str, float, float]]:
    """Name, mean and std (0 where only a value is given) of those that are largest; signed: by size."""
    pairs = ((name, value if isinstance(value, tuple) else (value, 0.0)) for name, value in values.items())
    flat = [(name, float(mean), float(std)) for name, (mean, std) in pairs]
    return sorted(flat, key=lambda each: -abs(each[1]) if signed else -each[1])[:most]


def _finish(
    axes: "Axes", names: tuple[str, str], title: str, corner: Literal["lower left", "lower right"], below: bool
) -> None:
    """Limits, names of both axes, and a legend in a corner that curves rarely reach, or below."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=names[0], ylabel=names[1])
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.17)} if below else {"loc": corner}
    axes.legend(frameon=False, fontsize=8, title=title, title_fontsize=8, alignment="left", **where)


def _matrix(axes: "Axes", corner: tuple[float, float], counts: np.ndarray, names: tuple[str, str]) -> None:
    """Right answers in blue, wrong ones in orange, the deeper the larger their share of the row."""
    from matplotlib.patches import Rectangle

    side = 0.65
    for (row, column), count in np.ndenumerate(counts):
        share = count / max(1, counts[row].sum())
        said = f"{share:.1%}" if counts[row].any() else "–"
        size = 9 if count < 1e6 else 7
        left, top = corner[0] + column * side, corner[1] + row * side
        color = (BLUE if row == column else ORANGE, 0.05 + 0.6 * share**0.5)
        axes.add_artist(Rectangle((left, top), side * 0.97, side * 0.97, facecolor=color))
        axes.text(
            left + side / 2, top + side * 0.4, f"{count:,}", ha="center", va="center", fontsize=size, weight="bold"
        )
        axes.text(left + side / 2, top + side * 0.7, said, ha="center", va="center", fontsize=SMALL)
    for column, name in enumerate(names):
        x = corner[0] + side * (column + 0.5)
        axes.text(
            x, corner[1] + 2 * side + 0.1, fitted(name, side * 0.98, SMALL), ha="center", va="center", fontsize=SMALL
        )
