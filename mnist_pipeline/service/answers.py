"""An answer as a value: what is said of each image, and what every answer says about itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.answers import answer_of, with_set
from mnist_pipeline.service.reading import Seen
from mnist_pipeline.service.roster import Serving

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
