"""Running the network: small requests that arrive together as one batch, large ones in a thread of their own.

A run of one image takes 50 µs and of eight images 130, so what arrives in the same round of the event loop is run
together. It does not wait for more unless told so: at 200 requests a second there is rarely a second one.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mnist_pipeline.ml.predictor import Predictor

LARGE = 64  # images from which a request is run in a thread: a millisecond and more


@dataclass
class _Waiting:
    """Images of several requests for one network."""

    images: list[np.ndarray] = field(default_factory=list)
    answers: list[asyncio.Future[np.ndarray]] = field(default_factory=list)
    count: int = 0


class Batcher:
    """Probabilities from images, for the requests of one event loop.

    batch: images in one run of several requests, 1 for each by itself; one that has more is run by itself. wait_s: that
    the first of a batch waits for others.
    """

    def __init__(self, batch: int, wait_s: float, pool: ThreadPoolExecutor) -> None:
        self.batch, self.wait_s, self._pool = batch, wait_s, pool
        self._waiting: dict[Predictor, _Waiting] = {}
        self.runs = self.images = 0

    async def probabilities(self, predictor: Predictor, images: np.ndarray) -> np.ndarray:
        """float32 [N, classes] of uint8 [N, 28, 28]."""
        if len(images) >= LARGE:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _run, predictor, images)
        if self.batch == 1 or not len(images):
            return self._count(_run(predictor, images))
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._add(predictor, images, answer)
        return await answer

    def _add(self, predictor: Predictor, images: np.ndarray, answer: asyncio.Future[np.ndarray]) -> None:
        waiting = self._waiting.get(predictor)
        if waiting and waiting.count + len(images) > self.batch:
            self._run_all(predictor, waiting)
            waiting = None
        if waiting is None:
            waiting = self._waiting[predictor] = _Waiting()
            loop = asyncio.get_running_loop()
            if self.wait_s:
                loop.call_later(self.wait_s, self._run_all, predictor, waiting)
            else:
                loop.call_soon(self._run_all, predictor, waiting)
        waiting.images.append(images)
        waiting.answers.append(answer)
        waiting.count += len(images)
        if waiting.count >= self.batch:
            self._run_all(predictor, waiting)

    def _run_all(self, predictor: Predictor, waiting: _Waiting) -> None:
        """Run what waits, unless it was run when it became full; a failure is every request's."""
        if not waiting.answers:
            return
        if self._waiting.get(predictor) is waiting:
            del self._waiting[predictor]
        images, answers = waiting.images, waiting.answers
        waiting.images, waiting.answers = [], []
        try:
            found = self._count(_run(predictor, images[0] if len(images) == 1 else np.concatenate(images)))
        except Exception as error:
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)
            return
        at = 0
        for some, answer in zip(images, answers, strict=True):
            if not answer.done():  # a client that has gone takes none of the others with it
                answer.set_result(found[at : at + len(some)])
            at += len(some)

    def _count(self, found: np.ndarray) -> np.ndarray:
        self.runs += 1
        self.images += len(found)
        return found


def _run(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    return predictor.predict(images).probabilities
