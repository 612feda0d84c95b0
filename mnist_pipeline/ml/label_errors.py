"""Which labels are probably wrong: confident learning over predictions for images that a network has not learned.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021), as cleanlab
has it. Arrays in, values out; what is done about them is for people to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.split import split_off

HELD_BACK = 0.1  # of what a fold learns from: tells the training loop when to stop, so that the fold itself does not
COLDEST_HOTTEST = (0.2, 5.0)  # temperatures that are looked at


@dataclass(frozen=True)
class Suspect:
    """row: in the images that were looked at. given, likely: classes. confidence: in the likely one, out of fold;
    quality: of the given label, 0 is the worst."""

    row: int
    given: int
    likely: int
    confidence: float
    quality: float


def out_of_fold(
    data: LabeledImages,
    classes: int,
    config: ModelConfig,
    folds: int,
    told: Callable[[int], object] = lambda fold: None,
) -> np.ndarray:
    """float32 [N, classes]: for each image what a network says of it that has learned from the other folds only.

    The project's own training loop, once a fold. told: the number of each fold that is done. Raises ValueError where a
    class has fewer images than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(data.labels, minlength=classes)
    if (least := counts[counts > 0].min()) < 2 * folds:
        raise ValueError(f"a class has {least} images, too few for {folds} folds: at least {2 * folds} are needed")
    found = np.zeros((len(data), classes), np.float32)
    cut = StratifiedKFold(folds, shuffle=True, random_state=config.seed).split(data.images, data.labels)
    for fold, (rest, held_out) in enumerate(cut, 1):
        found[held_out] = _learned(data.take(rest), data.images[held_out], classes, config)
        told(fold)
    return found


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """The labels that are probably wrong, the worst first. labels: int [N]; probabilities: float [N, classes], out of
    fold. Raises ValueError for shapes that do not fit."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    if len(labels) != len(probabilities):
        raise ValueError(f"{len(labels):,} labels but {len(probabilities):,} predictions")
    given = labels.astype(np.int64)
    shares = _calibrated(given, probabilities)
    quality = get_label_quality_scores(given, shares)
    kind = {"filter_by": "prune_by_class", "return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    rows = find_label_issues(given, shares, **kind)
    return [_suspect(int(row), given, shares, quality) for row in rows]


def _suspect(row: int, given: np.ndarray, shares: np.ndarray, quality: np.ndarray) -> Suspect:
    likely = int(shares[row].argmax())
    return Suspect(row, int(given[row]), likely, float(shares[row, likely]), float(quality[row]))


def _calibrated(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """With the one temperature that makes the given labels likeliest (Guo et al. 2017), as float64 that sum to 1.

    Networks trained with smoothed labels are never sure, and confident learning counts only what is: of MNIST's 60,000
    labels it names 5 without this, and 44 with it (temperature near 0.5); looked at, the first are plainly wrong, and
    others can be argued about.
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(probabilities.astype(np.float64), 1e-12, 1))
    rows = np.arange(len(given))

    def loss(temperature: float) -> float:
        return float(-np.log(np.clip(_softmax(logs / temperature)[rows, given], 1e-300, 1)).mean())

    return _softmax(logs / minimize_scalar(loss, bounds=COLDEST_HOTTEST, method="bounded").x)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return total


def _learned(rest: LabeledImages, unseen: np.ndarray, classes: int, config: ModelConfig) -> np.ndarray:
    """What a network that learned from `rest` says of the unseen images."""
    from mnist_pipeline.ml.artifacts import torch_logits
    from mnist_pipeline.ml.training import train

    learning, held_back = split_off(rest, HELD_BACK, config.seed)
    return _softmax(torch_logits(train(learning, held_back, classes, config).network, unseen))
