"""Which model of a table is the best, and which of the others is not worse by more than noise.

Models are ranked on folds or on validation, never on test: who picks the best on test has measured nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.tables.scores import auc_draws, draw_interval, draws_differ, fold_interval, folds_differ

SCORE = "roc_auc"

Answers = tuple[np.ndarray, np.ndarray]
"""truth, bool [N], and the probability of being positive [N]"""


@dataclass(frozen=True, eq=False)
class _Standing:
    score: float
    low: float
    high: float
    drawn: np.ndarray  # scores on the same folds or resamples for every model
    differ: Callable[[np.ndarray, np.ndarray], bool]


def ranked(
    reports: Mapping[str, Mapping[str, Any]], validation: Mapping[str, Answers], seed: int
) -> list[dict[str, Any]]:
    """One row a model, the best first: model, score, low, high, within_noise, ranked_on, and the scores on test.

    reports: what `learn` found. validation: the answers of each model there; read where no folds were drawn.
    """
    if all(report["folds"] for report in reports.values()):
        found = {name: _by_folds(report["folds"][SCORE]) for name, report in reports.items()}
        ranked_on = "5×5 folds"
    else:
        found = {
            name: _by_draws(report["validation"][SCORE], auc_draws(*validation[name], seed))
            for name, report in reports.items()
        }
        ranked_on = "validation"
    best = max(found.values(), key=lambda each: each.score)
    return [
        {
            "model": name,
            "score": each.score,
            "low": each.low,
            "high": each.high,
            "within_noise": each is best or not each.differ(best.drawn, each.drawn),
            "ranked_on": ranked_on,
            **{f"test_{key}": value for key, value in reports[name]["test"].items()},
        }
        for name, each in sorted(found.items(), key=lambda item: -item[1].score)
    ]


def said(rows: list[dict[str, Any]]) -> str:
    """The leaderboard in a sentence."""
    best, others = rows[0], [row["model"] for row in rows[1:] if row["within_noise"]]
    close = f"; {', '.join(others)} not worse by more than noise" if others else "; better than all others beyond noise"
    return f"{best['model']} is best: ROC-AUC {best['score']:.4f} on {best['ranked_on']}{close}"


def _by_folds(folds: Sequence[float]) -> _Standing:
    return _Standing(float(np.mean(folds)), *fold_interval(folds), np.asarray(folds), folds_differ)


def _by_draws(score: float, draws: np.ndarray) -> _Standing:
    return _Standing(score, *draw_interval(draws), draws, draws_differ)
