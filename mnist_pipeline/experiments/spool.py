"""The spool: what runs have recorded for MLflow and MLflow has not acknowledged yet, as small files on a shelf.

Here: how a record is written, listed in order and taken off, and what is remembered about a run between its steps.
Not here: what gets recorded (`tracking.py`), and MLflow (`runs.py`).

    runs/<run id>/run.json          the Dagster run; there until its MLflow run is closed
    runs/<run id>/<ordered>.json    one record; deleted when MLflow has it
    runs/<run id>/<ordered>.bin     the bytes of an artifact, written before their record
    runs/<run id>/away.json         MLflow did not answer during this run: its later steps do not try again
    refused/<run id>/…              records that MLflow will never take (`refused.py`)
    claims/<run id>                 the MLflow run, agreed on once by all senders (a blob, so that one of two wins)
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Literal

from mnist_pipeline.storage.blobs import BlobExists, BlobMissing, BlobStore
from mnist_pipeline.storage.locations import blobs_at, shelf_at
from mnist_pipeline.storage.shelves import Missing, Shelf

Kind = Literal["params", "metrics", "tags", "artifact"]
Names = list[str]
_RECORD = re.compile(r"runs/(?P<run>[A-Za-z0-9][A-Za-z0-9_-]*)/\d{20}-\d+-\d{6}\.json")
_NUMBERS = count()  # one for the process, so that two recorders of one process never choose the same name


@dataclass(frozen=True)
class RunFacts:
    """What is known about a Dagster run when its first record is written. begun_ms: since 1970, UTC."""

    run_id: str
    name: str
    begun_ms: int
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One thing to tell MLflow. values: what `kind` says, by name; path and file: of an artifact."""

    kind: Kind
    time_ms: int
    values: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    path: str = ""
    file: str = ""


@dataclass(frozen=True)
class Spool:
    """Records by run, in order. Safe for many writers and several senders at once."""

    shelf: Shelf
    claims: BlobStore

    @staticmethod
    def at(location: str, endpoint: str = "") -> Spool:
        """The spool of a location: a folder, or s3://bucket/prefix."""
        return Spool(shelf_at(location, endpoint), blobs_at(f"{location}/claims", endpoint))

    def begin(self, facts: RunFacts) -> None:
        """Write down the run, before its first record."""
        self._write(f"runs/{facts.run_id}/run.json", asdict(facts))

    def add(self, run_id: str, name: str, record: Record, data: bytes | None = None) -> None:
        """Keep one record. data: of an artifact. Raises OSError (StoreUnavailable) when it cannot be kept."""
        if data is not None:
            self.shelf.put(f"runs/{run_id}/{record.file}", data)
        self._write(f"runs/{run_id}/{name}", asdict(record))

    def runs(self) -> dict[str, Names]:
        """Run id -> the names of its waiting records, in order; also of runs that have none but are not closed."""
        found: dict[str, Names] = {}
        for name in self.shelf.list("runs/"):
            waiting = found.setdefault(name.split("/")[1], [])
            if _RECORD.fullmatch(name):
                waiting.append(name)
        return found

    def waiting(self, run_id: str) -> Names:
        """The names of a run's records, in order."""
        return [name for name in self.shelf.list(f"runs/{run_id}/") if _RECORD.fullmatch(name)]

    def facts(self, run_id: str) -> RunFacts | None:
        """What was written down about a run; None if it is closed and nothing has come since."""
        found = self._read(f"runs/{run_id}/run.json")
        if found:
            return RunFacts(**found)
        return RunFacts(run_id, run_id, now_ms()) if self.waiting(run_id) else None

    def record(self, name: str) -> tuple[Record, bytes] | None:
        """A record and the bytes of its artifact; None if another sender was quicker and has taken it off."""
        try:
            record = Record(**json.loads(self.shelf.get(name)))
            return record, self.shelf.get(beside(name, record.file)) if record.file else b""
        except Missing:
            return None

    def done(self, name: str, record: Record) -> None:
        """MLflow has it. The record goes first: bytes without a record are harmless, the reverse is not."""
        self.shelf.delete(name)
        if record.file:
            self.shelf.delete(beside(name, record.file))

    def close(self, run_id: str) -> None:
        """Forget a run whose MLflow run is closed; a record that comes in this moment stays, and opens it again."""
        there = self.shelf.list(f"runs/{run_id}/")
        kept = {name.removesuffix(".json") for name in there if _RECORD.fullmatch(name)}
        for name in there:
            if name.rpartition(".")[0] not in kept:
                self.shelf.delete(name)
        self.unclaim(run_id)

    def is_away(self, run_id: str) -> bool:
        """Whether MLflow did not answer earlier in this run."""
        return bool(self.shelf.list(f"runs/{run_id}/away.json"))

    def note_away(self, run_id: str, reason: str) -> None:
        """Later steps of this run need not try."""
        self._write(f"runs/{run_id}/away.json", {"reason": reason})

    def note_back(self, run_id: str) -> None:
        """MLflow answers again."""
        self.shelf.delete(f"runs/{run_id}/away.json")

    def claim(self, key: str, value: str) -> str:
        """What all senders agree on under `key`: `value`, or what another sender said first."""
        try:
            self.claims.create(key, value.encode())
        except BlobExists:
            return self.claimed(key) or value
        return value

    def claimed(self, key: str) -> str | None:
        """What was agreed on, None before that."""
        try:
            return self.claims.read(key).decode()
        except BlobMissing:
            return None

    def unclaim(self, key: str) -> None:
        """Agree anew: the run is closed, or MLflow does not know what was agreed on."""
        try:
            self.claims.delete(key)
        except BlobMissing:  # nothing was sent, or another sender was quicker
            return

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        self.shelf.put(name, json.dumps(record).encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads(self.shelf.get(name))
        except Missing:
            return None


def ordered_name() -> str:
    """A name that sorts after all that were given before on this machine: time in ns, process, number."""
    return f"{time.time_ns():020d}-{os.getpid()}-{next(_NUMBERS) % 1_000_000:06d}"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def beside(name: str, file: str) -> str:
    """The name of the bytes that belong to a record."""
    return f"{name.rpartition('/')[0]}/{file}"
