"""Classical models on raw pixels, by scikit-learn, behind the same door as the networks: uint8 in, logits out.

Here: how each is fitted. Their ONNX graphs, which are all that is stored of them, are made in `classical_graphs`.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.network import Network
from mnist_pipeline.ml.training import Epoch, Trained

FLOOR = 1e-4  # of probabilities, whose logarithm is a logit: trees and neighbours often give 0
JUDGED = 2_000  # training images that the training loss is measured on
BATCH = 1_000


class Classical(Network):
    """A fitted model of scikit-learn. Logits are logarithms of its probabilities, none of them below the floor.

    As a network it has a temperature, and no weights.
    """

    def __init__(self, estimator: Any, classes: int) -> None:
        super().__init__()
        self.estimator, self.classes = estimator, classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 [N, 28, 28], as they are, for nothing here needs them normalised -> logits float32."""
        parts = [self._log_probabilities(flat(part.numpy())) for part in images.split(BATCH)]
        return torch.from_numpy(np.concatenate(parts)).float() / self.temperature

    def _log_probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """float64 [N, classes]; a class that was never seen has the floor."""
        probabilities = np.zeros((len(pixels), self.classes))
        if len(pixels):
            probabilities[:, self.estimator.classes_] = self.estimator.predict_proba(pixels)
        return np.log(np.maximum(probabilities, FLOOR))


def flat(images: np.ndarray) -> np.ndarray:
    """float64 [N, 784], 0..255: whole numbers, so that distances between images are exact."""
    return images.reshape(len(images), -1).astype(np.float64)


def fit(training: LabeledImages, validation: LabeledImages, classes: int, config: ModelConfig) -> Trained:
    """The classical model of a configuration, with one "epoch" to tell how well it does.

    Same data, config and release of scikit-learn: the same model. Raises ValueError for an architecture that is none.
    """
    begun = time.perf_counter()
    used = stratified(training, config.prototypes, config.seed) if config.architecture == "knn" else training
    estimator = _estimator(config, len(used))
    with warnings.catch_warnings():
        from sklearn.exceptions import ConvergenceWarning

        warnings.simplefilter("ignore", ConvergenceWarning)  # iterations is a limit that is asked for
        estimator.fit(flat(used.images) / _unit(config), used.labels)
    if config.architecture == "logistic":
        estimator.coef_ /= _unit(config)  # from here on it takes pixels as all others do
    fitted = time.perf_counter() - begun
    model = Classical(estimator, classes).eval()
    train_loss, _ = _judged(model, training.take(np.arange(min(JUDGED, len(training)))))
    loss, accuracy = _judged(model, validation)
    epoch = Epoch(
        1, 1, train_loss, (train_loss,), loss, accuracy, len(used) / fitted, fitted, seconds_left=0.0, best=True
    )
    return Trained(model, config, [epoch])


def stratified(data: LabeledImages, most: int, seed: int) -> LabeledImages:
    """At most so many images, the same share of each class and at least one, drawn by seed, in their order."""
    if len(data) <= most:
        return data
    random = np.random.default_rng(seed)
    rows = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
    drawn = [random.choice(each, max(1, len(each) * most // len(data)), replace=False) for each in rows]
    return data.take(np.sort(np.concatenate(drawn)))


def closeness(distances: np.ndarray) -> np.ndarray:
    """Votes of neighbours by distance, [N, k] sorted: 1 for the nearest, 0 for the farthest (Dudani 1976).

    As the farthest does not count, it does not matter which of two that are equally far is taken for it.
    """
    near, far = distances[:, :1], distances[:, -1:]
    spread = far - near
    return np.where(spread == 0, 1.0, (far - distances) / np.where(spread == 0, 1.0, spread))


def _unit(config: ModelConfig) -> float:
    """The penalty and L-BFGS want features of about 1; the others do not mind."""
    return 255.0 if config.architecture == "logistic" else 1.0


def _estimator(config: ModelConfig, images: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    seed, threads = config.seed % 2**32, torch.get_num_threads()
    tree: dict[str, Any] = {"max_depth": config.tree_depth or None, "min_samples_leaf": config.leaf}
    if config.architecture == "tree":
        return DecisionTreeClassifier(random_state=seed, **tree)
    if config.architecture == "forest":
        return RandomForestClassifier(config.trees, random_state=seed, n_jobs=threads, **tree)
    if config.architecture == "logistic":
        return LogisticRegression(C=1 / config.penalty, max_iter=config.iterations)
    if config.architecture == "knn":
        few = min(config.neighbours, images)
        return KNeighborsClassifier(few, weights=closeness, algorithm="brute", metric="sqeuclidean", n_jobs=threads)
    raise ValueError(f"{config.architecture} is no classical model: it is trained as a network")


def _judged(model: Classical, data: LabeledImages) -> tuple[float, float]:
    """(mean cross entropy, accuracy)."""
    with torch.inference_mode():
        logits, labels = model(torch.tensor(data.images)), torch.tensor(data.labels, dtype=torch.int64)
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())
