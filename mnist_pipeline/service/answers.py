"""An answer as a value: what is said of each image, and what every answer says about itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.answers import answer_of
from mnist_pipeline.service.reading import Seen
from mnist_pipeline.service.roster import Serving

NO_DIGIT = "there is no digit on the image that the model could look at"


@dataclass(frozen=True)
class Answer:
    """probabilities: float32 [M, classes], of the digits among what was asked."""

    by: Serving
    seen: Seen
    probabilities: np.ndarray

    def of_each(self, *, shown: bool = False) -> list[dict[str, Any]]:
        """What is answered to each image; where there is no digit, that and nothing else."""
        found = iter(zip(self.probabilities.tolist(), self.seen.images, strict=True))
        return [self._one(*next(found), shown=shown) if there else _nothing() for there in self.seen.is_digit]

    def labels(self) -> list[str | None]:
        """Of each image; None where there is no digit."""
        best = iter(self.probabilities.argmax(1).tolist())
        return [self.by.names[next(best)] if there else None for there in self.seen.is_digit]

    def _one(self, row: list[float], image: np.ndarray, *, shown: bool) -> dict[str, Any]:
        found = answer_of(row, self.by.names)
        return {**found, "seen": image.tolist()} if shown else found


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
