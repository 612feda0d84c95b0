"""Tracking: what a run records for MLflow. A step never talks to MLflow, so it neither waits for it nor fails with it.

Here: the tracker that records into the spool, the one that does nothing, and the addresses of MLflow's pages.
Not here: the spool (`spool.py`), and who sends it and how (`courier.py`, `experiments/sender.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from mnist_pipeline.experiments.spool import Record, RunFacts, Spool, now_ms, ordered_name

LONGEST_VALUE = 5_000  # characters of a tag or parameter that every MLflow store takes
LOCAL_UI = "http://127.0.0.1:5000"  # where `make mlflow` shows a store that is no server
RUN_TAG = "dagster_run_id"  # by which dagster-mlflow's `mlflow_tracking` finds a run, too


class Tracker(Protocol):
    """What a step may record. Used as a context: leaving it says that nothing more comes."""

    def __enter__(self) -> Tracker:
        """Nothing happens yet."""

    def __exit__(self, *error: object) -> None:
        """Nothing more comes from this step."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings, as text. The same name keeps its first value in a run."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step, which is an epoch or 0."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Facts in words; None is left out."""

    def artifact(self, path: str, data: bytes) -> None:
        """A file, such as "pictures/confusion.png"."""

    def link(self) -> str:
        """The page of this run in MLflow's UI, or the nearest to it that is known; "" when nothing is tracked."""


class NoTracker:
    """Tracking is switched off: nothing is recorded."""

    def __enter__(self) -> NoTracker:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def params(self, values: Mapping[str, Any]) -> None:
        return

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        return

    def tags(self, values: Mapping[str, Any]) -> None:
        return

    def artifact(self, path: str, data: bytes) -> None:
        return

    def link(self) -> str:
        return ""


@dataclass
class SpoolTracker:
    """Records into the spool. start: begins to send while the run goes on, returns what ends that.

    What cannot be written (a full disk, S3 away) is kept in memory and tried once more at the end: a training is
    never stopped for it, and no record is dropped without an error in the log.
    """

    spool: Spool
    facts: RunFacts
    pages: Pages
    start: Callable[[], Callable[[], None]] = lambda: lambda: None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
    kept: list[tuple[str, Record, bytes | None]] = field(default_factory=list)
    _stop: Callable[[], None] | None = None

    def __enter__(self) -> SpoolTracker:
        return self

    def __exit__(self, *error: object) -> None:
        if self.kept:
            self._write_kept()
        if self._stop:
            self._stop()

    def params(self, values: Mapping[str, Any]) -> None:
        self._add(Record("params", now_ms(), _as_text(values)))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self._add(Record("metrics", now_ms(), {name: float(value) for name, value in values.items()}, step))

    def tags(self, values: Mapping[str, Any]) -> None:
        self._add(Record("tags", now_ms(), _as_text(values)))

    def artifact(self, path: str, data: bytes) -> None:
        name = ordered_name()
        self._add(Record("artifact", now_ms(), path=path, file=f"{name}.bin"), data, name)

    def link(self) -> str:
        try:
            return self.pages.run(self.facts.run_id, self.spool)
        except OSError:  # the spool's storage is away: a less exact address is no reason to fail
            return self.pages.home

    def _add(self, record: Record, data: bytes | None = None, name: str = "") -> None:
        self.kept.append((f"{name or ordered_name()}.json", record, data))
        if len(self.kept) > 1:  # it failed before: once more at the end, not at every epoch
            return
        try:
            self._write()
        except OSError as error:
            self.log.warning(f"tracking goes on in memory, to be written at the end of the step: {error}")

    def _write(self) -> None:
        if self._stop is None:
            self.spool.begin(self.facts)
        while self.kept:
            name, record, data = self.kept[0]
            self.spool.add(self.facts.run_id, name, record, data)
            self.kept.pop(0)
        if self._stop is None:
            self._stop = self.start()

    def _write_kept(self) -> None:
        try:
            self._write()
        except OSError as error:
            self.log.error(
                f"{len(self.kept)} tracking records of this step are lost, since their spool cannot be written: {error}"
            )


@dataclass(frozen=True)
class Pages:
    """Addresses in MLflow's UI. home: without a login in it, since it is shown."""

    home: str
    experiment: str

    @staticmethod
    def of(uri: str, experiment: str) -> Pages:
        """The pages of a tracking URI; a store that is no server is shown by `make mlflow`."""
        return Pages(without_login(uri).rstrip("/") if is_server(uri) else LOCAL_UI, experiment)

    def run(self, run_id: str, spool: Spool) -> str:
        """The page of a Dagster run: exact when MLflow knows it already, else a search that will find it."""
        experiment, mlflow_run = spool.claimed(experiment_key(self.experiment)), spool.claimed(run_id)
        if experiment is None:
            return f"{self.home}/#/experiments"
        if mlflow_run is not None:
            return f"{self.home}/#/experiments/{experiment}/runs/{mlflow_run}"
        return f"{self.home}/#/experiments/{experiment}/runs?searchFilter={quote(search(run_id))}"


def experiment_key(name: str) -> str:
    """Under which senders agree on the id of an experiment."""
    return f"experiment-{name.encode().hex()}"[:200]


def search(run_id: str) -> str:
    """MLflow's filter for the run of a Dagster run."""
    return f"tags.{RUN_TAG} = '{run_id}'"


def is_server(uri: str) -> bool:
    """Whether a tracking URI leads to a server, which may show a run while it goes on."""
    return urlsplit(uri).scheme in ("http", "https")


def without_login(uri: str) -> str:
    """A URI as it may be shown: without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _as_text(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _short(str(value)) for name, value in values.items() if value is not None}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
