"""Tuning a model of a table: what is searched for each kind, and a score by cross-validation of the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.tables.models import MODELS, pipeline_of
from mnist_pipeline.ml.tables.scores import FOLDS, fold_error, roc_auc
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.ml.tuning.problems import Advantage, Scored
from mnist_pipeline.ml.tuning.spaces import Choices, Floats, Integers, Space

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Not searched: the number of trees, of which more are only slower; fix another one where it matters.
SPACES: dict[str, Space] = {
    "decision_tree": {"max_depth": Integers(1, 20), "min_samples_leaf": Integers(1, 50, log=True)},
    "random_forest": {
        "max_depth": Choices((None, 4, 6, 8, 12, 16, 24)),
        "min_samples_leaf": Integers(1, 20, log=True),
    },
    "logistic_regression": {"c": Floats(1e-3, 1e2, log=True)},
    "knn": {"neighbours": Integers(1, 60, log=True), "weights": Choices(("uniform", "distance"))},
}
REPEATS = 2  # of the same number of folds as models are ranked on


@dataclass(frozen=True)
class TableProblem:
    """rows: features of the training rows only; target: bool [rows]. kind: of the model. current: all its settings."""

    rows: pd.DataFrame
    target: np.ndarray
    task: TableTask
    kind: str
    current: dict[str, Any]
    space: Space
    measure: str = f"mean ROC-AUC over {FOLDS} folds, {REPEATS} times"

    def score(self, settings: Mapping[str, Any], on_step: Callable[[int, float], None]) -> Scored:
        """Mean over the folds, the same ones for all settings; on_step: folds so far and their mean."""
        import numpy as np
        from sklearn.metrics import log_loss
        from sklearn.model_selection import RepeatedStratifiedKFold

        scores, losses = [], []
        folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=self.task.seed)
        for fitted, judged in folds.split(self.rows, self.target):
            model = pipeline_of(MODELS[self.kind](**settings), self.task, self.task.seed)
            model.fit(self.rows.iloc[fitted], self.target[fitted])
            positive = model.predict_proba(self.rows.iloc[judged])[:, 1]
            scores.append(roc_auc(self.target[judged], positive))
            losses.append(float(log_loss(self.target[judged], positive)))
            if len(scores) < FOLDS * REPEATS:
                on_step(len(scores), float(np.mean(scores)))
        return Scored(float(np.mean(scores)), float(np.mean(losses)), scores)

    def advantage(self, best: Scored, current: Scored) -> Advantage:
        """The t-test over folds, corrected for training rows that folds share (Nadeau and Bengio 2003), one-sided."""
        import numpy as np
        from scipy.stats import t

        gains = np.subtract(best.evidence, current.evidence)
        spread = fold_error(gains)
        p = float(t.sf(gains.mean() / spread, len(gains) - 1)) if spread else float(gains.mean() <= 0)
        return Advantage(p, f"by {gains.mean():+.4f} on average, in {(gains > 0).sum()} of {len(gains)} folds")
