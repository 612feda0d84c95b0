"""An answer as a value: what is said of each image, and what every answer says about itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.answers import answer_of, with_set
from mnist_pipeline.service.reading import Seen
from mnist_pipeline.service.roster import Serving, Standing
from mnist_pipeline.service.rows import Predicted
from mnist_pipeline.traffic import DRAFT

ABSTAINING = ("predict", DRAFT)  # doors
NO_DIGIT = "there is no digit on the image that the model could look at"


@dataclass(frozen=True)
class Answer:
    """probabilities: float32 [M, classes], of the digits among what was asked."""

    by: Serving
    seen: Seen
    probabilities: np.ndarray

    def of_each(self) -> list[dict[str, Any]]:
        """What is answered to each image; where there is no digit, that and nothing else."""
        found = iter(self.probabilities.tolist())
        return [answer_of(next(found), self.by.names) if there else _nothing() for there in self.seen.is_digit]

    def with_sets(self, *, abstain: bool, shown: bool = False) -> list[dict[str, Any]]:
        """The same with what else each image may show. abstain: no label where that is several. shown: with what the
        network saw."""
        images = iter(self.seen.images)
        return [
            {**self._with_set(each, abstain=abstain), **({"seen": next(images).tolist()} if shown and there else {})}
            for each, there in zip(self.of_each(), self.seen.is_digit, strict=True)
        ]

    def labels(self) -> list[str | None]:
        """Of each image; None where there is no digit."""
        best = iter(self.probabilities.argmax(1).tolist())
        return [self.by.names[next(best)] if there else None for there in self.seen.is_digit]

    def _with_set(self, each: dict[str, Any], *, abstain: bool) -> dict[str, Any]:
        shares = each["probabilities"]
        possible = self.by.predictor.sets.of(list(shares.values()), self.by.names) if shares else None
        return with_set(each, possible, abstain=abstain)


def abstained(standing: Standing, predicted: Predicted) -> np.ndarray | None:
    """bool [N], which images of a request to `POST /predict` got no label where it abstains; None where all did, as at
    the other doors, and where the version has just been replaced."""
    serving = [each for each in (standing.champion, standing.challenger) if each]
    for by in serving if predicted.door in ABSTAINING else ():
        if by.card.name == predicted.version:
            possible = by.predictor.sets.among(predicted.probabilities)
            return None if possible is None else possible.sum(1) > 1
    return None


def _nothing() -> dict[str, Any]:
    return {**answer_of(None, ()), "reason": NO_DIGIT}


def about(answer: Answer, request_id: str, began: float) -> Mapping[str, Any]:
    """What every answer says about itself. began: by `time.perf_counter`."""
    return {
        "model_version": answer.by.card.name,
        "decision": answer.by.decision,
        "served_by": answer.by.role,
        "request_id": request_id,
        "milliseconds": round(1e3 * (time.perf_counter() - began), 3),
    }
