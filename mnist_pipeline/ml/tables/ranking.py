"""Which model of a table is the best, and which of the others is not worse by more than noise.

Models are ranked on folds or on validation, never on test: who picks the best on test has measured nothing. The best is
compared with every other one, and of many comparisons one errs by chance: so each is made at a higher level, at which
all of them hold together at 95 % (Bonferroni; Dunn 1961, "Multiple Comparisons Among Means"). Test, on which nothing
was picked, then says whether it agrees.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.tables.scores import (
    auc_draws,
    draw_interval,
    draws_differ,
    fold_interval,
    folds_differ,
    level_of,
    roc_auc,
)

SCORE = "roc_auc"
FOLDED, VALIDATED = "5×5 folds", "validation"
NOT_AHEAD, PERHAPS_AHEAD, AHEAD = "no", "within noise", "beyond noise"  # on test, of a model that is not the best

Answers = tuple[np.ndarray, np.ndarray]
"""truth, bool [N], and the probability of being positive [N]"""


@dataclass(frozen=True, eq=False)
class _Standing:
    score: float
    low: float
    high: float
    drawn: np.ndarray  # scores on the same folds or resamples for every model
    differ: Callable[[np.ndarray, np.ndarray, float], bool]


def ranked(
    reports: Mapping[str, Mapping[str, Any]],
    validation: Mapping[str, Answers],
    test: Mapping[str, Answers],
    seed: int,
) -> list[dict[str, Any]]:
    """One row a model, the best first: model, score, low, high (each by itself, 95 %), within_noise, ranked_on, whether
    it is ahead of the best on test, the scores there, and of folds the mean accuracy with its interval.

    reports: what `learn` found. validation, test: the answers of each model there; validation is read where no folds
    were drawn.
    """
    folded = all(report["folds"] for report in reports.values())
    found = {
        name: _by_folds(report["folds"][SCORE])
        if folded
        else _by_draws(report["validation"][SCORE], auc_draws(*validation[name], seed))
        for name, report in reports.items()
    }
    level, best = level_of(len(found) - 1), max(found, key=lambda name: found[name].score)
    return [
        {
            "model": name,
            "score": each.score,
            "low": each.low,
            "high": each.high,
            "within_noise": name == best or not each.differ(found[best].drawn, each.drawn, level),
            "ranked_on": FOLDED if folded else VALIDATED,
            "ahead_on_test": _ahead(test[name], test[best], level, seed),
            **{f"test_{key}": value for key, value in reports[name]["test"].items()},
            **_accuracy(reports[name]["folds"].get("accuracy")),
        }
        for name, each in sorted(found.items(), key=lambda item: -item[1].score)
    ]


def said(rows: list[dict[str, Any]]) -> str:
    """The leaderboard in words: the best and where it was ranked, who is not worse, and what test says."""
    best, others = rows[0], [row["model"] for row in rows[1:] if row["within_noise"]]
    close = f"; {', '.join(others)} not worse by more than noise" if others else "; better than all others beyond noise"
    alone = "" if len(rows) > 1 else "; there is no other"
    return f"{best['model']} is best {place(rows)}: ROC-AUC {best['score']:.4f}{alone or close}{_said_of_test(rows)}"


def place(rows: list[dict[str, Any]]) -> str:
    """On which rows they were ranked, in words."""
    folded = rows[0]["ranked_on"] == FOLDED
    return "over 5×5 folds of the training part" if folded else f"on {rows[0]['ranked_on']}"


def _said_of_test(rows: list[dict[str, Any]]) -> str:
    """Nothing where the best leads on test, too."""
    ahead = {how: [row["model"] for row in rows if row["ahead_on_test"] == how] for how in (AHEAD, PERHAPS_AHEAD)}
    told = [f"{', '.join(names)} ahead of it {how}" for how, names in ahead.items() if names]
    return f". Test, on which nothing is ranked, has another order: {', and '.join(told)}" if told else ""


def _ahead(other: Answers, best: Answers, level: float, seed: int) -> str:
    """Whether it scores more than the best on the same rows of test; draws are only made where it does."""
    if not roc_auc(*other) > roc_auc(*best):
        return NOT_AHEAD
    return AHEAD if draws_differ(auc_draws(*best, seed), auc_draws(*other, seed), level) else PERHAPS_AHEAD


def _accuracy(folds: Sequence[float] | None) -> dict[str, float]:
    """Of folds, where there are any."""
    if not folds:
        return {}
    low, high = fold_interval(folds)
    return {"folds_accuracy": float(np.mean(folds)), "folds_accuracy_low": low, "folds_accuracy_high": high}


def _by_folds(folds: Sequence[float]) -> _Standing:
    return _Standing(float(np.mean(folds)), *fold_interval(folds), np.asarray(folds), folds_differ)


def _by_draws(score: float, draws: np.ndarray) -> _Standing:
    return _Standing(score, *draw_interval(draws), draws, draws_differ)
