"""Prediction sets: every class that an image may well show, so that the truth is among them as often as was asked for.

Split conformal prediction with the probability as score: LAC (Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued
Classifiers with Bounded Error Levels, 2019). Of the validation images it takes one quantile, and of each prediction
one comparison, so it is written here in NumPy; that MAPIE gives the same sets is a test, and not imported to answer.
Not here: making the probabilities honest (`calibration`), and what is answered to whom.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mnist_pipeline.ml.metrics import wilson_interval

CONFORMAL = "conformal.json"
METHOD = "LAC"


@dataclass(frozen=True)
class PredictionSets:
    """A class is in the set when its probability reaches the threshold; the most probable one always is.

    coverage: the share of images whose set was to hold the truth; images: how many it was calibrated on. Where they
    are too few for the coverage, the threshold is 0 and every set has all classes.
    """

    coverage: float
    threshold: float
    images: int

    def of(self, row: Sequence[float], names: Sequence[str]) -> list[str]:
        """The classes for the probabilities of one image, the most probable first."""
        least = min(self.threshold, max(row))
        return [names[i] for i in sorted(range(len(row)), key=lambda i: -row[i]) if row[i] >= least]

    def among(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in each set: bool [N, classes]."""
        return probabilities >= np.minimum(self.threshold, probabilities.max(1, keepdims=True, initial=0))

    def measured(self, truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """How the sets do on images that they were not calibrated on.

        coverage: of the sets as calibrated, of which those are empty whose best class does not reach the threshold;
        with its 95 % interval (Wilson). The others are of the sets as shown, where the best class is always in: a
        model that is right more often than was asked for covers more than was asked for.
        """
        rows, shown = np.arange(len(truth)), self.among(probabilities)
        reached, sizes = probabilities[rows, truth] >= self.threshold, shown.sum(1)
        low, high = wilson_interval(int(reached.sum()), len(truth))
        return {
            "coverage_asked": self.coverage,
            "coverage": float(reached.mean()),
            "coverage_low": low,
            "coverage_high": high,
            "coverage_shown": float(shown[rows, truth].mean()),
            "mean_set_size": float(sizes.mean()),
            "singletons": float((sizes == 1).mean()),
        }

    def as_json(self) -> bytes:
        """The file that is stored with a version."""
        return json.dumps({"method": METHOD, **asdict(self)}, sort_keys=True, indent=2).encode()


class NoSets:
    """Of a version that was stored before there were sets."""

    def of(self, row: Sequence[float], names: Sequence[str]) -> None:
        """None."""

    def among(self, probabilities: np.ndarray) -> None:
        """None."""

    def measured(self, truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """Nothing to measure."""
        return {}


NO_SETS = NoSets()


def conform(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> PredictionSets:
    """The sets that hold the truth with this probability for images like these, which were not trained on.

    Raises ValueError for a coverage that is not between 0 and 1, and for no images.
    """
    count = len(labels)
    if not 0 < coverage < 1 or count == 0:
        raise ValueError(f"sets of coverage {coverage} cannot be calibrated on {count} images")
    rank = math.ceil((count + 1) * coverage - 1e-9)  # so many must reach the threshold
    of_truth = np.sort(probabilities[np.arange(count), labels])
    return PredictionSets(coverage, float(of_truth[count - rank]) if rank <= count else 0.0, count)


def sets_of(files: Mapping[str, bytes]) -> PredictionSets | NoSets:
    """Of the files of a version. Raises ValueError for a file that does not say what sets there are."""
    if CONFORMAL not in files:
        return NO_SETS
    said = json.loads(files[CONFORMAL])
    method = said.pop("method", None)
    if method != METHOD or said.keys() != PredictionSets.__dataclass_fields__.keys() or not 0 <= said["threshold"] <= 1:
        raise ValueError(f"{CONFORMAL} does not say which sets to give: {files[CONFORMAL][:200]!r}")
    return PredictionSets(**said)
