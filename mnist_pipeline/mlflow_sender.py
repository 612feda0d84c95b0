"""The sender: a process that takes an order on standard input, carries the spool to MLflow, and prints a report.

Started by `courier.py`. Nothing here runs in a step or in the code server, which is why it may import mlflow, bound
its retries, and change the working directory to one where mlflow may leave files.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_pipeline.courier import Order, Report
from mnist_pipeline.spool import Spool
from mnist_pipeline.storage import blobs_at
from mnist_pipeline.store import ModelStore
from mnist_pipeline.tracking import is_server, without_login

if TYPE_CHECKING:
    from mnist_pipeline.mlflow_runs import MlflowRuns

PROBE_S = 2.0  # for a sign of life, before the seconds that importing mlflow takes are spent
PAUSE_S = 1.0  # between two looks at the spool of a run that goes on
# Of mlflow's own 7 retries and 120 s, one call into a dead server takes 4 minutes.
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class OutOfTime(Exception):
    """The order's seconds are over; the rest goes with the next one."""


class Sender:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self.order, self.report = order, Report()
        self.spool = Spool.at(order.spool, order.endpoint)
        self.deadline = time.monotonic() + order.seconds
        self._runs: MlflowRuns | None = None

    def carry_out(self) -> Report:
        """Everything that waits, then the registry; whatever stops it is in the report, or is raised."""
        try:
            with only_one(Path(self.order.folder)) as first:
                self.report.busy = not first
                if first:
                    self._send_all()
        except OutOfTime:
            self.report.unfinished = True
        self.report.waiting = sum(len(names) for names in self.spool.runs().values())
        return self.report

    def follow(self) -> None:
        """The records of one run as they come, until standard input ends and nothing waits.

        Whatever goes wrong is noted, so that later steps of the run do not try; what it was is told by the next
        order, which has somebody who reads its report.
        """
        try:
            self._follow(self.order.follow)
        except Exception as error:
            self.report.away = f"{type(error).__name__}: {error}"
            raise
        finally:
            if self.report.away:
                self.spool.note_away(self.order.follow, self.report.away)

    def _follow(self, run_id: str) -> None:
        goes_on = True
        while not self.report.away and (goes_on or self.spool.waiting(run_id)):
            if goes_on:
                goes_on = not _ended(sys.stdin.fileno(), PAUSE_S)
                self.deadline = time.monotonic() + self.order.seconds
            with only_one(Path(self.order.folder)) as first:
                if first:
                    self._send_while_here(run_id)
            if not first:
                self._in_time()
                time.sleep(PAUSE_S / 10)

    def _send_all(self) -> None:
        for run_id, names in self.spool.runs().items():
            if names or run_id in self.order.ended:
                self._send_while_here(run_id)
            if self.report.away:
                return
        if self.order.models[0] and self._there():
            self._guarded(self._mirror)

    def _send_while_here(self, run_id: str) -> None:
        if self._there():
            self._guarded(lambda: self._send_run(run_id))

    def _send_run(self, run_id: str) -> None:
        facts = self.spool.facts(run_id)
        if facts is None:  # closed by another sender meanwhile
            return
        names = self.spool.waiting(run_id)
        if not names and run_id not in self.order.ended:
            return
        mlflow_run = self.runs.run_of(facts)
        for sent, refused in self.runs.deliver(mlflow_run, names, put_aside=not self.order.follow):
            self.report.sent += sent
            self.report.problems += [f"MLflow refuses a record, kept as {refused}"] if refused else []
            self._in_time()
        if self.spool.is_away(run_id):
            self.spool.note_back(run_id)
        if run_id in self.order.ended and not self.spool.waiting(run_id):
            self.runs.close(mlflow_run, *self.order.ended[run_id])
            self.spool.close(run_id)
            self.report.closed += 1

    def _mirror(self) -> None:
        from mnist_pipeline.mlflow_registry import Mirror

        mirror = Mirror(self.runs, ModelStore(blobs_at(*self.order.models)))
        self.report.registered, self.report.damaged = mirror.versions()
        self._in_time()
        self.report.aliases = mirror.aliases()

    @property
    def runs(self) -> MlflowRuns:
        """MLflow, imported and connected when it is first needed."""
        if self._runs is None:
            from mlflow import MlflowClient

            from mnist_pipeline.mlflow_runs import MlflowRuns

            client = MlflowClient(self.order.uri, self.order.uri)
            self._runs = MlflowRuns.open(
                client, self.order.uri, self.order.experiment, Path(self.order.folder), self.spool
            )
        return self._runs

    def _there(self) -> bool:
        if self._runs is None and not self.report.away:
            self.report.away = away(self.order.uri)
        return not self.report.away

    def _guarded(self, work: Callable[[], None]) -> None:
        from mnist_pipeline.mlflow_runs import as_away

        try:
            work()
        except OutOfTime:
            raise
        except Exception as error:
            gone = as_away(error, self.order.uri)
            if gone is None:
                raise
            self.report.away = str(gone)

    def _in_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


def away(uri: str) -> str:
    """Why a server does not answer, "" if it does or if the URI is no server. Costs PROBE_S at most."""
    if not is_server(uri):
        return ""
    try:
        with urllib.request.urlopen(f"{without_login(uri).rstrip('/')}/health", timeout=PROBE_S):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code}" if error.code == 429 or error.code >= 500 else ""
    except OSError as error:  # no connection, no name, no answer in time
        return str(getattr(error, "reason", error))


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one on this machine that sends from here to there; until the end of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sender.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # closing the file gives the lock back, as the end of the process does


def main() -> int:
    """Exit status 1, with a traceback, for what waiting does not cure."""
    order = Order(**json.loads(sys.stdin.readline()))
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # a store in a file gives its default experiment ./mlruns
    os.environ.update(BOUNDS)
    if order.follow:
        Sender(order).follow()
        return 0
    print(json.dumps(asdict(Sender(order).carry_out())))
    return 0


def _ended(descriptor: int, seconds: float) -> bool:
    """Wait for the end of standard input: nothing but its end comes after the order."""
    return bool(select.select([descriptor], [], [], seconds)[0])


if __name__ == "__main__":
    sys.exit(main())
