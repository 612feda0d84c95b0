"""What a fitted model looks at: one number a feature, as it came into the pipeline.

Trees say it themselves; of a linear model it is how far a feature moves the log odds from row to row; of neighbours,
how much ROC-AUC is lost when the feature is shuffled.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.tables.scores import roc_auc
from mnist_pipeline.ml.tables.task import TableTask

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

ROWS, SHUFFLES = 300, 2  # of the permutation; neighbours are slow to ask


def importances(
    pipeline: "Pipeline", task: TableTask, features: "pd.DataFrame", target: np.ndarray, seed: int
) -> dict[str, float]:
    """Feature -> importance as a share of the sum, the most important first. features, target: rows to look at."""
    model = pipeline.named_steps["model"]
    if hasattr(model, "feature_importances_"):
        raw = _summed(model.feature_importances_[None], pipeline, task)[0]
    elif hasattr(model, "coef_"):
        moved = pipeline.named_steps["columns"].transform(features) * model.coef_[0]
        raw = _summed(moved, pipeline, task).std(0)
    else:
        raw = _lost_by_shuffling(pipeline, features, target, seed)
    total = float(raw.sum()) or 1.0
    shares = {name: float(value) / total for name, value in zip(task.features, raw, strict=True)}
    return dict(sorted(shares.items(), key=lambda each: -each[1]))


def _summed(columns: np.ndarray, pipeline: "Pipeline", task: TableTask) -> np.ndarray:
    """[rows, columns of the model] -> [rows, features]: the columns of a category are one feature."""
    return np.add.reduceat(columns, np.cumsum([0, *_widths(pipeline, task)[:-1]]), axis=1)


def _widths(pipeline: "Pipeline", task: TableTask) -> list[int]:
    """How many columns of the model each feature has become."""
    widths = [1] * len(task.numbers)
    if task.categories:
        encoder: Any = pipeline.named_steps["columns"].named_transformers_["categories"][-1]
        for known, rare in zip(encoder.categories_, encoder.infrequent_categories_, strict=True):
            widths.append(len(known) if rare is None else len(known) - len(rare) + 1)
    return widths


def _lost_by_shuffling(pipeline: "Pipeline", features: "pd.DataFrame", target: np.ndarray, seed: int) -> np.ndarray:
    """Never below zero: a feature that does harm is of no importance. All shuffled rows are asked at once."""
    import pandas as pd

    draw = np.random.default_rng(seed)
    rows = draw.permutation(len(target))[:ROWS]
    few, truth = features.iloc[rows], target[rows]
    if truth.all() or not truth.any():
        return np.zeros(features.shape[1])
    shuffled = [
        few.assign(**{str(name): few[name].to_numpy()[draw.permutation(len(few))]})
        for name in features
        for _ in range(SHUFFLES)
    ]
    answers = pipeline.predict_proba(pd.concat([few, *shuffled]))[:, 1].reshape(-1, len(few))
    whole, *left = (roc_auc(truth, each) for each in answers)
    return np.maximum(whole - np.reshape(left, (-1, SHUFFLES)).mean(1), 0.0)
