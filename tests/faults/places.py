"""The two places that a pipeline can have, a folder or a bucket, as far as tests of faults have to look into them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
from pipelines import PROD, Pipeline
from s3_server import CREDENTIALS, new_bucket

from mnist_pipeline.inbox.bucket import JOURNAL, Claim
from mnist_pipeline.storage.s3_requests import Entry, Place

PREFIX = "team/digits"


class Drops(Protocol):
    """Everything that was ever dropped into an inbox: what waits, and what nights have claimed."""

    def waits(self, name: str) -> bool:
        """Whether a file of this name lies in the inbox."""

    def put(self, name: str, data: bytes) -> None:
        """Drop a file."""

    def images(self) -> Counter[str]:
        """sha256 -> how many images with this content there are; a move that was killed half way counts once."""


class FolderDrops:
    """An inbox on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def waits(self, name: str) -> bool:
        return (self.folder / name).exists()

    def put(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def images(self) -> Counter[str]:
        return Counter(sha256(path.read_bytes()) for path in self.folder.rglob("*.png"))


class BucketDrops:
    """An inbox in S3, where a move is a copy and then a delete, and the journal tells which moves are under way."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.known: dict[str, str] = {}  # etag -> sha256

    def waits(self, name: str) -> bool:
        return self.place.has(name)

    def put(self, name: str, data: bytes) -> None:
        self.place.put(name, data)

    def images(self) -> Counter[str]:
        there = {entry.name: entry for entry in self.place.entries("") if entry.name.endswith(".png")}
        for entry, target in self._moves():
            if there.get(entry.name) == entry and target in there:
                del there[entry.name]
        return Counter(self._sha256(entry) for entry in there.values())

    def _moves(self) -> Iterator[tuple[Entry, str]]:
        """What the newest claim takes, and where it goes."""
        if journals := sorted(entry.name for entry in self.place.entries(JOURNAL)):
            claim = Claim.from_json(self.place.get(journals[-1]))
            yield from ((move.entry, f".claimed/{claim.night}/{move.target}") for move in claim.moves)

    def _sha256(self, entry: Entry) -> str:
        if entry.etag not in self.known:
            self.known[entry.etag] = sha256(self.place.get(entry.name))
        return self.known[entry.etag]


def drops_of(pipeline: Pipeline) -> Drops:
    """The inbox of a pipeline in either place."""
    place = getattr(pipeline.mail.open(), "place", None)
    return BucketDrops(place) if place else FolderDrops(pipeline.inbox)


def in_bucket(pipeline: Pipeline, endpoint: str, state: Path) -> Pipeline:
    """Production in a bucket that begins where a pipeline on disk stands."""
    bucket = new_bucket(endpoint)
    place = Place(bucket, PREFIX, endpoint)
    for part in ("assets", "models", "pictures"):
        for path in (pipeline.state / part).rglob("*"):
            if path.is_file() and not path.relative_to(pipeline.state).as_posix().startswith("models/.tmp"):
                place.put(path.relative_to(pipeline.state).as_posix(), path)
    made = {"MNIST_PIPELINE_ENV": "prod", "MNIST_S3_BUCKET": bucket, "MNIST_S3_PREFIX": PREFIX}
    return Pipeline(state, **{**pipeline.env, **CREDENTIALS, **PROD, **made}, S3_ENDPOINT_URL=endpoint)


def tables(pipeline: Pipeline) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and rows of every table of predictions, parts of nights too."""
    shelf = pipeline.mail.answers()
    for name in (each for each in shelf.list("") if each.endswith(".parquet")):
        with shelf.local(name) as path:
            yield name, pq.ParquetFile(path).read().to_pylist()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def place_of(pipeline: Pipeline) -> str:
    """For people."""
    return "in S3" if isinstance(drops_of(pipeline), BucketDrops) else "on disk"
