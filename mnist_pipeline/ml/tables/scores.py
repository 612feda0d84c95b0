"""How good an answer is: scores with intervals, and whether two models differ by more than noise.

Not here: training (`learning.py`), what is made of it for people (`ranking.py`, `result_pictures.py`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.copies import shared

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

FOLDS, REPEATS = 5, 5
LEVEL = 0.95
DRAWS = 4_000  # of which 33 lie beyond either end of an interval of 98.3 %, as for the best of four models
AT_ONCE = 50  # draws: 1,000 of 40,000 rows together take 2 GB


def scores(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Everything about one part. truth: bool [N]; probability: of being positive [N], positive from 0.5 on.

    What nothing was divided by is 0: the precision of a model that never says positive, say.
    """
    from sklearn.metrics import average_precision_score

    return {**_quick(truth, probability), "average_precision": float(average_precision_score(truth, probability))}


def _quick(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Without scikit-learn, each call of which takes milliseconds: folds ask a hundred times."""
    (true_negative, false_positive), (false_negative, true_positive) = confusion(truth, probability)
    recall = _share(true_positive, true_positive + false_negative)
    specificity = _share(true_negative, true_negative + false_positive)
    return {
        "accuracy": _share(true_positive + true_negative, len(truth)),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _share(true_positive, true_positive + false_positive),
        "recall": recall,
        "f1": _share(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "roc_auc": roc_auc(truth, probability),
    }


def roc_auc(truth: np.ndarray, values: np.ndarray) -> float:
    """Probability that a positive row has the larger value, a tie counting half; NaN where a class has no row."""
    ups, downs = int(truth.sum()), int((~truth).sum())
    if not ups or not downs:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2
    return float((ranks[place[truth]].sum() - ups * (ups + 1) / 2) / (ups * downs))


def _share(of: int, whole: int) -> float:
    return of / whole if whole else 0.0


def confusion(truth: np.ndarray, probability: np.ndarray) -> list[list[int]]:
    """Counts: true class down, answer across; negative first."""
    cells = np.bincount(2 * truth.astype(int) + (probability >= 0.5), minlength=4)
    return cells.reshape(2, 2).tolist()


def cross_validated(
    pipeline: "Pipeline", features: "pd.DataFrame", target: np.ndarray, seed: int
) -> dict[str, list[float]]:
    """The scores of each of 5×5 folds, the same folds for every model."""
    from sklearn.base import clone
    from sklearn.model_selection import RepeatedStratifiedKFold

    def measure(fold: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
        learned, asked = fold
        fitted = clone(pipeline).fit(features.iloc[learned], target[learned])
        return _quick(target[asked], fitted.predict_proba(features.iloc[asked])[:, 1])

    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=seed)
    found = shared(measure, list(folds.split(features, target)))
    return {name: [fold[name] for fold in found] for name in found[0]}


def fold_interval(folds: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean over repeated folds, at most 0 to 1.

    Folds share training rows, for which their error is corrected.
    """
    mean, off = float(np.mean(folds)), _t_value(len(folds)) * fold_error(np.asarray(folds))
    return max(0.0, mean - off), min(1.0, mean + off)


def level_of(comparisons: int) -> float:
    """The level of each of several intervals that together hold at 95 % (Bonferroni; Dunn 1961)."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def folds_differ(best: np.ndarray, other: np.ndarray, level: float = LEVEL) -> bool:
    """Whether the means differ by more than noise, by the corrected t test on the same folds."""
    gaps = best - other
    return bool(abs(gaps.mean()) > _t_value(len(gaps), level) * fold_error(gaps))


def auc_draws(truth: np.ndarray, probability: np.ndarray, seed: int) -> np.ndarray:
    """The ROC-AUC of 4,000 resamples of the same rows (bootstrap), of each class by itself so that none is ever without
    one; with the same seed of the same rows for each model.

    By weights instead of copies: a resample is how often each row stands in it, so that rows are sorted only once.
    """
    draw = np.random.default_rng(seed)
    order = np.argsort(probability, kind="stable")
    begins = _begins(probability[order], truth[order])
    blocks = (_weights(draw, truth) for _ in range(DRAWS // AT_ONCE))
    return np.concatenate([_weighted_aucs(weights, truth, order, begins) for weights in blocks])


def _weights(draw: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """How often each row stands in each of some resamples: [draws, N]."""
    weights = np.zeros((AT_ONCE, len(truth)), np.int64)
    for rows in (np.flatnonzero(truth), np.flatnonzero(~truth)):
        chosen = draw.integers(len(rows), size=(AT_ONCE, len(rows)))  # a multinomial takes ten times as long
        chosen += len(rows) * np.arange(AT_ONCE)[:, None]
        weights[:, rows] = np.bincount(chosen.ravel(), minlength=chosen.size).reshape(chosen.shape)
    return weights


def _begins(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where other rows begin, of those in order of probability: rows that tie are together, and so are neighbours of
    one class, whose order among themselves counts for nothing. Few sums are left, which takes a third of the time."""
    begins = np.flatnonzero(np.diff(probability, prepend=-1.0))
    share = np.add.reduceat(truth, begins, dtype=float) / np.diff(begins, append=len(truth))
    return begins[(np.diff(share, prepend=-1.0) != 0) | ((share > 0) & (share < 1))]


def _weighted_aucs(weights: np.ndarray, truth: np.ndarray, order: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """weights: [draws, N]; begins: as by `_begins`."""
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], begins, axis=1)
    negative = np.add.reduceat(ordered, begins, axis=1) - positive
    below = np.cumsum(negative, axis=1) - negative / 2  # of rows that tie, half count as below
    return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def draw_interval(draws: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """An interval by percentiles."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draws_differ(best: np.ndarray, other: np.ndarray, level: float = LEVEL) -> bool:
    """Whether zero lies outside of the interval of the paired differences."""
    low, high = draw_interval(best - other, level)
    return not low <= 0 <= high


def fold_error(values: np.ndarray) -> float:
    """The standard error of a mean over repeated folds, which share training rows (Nadeau and Bengio 2003)."""
    return float(np.sqrt((1 / len(values) + 1 / (FOLDS - 1)) * values.var(ddof=1)))


def _t_value(count: int, level: float = LEVEL) -> float:
    from scipy.special import stdtrit  # the quantile of Student's t, without all of scipy.stats

    return float(stdtrit(count - 1, (1 + level) / 2))
