"""Engines: who scores the shards of a night, and on how many processors. Each gives the same parts, byte for byte.

Here: what an engine is, and the local one: this process, or some more on this machine. Not here: Ray
(`ray_engine.py`).
"""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from mnist_pipeline.inbox.parts import Worker
from mnist_pipeline.inbox.shards import Fetched, Shard
from mnist_pipeline.inbox.work import Done, EngineFailed, Work

AHEAD = 2  # shards that wait for each process, so that none waits for the plan
_work: Work  # of a process of the pool


class Engine(Protocol):
    """Scores shards, somewhere."""

    def run(self, work: Work, shards: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        """What came of each numbered shard, in any order. fetched: the night's files on this machine.

        Raises EngineFailed when it cannot go on; what is done by then is not done again in the next run.
        """


@dataclass(frozen=True)
class LocalEngine:
    """This machine. workers: 1 is this process, with as many threads as there are cores; more are processes of one
    thread each, which start in a second and pay where reading pictures takes longer than the network does."""

    workers: int = 1

    def run(self, work: Work, shards: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        if self.workers > 1:
            yield from _pooled(work, shards, self.workers)
            return
        with closing(Worker.open(work, fetched=fetched)) as worker:
            for index, shard in shards:
                yield worker.part(index, shard)


def _pooled(work: Work, shards: Iterable[tuple[int, Shard]], workers: int) -> Iterator[Done]:
    """Not forked: threads of ONNX Runtime and of Dagster do not survive that."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="workers-") as scratch,
        ProcessPoolExecutor(workers, context, _begin, (work, scratch)) as pool,
    ):
        waiting: set[Future[Done]] = set()
        try:
            for index, shard in shards:
                waiting.add(pool.submit(_part, index, shard))
                while len(waiting) >= AHEAD * workers:
                    yield from _ended(waiting)
            while waiting:
                yield from _ended(waiting)
        except BrokenProcessPool as error:
            raise EngineFailed(
                f"one of the {workers} processes that score {work.night} died (killed, or out of memory): run the "
                f"night again, which goes on where this ended, with fewer of them (MNIST_WORKERS)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _ended(waiting: set[Future[Done]]) -> Iterator[Done]:
    """Those that have ended, at least one, which wait no longer."""
    ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
    waiting -= ended
    yield from (each.result() for each in ended)


def _begin(work: Work, scratch: str) -> None:
    """scratch: where this process fetches to; it ends without a word, so others clear away after it."""
    global _work
    _work, tempfile.tempdir = work, scratch


@functools.cache
def _worker() -> Worker:
    """Opened with the first shard, whose future tells what is wrong with it; a pool only tells that it is broken."""
    return Worker.open(_work, threads=1)


def _part(index: int, shard: Shard) -> Done:
    return _worker().part(index, shard)
