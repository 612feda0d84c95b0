"""The prediction log: every prediction of the service as a row of Parquet, for drift, A/B reports and questions later.

An answer never waits for it: rows go into a bounded buffer, and a thread hands them on twenty times a second, to be
written twice a second. The part being written is replaced whole each time, so a crash loses half a second; a part that
is full or ten minutes old is left alone and another is begun. Where storage is too slow the buffer overflows, and what
was dropped is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from uuid import uuid4

import numpy as np

from mnist_pipeline.service.rows import Predicted, Writer, columns_of
from mnist_pipeline.storage.blobs import StoreUnavailable

FLUSH_S, GATHER_S = 0.5, 0.05  # between two writes; between two looks at what has come
ROWS_A_PART = 5_000  # the part is written anew with each write: 4 ms of one core
PART_S = 600.0
LAST_S = 20.0  # that the last write may take
MOST_WAITING = 100_000  # images whose rows wait to be written
Abstained = Callable[[Predicted], np.ndarray | None]  # bool [N], which images got no label; None where all did
log = logging.getLogger(__name__)


class NoLog:
    """Where no predictions are kept."""

    dropped = 0

    def start(self) -> None:
        """Nothing."""

    def note_abstentions(self, abstained: Abstained) -> None:
        """Nothing."""

    def add(self, predicted: Predicted) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class PredictionLog:
    """Parts under `<day>/<time>-<process>-<number>.parquet`, written by `writer`. most: images whose rows may wait."""

    def __init__(self, writer: Writer, *, most: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._writer, self._most = writer, most
        self._waiting: deque[Predicted] = deque()
        self._count = 0
        self._part, self._begun, self._rows, self._number = "", 0.0, 0, 0  # of the part that is being written
        self._dirty = False  # whether rows were handed on that are not written
        self._process = uuid4().hex[:8]
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="prediction log", daemon=True)
        self._failing = False
        self._abstained: Abstained | None = None

    def note_abstentions(self, abstained: Abstained) -> None:
        """From now on rows say which images got no label."""
        self._abstained = abstained

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()
        self._thread.start()

    def add(self, predicted: Predicted) -> None:
        """Never waits. What does not fit any more is dropped and counted."""
        if self._abstained:
            predicted = replace(predicted, abstained=self._abstained(predicted))
        with self._lock:
            if self._count + len(predicted.images) > self._most:
                self.dropped += len(predicted.images)
                return
            self._count += len(predicted.images)
            self._waiting.append(predicted)

    def stop(self) -> None:
        """Write what waits, then end."""
        self._ends.set()
        self._thread.join(timeout=LAST_S)
        if self._count:
            log.error("%d predictions could not be written to the prediction log and are lost", self._count)
        self._writer.stop()

    def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable; then it waits on."""
        self._gather()
        if self._dirty:
            self._put()

    def _gather(self) -> None:
        """Hand on what waits."""
        with self._lock:
            some = list(self._waiting)
        if not some:
            return
        self._end_an_old_part()
        self._part = self._part or self._next_part()
        self._writer.take(self._part, columns_of(some))
        with self._lock:
            for _ in some:
                self._waiting.popleft()
        self._rows, self._dirty = self._rows + sum(len(each.images) for each in some), True

    def _put(self) -> None:
        self._writer.put(self._part)
        with self._lock:  # room for others only now: until it is written it is held in memory
            self._count = sum(len(each.images) for each in self._waiting)
        self._dirty = False
        self._end_an_old_part()

    def _end_an_old_part(self) -> None:
        """Unless it is yet to be written. Also before rows are added: those of today are not yesterday's."""
        old = time.monotonic() - self._begun >= PART_S
        if self._part and not self._dirty and (old or self._rows >= ROWS_A_PART):
            self._writer.end()
            self._part, self._rows = "", 0

    def _next_part(self) -> str:
        self._number, self._begun = self._number + 1, time.monotonic()
        now = datetime.now(timezone.utc)
        return f"{now:%Y-%m-%d}/{now:%H%M%S}-{self._process}-{self._number:05}.parquet"

    def _write_on(self) -> None:
        due = 0.0
        while not self._ends.wait(GATHER_S):
            write = time.monotonic() >= due
            self._attempt(write=write)
            due = time.monotonic() + FLUSH_S if write else due
        self._attempt(write=True)

    def _attempt(self, *, write: bool) -> None:
        """Raises nothing: the thread must not end, for nothing would be kept any more."""
        try:
            if not write:
                return self._gather()
            self.flush()
            if self._failing:
                log.info("the prediction log can be written again")
            self._failing = False
        except StoreUnavailable as error:
            if not self._failing:
                log.error("the prediction log cannot be written; its rows wait: %s", error)
            self._failing = True
        except Exception:
            log.exception("writing the prediction log failed")
