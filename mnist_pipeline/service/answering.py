"""From images to an answer: who answers, the run of the network, what is counted and kept of it.

Every door (`predict`, `open_inference`, `invocations`) answers through this one, so that all give the same answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
from starlette.responses import Response

from mnist_pipeline.ml.digits import Preparation
from mnist_pipeline.ml.predictor import Predictions
from mnist_pipeline.service.answers import Answer
from mnist_pipeline.service.batching import LARGE, Batcher
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.metrics import Metrics
from mnist_pipeline.service.prediction_log import NoLog, PredictionLog
from mnist_pipeline.service.reading import Question, Seen, needs_no_work, seen
from mnist_pipeline.service.roster import Roster, Serving, Standing
from mnist_pipeline.service.rows import Predicted

NO_MODEL = "no model is in production: run `make run`, or deploy a version with `mnist-pipeline deploy`; it is noticed"
log = logging.getLogger(__name__)
RETRY = {"Retry-After": "1"}
LARGE_BODY = 65_536  # bytes from which a body is read in a thread: a millisecond and more
AT_A_TIME = 16  # images that are drawn anew before another request has its turn
LONGEST_S = 30.0  # that the images of one request may take
Result = TypeVar("Result")
MOST_SHADOWS = 64  # images that wait for a challenger in the shadow


class Room:
    """For requests at work, each from before its body is looked at until it is answered. at_once: so many; more are
    sent away, so that those at work stay quick."""

    def __init__(self, at_once: int) -> None:
        self._at_once, self._at_work = at_once, 0

    def __enter__(self) -> None:
        if self._at_work >= self._at_once:
            raise Refused("busy", f"{self._at_once} requests are at work already: try again in a second", RETRY)
        self._at_work += 1

    def __exit__(self, *_: object) -> None:
        self._at_work -= 1


class Answering:
    """What all requests share. at_once: requests for which there is `room`; share: of the requests that the challenger
    answers; to all others it answers in the shadow."""

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
        self.room = Room(at_once)
        self._pool = pool
        self._shadows = 0

    async def answer(self, asked: Question, door: str, request_id: str, key: str, version: str = "") -> Answer:
        """key: what decides who answers; version: who has to, "" for anyone. Raises Refused."""
        standing = self.roster.standing
        by = named(standing, version) if version else self._chosen(standing, key)
        look = await self._aside(len(asked.given) >= LARGE, needs_no_work, asked, by.preparation)
        if look is None:
            look = await self._drawn(asked, by.preparation)
        answer = Answer(by, look, await self.batcher.probabilities(by.predictor, look.images))
        self._note(answer, door, request_id)
        rival = standing.challenger
        if rival and by.role == "champion":  # with a share too: on other images nobody sees whether they agree
            self._shadow(rival, answer, door, request_id)
        return answer

    async def read(self, body: bytes, reading: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What a body asks for; of a large one in a thread, for 10 MB take a second. Others wait a part of it all the
        same: JSON is parsed in one go, during which Python does nothing else. Raises Refused."""
        if len(body) < LARGE_BODY:
            return await reading()
        return await self._aside(True, lambda: asyncio.run(reading()))

    async def respond(self, answer: Answer, response: Callable[[], Response]) -> Response:
        """The response, made in a thread where it is about many images."""
        return await self._aside(len(answer.seen.is_digit) >= LARGE, response)

    async def _drawn(self, asked: Question, preparation: Preparation) -> Seen:
        """A photo may take a second. A few at a time, so that of many requests with photos none waits for all of
        another one's. Raises Refused where they take too long."""
        began, parts = time.monotonic(), list[Seen]()
        for at in range(0, len(asked.given), AT_A_TIME):
            if at and time.monotonic() - began > LONGEST_S:
                said = (
                    f"only {at:,} of {len(asked.given):,} images could be read in {LONGEST_S:g} s: send fewer at once"
                )
                raise Refused("too_large", said)
            parts.append(await self._aside(True, seen, asked, preparation, at, at + AT_A_TIME))
        images, is_digit = ([getattr(each, name) for each in parts] for name in ("images", "is_digit"))
        return Seen(np.concatenate(images), np.concatenate(is_digit))

    async def _aside(self, aside: bool, work: Callable[..., Result], *given: Any) -> Result:
        """In a thread, or at once where that is quicker."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given) if aside else work(*given)

    def _chosen(self, standing: Standing, key: str) -> Serving:
        champion = champion_of(standing)
        rival = standing.challenger
        return rival if rival and not rival.shadow_only and is_challengers(key, self.share) else champion

    def _note(self, answer: Answer, door: str, request_id: str) -> None:
        by = answer.by
        for label in answer.labels():
            self.metrics.predicted(by.role, label)
        self._keep(by, by.role, answer.seen, answer.probabilities, door, request_id)

    def _keep(self, by: Serving, role: str, seen: Seen, probabilities: np.ndarray, door: str, request_id: str) -> None:
        if len(seen.images):
            row = (time.time(), request_id, door, role, by.card.name, by.decision, by.names, seen.images, probabilities)
            self.log.add(Predicted(*row, seen.places()))

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
                self._keep(challenger, "shadow", answer.seen, done.result().probabilities, door, request_id)

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


def champion_of(standing: Standing) -> Serving:
    """Who answers where nobody in particular is asked. Raises Refused."""
    if standing.champion is None:
        raise no_model(standing)
    return standing.champion


def no_model(standing: Standing) -> Refused:
    """Why nothing answers, and what to do."""
    refused = standing.refused
    why = f"decision {refused.decision} cannot be served ({refused.reason})" if refused else NO_MODEL
    return Refused("no_model", why, RETRY)
