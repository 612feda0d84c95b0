"""Predictions as rows of Parquet: what a request got, the same of many as columns, and the part they are written into.

Not here: when rows are written and what waits for it (`prediction_log.py`), and in which process (`log_process.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from mnist_pipeline.ml.pixels import pixel_statistics
from mnist_pipeline.storage.shelves import Shelf
from mnist_pipeline.traffic import REPEATING, SCHEMA, types

PIXELS = 784


@dataclass(frozen=True)
class Predicted:
    """What one request got. images: uint8 [N, 28, 28] as the network saw them; probabilities: float32 [N, classes].

    role: champion, challenger or shadow, whose answers nobody got. at: seconds since 1970. places: int [N], which of
    the images that were sent these are, from 0; None where all are here, and a digit is on each. abstained: bool [N],
    which of them got no label, since several were possible; None where all got one.
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
    places: np.ndarray | None = None
    abstained: np.ndarray | None = None


@dataclass(frozen=True)
class Columns:
    """The same of many requests to models that know the same classes, quick to make and to hand to another process.

    counts: images a request; of_requests: column -> a value a request; images, probabilities: their bytes; places: of
    the requests with images that are not here, the places of those that are; abstained: a byte an image.
    """

    names: list[str]
    counts: list[int]
    at: list[float]
    of_requests: dict[str, list[Any]]
    images: bytes
    probabilities: bytes
    places: dict[int, np.ndarray]
    abstained: bytes


class Writer(Protocol):
    """Where rows go."""

    def start(self) -> None:
        """Before the first row."""

    def take(self, part: str, rows: Sequence[Columns]) -> None:
        """Add rows to a part, which is yet to be written. Raises StoreUnavailable."""

    def put(self, part: str) -> None:
        """Write the part with all its rows, in place of what was written of it. Raises StoreUnavailable."""

    def end(self) -> None:
        """The part will not be written again."""

    def stop(self) -> None:
        """After the last row."""


class Parts:
    """Writes here and now. images: whether what the network saw is kept too."""

    def __init__(self, shelf: Shelf, *, images: bool = False) -> None:
        self._shelf, self._images = shelf, images
        self._tables: list[Any] = []

    def start(self) -> None:
        """Load what is slow to load."""
        import pyarrow.parquet  # noqa: F401

    def take(self, part: str, rows: Sequence[Columns]) -> None:
        """Make tables of them."""
        self._tables += [table_of(each, images=self._images) for each in rows]

    def put(self, part: str) -> None:
        """One file, replaced whole. Raises StoreUnavailable."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.concat_tables(self._tables, promote_options="default").combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=REPEATING)
        self._shelf.put(part, sink.getvalue().to_pybytes())
        self._tables = [table]

    def end(self) -> None:
        """Forget its rows."""
        self._tables = []

    def stop(self) -> None:
        """Nothing is left open."""


def columns_of(predicted: Sequence[Predicted]) -> list[Columns]:
    """In order, one for each run of requests to models with the same classes."""
    return [_columns(names, list(run)) for names, run in groupby(predicted, key=lambda each: each.names)]


def _columns(names: list[str], run: list[Predicted]) -> Columns:
    return Columns(
        names,
        [len(each.images) for each in run],
        [each.at for each in run],
        {
            "request_id": [each.request_id for each in run],
            "door": [each.door for each in run],
            "role": [each.role for each in run],
            "model_version": [each.version for each in run],
            "decision": [each.decision for each in run],
        },
        np.concatenate([each.images for each in run]).tobytes(),
        np.concatenate([each.probabilities for each in run]).astype(np.float32, copy=False).tobytes(),
        {i: each.places for i, each in enumerate(run) if each.places is not None},
        b"".join(bytes(len(each.images)) if each.abstained is None else each.abstained.tobytes() for each in run),
    )


def table_of(rows: Columns, *, images: bool) -> Any:
    """A row an image, in order. ink to slant: what its pixels are like, for drift; sha256: of its 784 bytes.

    Made of whole columns: a loop over rows takes ten times as long.
    """
    import pyarrow as pa

    kinds, data, names = types(), rows.images, rows.names
    of_request = np.repeat(np.arange(len(rows.counts)), rows.counts)
    count = len(of_request)
    pixels = np.frombuffer(data, np.uint8).reshape(count, PIXELS)
    probabilities = np.frombuffer(rows.probabilities, np.float32).reshape(count, len(names))
    ends = np.arange(0, probabilities.size + 1, len(names), dtype=np.int32)
    labels = pa.array(probabilities.argmax(1).astype(np.int32))
    columns = {
        "time": pa.array(np.repeat([int(at * 1e6) for at in rows.at], rows.counts), kinds["time"]),
        "index": pa.array(_places(rows)),
        "label": pa.DictionaryArray.from_arrays(labels, pa.array(names)),
        "confidence": pa.array(probabilities.max(1)),
        "abstained": pa.array(np.frombuffer(rows.abstained, bool)),
        "probabilities": pa.ListArray.from_arrays(ends, pa.array(probabilities.ravel())),
        "class_names": pa.array([names], kinds["class_names"]).take(pa.array(np.zeros(count, np.int64))),
        **{name: pa.array(values) for name, values in pixel_statistics(pixels).items()},
        "sha256": pa.array([sha256(data[at : at + PIXELS]).hexdigest() for at in range(0, len(data), PIXELS)]),
        "image": pa.array(list(map(bytes, pixels)) if images else [None] * count, kinds["image"]),
    }
    for name, values in rows.of_requests.items():
        columns[name] = pa.array(values, kinds[name]).take(pa.array(of_request))
    return pa.table({name: columns[name] for name in SCHEMA})


def _places(rows: Columns) -> np.ndarray:
    """int32: of each image, which of its request it was."""
    first = np.cumsum(rows.counts) - rows.counts
    places = np.arange(sum(rows.counts), dtype=np.int32) - np.repeat(first, rows.counts).astype(np.int32)
    for i, given in rows.places.items():
        places[first[i] : first[i] + len(given)] = given
    return places
