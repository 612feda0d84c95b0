"""Training one model of a table and measuring it, as a report that says all that others need to compare it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.tables.importance import importances
from mnist_pipeline.ml.tables.models import Settings, pipeline_of
from mnist_pipeline.ml.tables.preparing import part_of
from mnist_pipeline.ml.tables.scores import confusion, cross_validated, fold_interval, scores
from mnist_pipeline.ml.tables.task import TableTask

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

SMALL = 1_000  # test rows below which one split says too little, and folds are drawn as well


@dataclass(frozen=True)
class Learned:
    """A fitted pipeline and what was measured on it."""

    pipeline: "Pipeline"
    report: dict[str, Any]

    @property
    def numbers(self) -> dict[str, float]:
        """The single numbers, which Dagster and MLflow can plot over runs."""
        found = {f"{part}_{name}": value for part in self._parts for name, value in self.report[part].items()}
        folds = self.report["folds"]
        return {**found, **{f"folds_{name}": float(np.mean(values)) for name, values in folds.items()}}

    @property
    def folds(self) -> list[dict[str, Any]]:
        """A row a score: score, mean over the folds, low and high of its 95 % interval; none where none were drawn."""
        found = {name: (np.mean(values), *fold_interval(values)) for name, values in self.report["folds"].items()}
        return [
            {"score": name, "mean": float(mean), "low": low, "high": high} for name, (mean, low, high) in found.items()
        ]

    @property
    def _parts(self) -> list[str]:
        return [part for part in ("validation", "test") if part in self.report]


def learn(table: "pd.DataFrame", task: TableTask, settings: Settings) -> Learned:
    """Fit on the training part only and measure on the others; where the test part is small, or there is no
    validation part to rank on, also over 5×5 folds of the training part. table: features, target and part of each row.

    In one thread: on tables of this size several wait for each other, up to ten times as long.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return _learn(table, task, settings)


def _learn(table: "pd.DataFrame", task: TableTask, settings: Settings) -> Learned:
    features, target = part_of(table, "train")
    pipeline = pipeline_of(settings, task, task.seed).fit(features, target)
    report: dict[str, Any] = {"train_rows": len(target)}
    for part in ("validation", "test"):
        if part in task.parts:
            truth, probability = answers(pipeline, table, part)
            report[part] = scores(truth, probability)
    report["test_rows"], report["confusion"] = len(truth), confusion(truth, probability)
    needed = len(truth) < SMALL or "validation" not in task.parts
    report["folds"] = (
        cross_validated(pipeline_of(settings, task, task.seed), features, target, task.seed) if needed else {}
    )
    report["importances"] = importances(pipeline, task, *part_of(table, "test"), seed=task.seed)
    return Learned(pipeline, report)


def answers(pipeline: "Pipeline", table: "pd.DataFrame", part: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth (bool) and the probability of being positive, for the rows of a part."""
    features, truth = part_of(table, part)
    return truth, pipeline.predict_proba(features)[:, 1]
