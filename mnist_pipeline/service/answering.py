"""From images to an answer: who answers, the run of the network, what is counted and kept of it.

Every door (`predict`, `open_inference`, `invocations`) answers through this one, so that all give the same answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from mnist_pipeline.ml.predictor import Predictions
from mnist_pipeline.service.batching import Batcher
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.metrics import Metrics
from mnist_pipeline.service.prediction_log import NoLog, Predicted, PredictionLog
from mnist_pipeline.service.reading import Question, Seen, needs_no_work, seen
from mnist_pipeline.service.roster import Roster, Serving, Standing

NO_MODEL = "no model is in production: run `make run`, or deploy a version with `mnist-pipeline deploy`; it is noticed"
NO_DIGIT = "there is no digit on the image that the model could look at"
log = logging.getLogger(__name__)
RETRY = {"Retry-After": "1"}
MOST_SHADOWS = 64  # images that wait for a challenger in the shadow


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
        best = max(row)
        found: dict[str, Any] = {
            "label": self.by.names[row.index(best)],
            "confidence": best,
            "probabilities": dict(zip(self.by.names, row, strict=True)),
        }
        return {**found, "seen": image.tolist()} if shown else found


def _nothing() -> dict[str, Any]:
    return {"label": None, "confidence": None, "probabilities": None, "reason": NO_DIGIT}


class Answering:
    """What all requests share. at_once: requests at work, above which more are sent away, so that those at work stay
    quick; share: of the requests that the challenger answers, 0 for it to run in the shadow."""

    def __init__(
        self,
        roster: Roster,
        batcher: Batcher,
        metrics: Metrics,
        log: PredictionLog | NoLog,
        pool: ThreadPoolExecutor,
        at_once: int,
        share: float = 0.0,
    ) -> None:
        self.roster, self.batcher, self.metrics, self.log, self.share = roster, batcher, metrics, log, share
        self.at_once, self.at_work = at_once, 0
        self._pool = pool
        self._shadows = 0

    async def answer(self, asked: Question, door: str, request_id: str, key: str, version: str = "") -> Answer:
        """key: what decides who answers; version: who has to, "" for anyone. Raises Refused."""
        if self.at_work >= self.at_once:
            raise Refused("busy", f"{self.at_once} requests are at work already: try again in a second", RETRY)
        self.at_work += 1
        try:
            return await self._answer(asked, door, request_id, key, version)
        finally:
            self.at_work -= 1

    async def _answer(self, asked: Question, door: str, request_id: str, key: str, version: str) -> Answer:
        standing = self.roster.standing
        by = named(standing, version) if version else self._chosen(standing, key)
        look = needs_no_work(asked, by.preparation)
        if look is None:  # a photo may take a second, which others do not wait for
            look = await asyncio.get_running_loop().run_in_executor(self._pool, seen, asked, by.preparation)
        answer = Answer(by, look, await self.batcher.probabilities(by.predictor, look.images))
        self._note(answer, door, request_id)
        if standing.challenger and self.share == 0 and by.role == "champion":
            self._shadow(standing.challenger, answer, door, request_id)
        return answer

    def _chosen(self, standing: Standing, key: str) -> Serving:
        if standing.champion is None:
            raise no_model(standing)
        if standing.challenger and self.share and is_challengers(key, self.share):
            return standing.challenger
        return standing.champion

    def _note(self, answer: Answer, door: str, request_id: str) -> None:
        by = answer.by
        for label in answer.labels():
            self.metrics.predicted(by.role, label)
        self._keep(by, by.role, answer.seen.images, answer.probabilities, door, request_id)

    def _keep(
        self, by: Serving, role: str, images: np.ndarray, probabilities: np.ndarray, door: str, request_id: str
    ) -> None:
        if len(images):
            row = (time.time(), request_id, door, role, by.card.name, by.decision, by.names, images, probabilities)
            self.log.add(Predicted(*row))

    def _shadow(self, challenger: Serving, answer: Answer, door: str, request_id: str) -> None:
        """Ask the challenger too, when nobody waits for it any more; what there is no time for is dropped."""
        images = answer.seen.images
        if self._shadows + len(images) > MOST_SHADOWS:
            self.metrics.shadow_dropped.inc(len(images))
            return
        self._shadows += len(images)
        work = asyncio.get_running_loop().run_in_executor(self._pool, challenger.predictor.predict, images)

        def keep(done: asyncio.Future[Predictions]) -> None:
            self._shadows -= len(images)
            if error := done.exception():
                log.error("the challenger %s failed in the shadow: %r", challenger.card.name, error)
            else:
                self._keep(challenger, "shadow", images, done.result().probabilities, door, request_id)

        work.add_done_callback(keep)


def is_challengers(key: str, share: float) -> bool:
    """The same for the same key at any time and on any machine."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") < share * 2**64


def named(standing: Standing, version: str) -> Serving:
    """The model of that version, if it serves. Raises Refused."""
    serving = [each for each in (standing.champion, standing.challenger) if each]
    for each in serving:
        if each.card.name == version:
            return each
    if not serving:
        raise no_model(standing)
    names = " and ".join(each.card.name for each in serving)
    raise Refused("not_found", f"version {version[:100]!r} does not serve here: {names} does")


def no_model(standing: Standing) -> Refused:
    """Why nothing answers, and what to do."""
    refused = standing.refused
    why = f"decision {refused.decision} cannot be served ({refused.reason})" if refused else NO_MODEL
    return Refused("no_model", why, RETRY)


def about(answer: Answer, request_id: str, began: float) -> Mapping[str, Any]:
    """What every answer says about itself. began: by `time.perf_counter`."""
    return {
        "model_version": answer.by.card.name,
        "decision": answer.by.decision,
        "served_by": answer.by.role,
        "request_id": request_id,
        "milliseconds": round(1e3 * (time.perf_counter() - began), 3),
    }
