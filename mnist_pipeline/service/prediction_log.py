"""The prediction log: every prediction of the service as a row of Parquet, for drift, A/B reports and questions later.

An answer never waits for it: rows go into a bounded buffer, and a thread writes them twice a second. In between it
makes tables of them, a few rows at a time, since all at once would hold Python's lock for 10 ms. The part being written
is replaced whole each time, so a crash loses half a second; a part that is full or ten minutes old is left alone and
another is begun. Where storage is too slow the buffer overflows, and what was dropped is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from itertools import groupby
from typing import Any
from uuid import uuid4

import numpy as np

from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.shelves import Shelf
from mnist_pipeline.traffic import REPEATING, SCHEMA, types

FLUSH_S, GATHER_S = 0.5, 0.05  # between two writes; between two tables of what has come
ROWS_A_PART = 5_000  # the part is written anew with each write: 4 ms of one core
PART_S = 600.0
LAST_S = 20.0  # that the last write may take
MOST_WAITING = 100_000  # images whose rows wait to be written
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """What one request got. images: uint8 [N, 28, 28] as the network saw them; probabilities: float32 [N, classes].

    role: champion, challenger or shadow, whose answers nobody got. at: seconds since 1970.
    """

    at: float
    request_id: str
    door: str
    role: str
    version: str
    decision: int
    names: list[str]
    images: np.ndarray
    probabilities: np.ndarray


class NoLog:
    """Where no predictions are kept."""

    dropped = 0

    def start(self) -> None:
        """Nothing."""

    def add(self, predicted: Predicted) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class PredictionLog:
    """Parts under `<day>/<time>-<process>-<number>.parquet`. images: whether what the network saw is kept too."""

    def __init__(self, shelf: Shelf, *, images: bool = False, most: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._shelf, self._images, self._most = shelf, images, most
        self._waiting: deque[Predicted] = deque()
        self._count = 0
        self._part, self._begun, self._rows, self._number = "", 0.0, 0, 0  # of the part that is being written
        self._tables: list[Any] = []
        self._dirty = False  # whether there are tables that are not written
        self._process = uuid4().hex[:8]
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="prediction log", daemon=True)
        self._failing = False

    def start(self) -> None:
        """Begin to write."""
        import pyarrow.parquet  # noqa: F401  # here, and not in the first half second of answering

        self._thread.start()

    def add(self, predicted: Predicted) -> None:
        """Never waits. What does not fit any more is dropped and counted."""
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

    def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable; then it waits on."""
        self._gather()
        if self._dirty:
            self._put()

    def _gather(self) -> None:
        """Make a table of what waits."""
        with self._lock:
            some = list(self._waiting)
        if not some:
            return
        self._end_an_old_part()
        self._tables.append(table_of(some, images=self._images))
        with self._lock:
            for _ in some:
                self._waiting.popleft()
        self._rows, self._dirty = self._rows + len(self._tables[-1]), True

    def _put(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._part = self._part or self._next_part()
        table = pa.concat_tables(self._tables, promote_options="default").combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=REPEATING)
        self._shelf.put(self._part, sink.getvalue().to_pybytes())
        with self._lock:  # room for others only now: until it is written it is held in memory
            self._count = sum(len(each.images) for each in self._waiting)
        self._tables, self._dirty = [table], False
        self._end_an_old_part()

    def _end_an_old_part(self) -> None:
        """Unless it is yet to be written. Also before rows are added: those of today are not yesterday's."""
        old = time.monotonic() - self._begun >= PART_S
        if not self._dirty and (old or self._rows >= ROWS_A_PART):
            self._part, self._tables, self._rows = "", [], 0

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


def table_of(predicted: Sequence[Predicted], *, images: bool) -> Any:
    """A row an image, in order. ink: the mean of its pixels, for drift; sha256: of its 784 bytes.

    Made of whole columns: a loop over rows would keep answers waiting, 30 ms for those of a busy half second.
    """
    import pyarrow as pa

    runs = (list(run) for _, run in groupby(predicted, key=lambda each: each.names))
    return pa.concat_tables([_of_same_classes(run, images=images) for run in runs])


def _of_same_classes(predicted: list[Predicted], *, images: bool) -> Any:
    import pyarrow as pa

    kinds, names = types(), predicted[0].names
    counts = [len(each.images) for each in predicted]
    of_request = np.repeat(np.arange(len(predicted)), counts)
    data = np.concatenate([each.images for each in predicted]).tobytes()
    pixels = np.frombuffer(data, np.uint8).reshape(len(of_request), -1)
    probabilities = np.concatenate([each.probabilities for each in predicted]).astype(np.float32)
    size, ends = pixels.shape[1], np.arange(0, probabilities.size + 1, len(names), dtype=np.int32)
    within = np.arange(len(of_request)) - np.repeat(np.cumsum(counts) - counts, counts)  # its request
    labels = pa.array(probabilities.argmax(1).astype(np.int32))
    columns = {
        "time": pa.array(np.repeat([int(each.at * 1e6) for each in predicted], counts), kinds["time"]),
        "index": pa.array(within.astype(np.int32)),
        "label": pa.DictionaryArray.from_arrays(labels, pa.array(names)),
        "confidence": pa.array(probabilities.max(1)),
        "probabilities": pa.ListArray.from_arrays(ends, pa.array(probabilities.ravel())),
        "class_names": pa.array([names], kinds["class_names"]).take(pa.array(np.zeros(len(of_request), np.int64))),
        "ink": pa.array(pixels.mean(1, dtype=np.float32)),
        "sha256": pa.array([sha256(data[at : at + size]).hexdigest() for at in range(0, len(data), size)]),
        "image": pa.array(list(map(bytes, pixels)) if images else [None] * len(pixels), kinds["image"]),
    }
    for name, values in _OF_REQUESTS.items():
        column = pa.array([getattr(each, values) for each in predicted], kinds[name])
        columns[name] = column.take(pa.array(of_request))
    return pa.table({name: columns[name] for name in SCHEMA})


_OF_REQUESTS = {
    "request_id": "request_id",
    "door": "door",
    "role": "role",
    "model_version": "version",
    "decision": "decision",
}
"""Column -> attribute of `Predicted`, the same for all images of a request."""
