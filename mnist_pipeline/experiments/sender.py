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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_pipeline.experiments.answers import as_away, away, said
from mnist_pipeline.experiments.courier import Order, Report
from mnist_pipeline.experiments.spool import Spool
from mnist_pipeline.storage.locations import blobs_at
from mnist_pipeline.store import ModelStore

if TYPE_CHECKING:
    from mnist_pipeline.experiments.runs import MlflowRuns

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
        """Run by run, and each by itself: what stops one must not keep those behind it, nor the registry."""
        for run_id, names in self.spool.runs().items():
            if self.report.away:
                return
            if names or run_id in self.order.ended:
                self._apart(f"run {run_id}", lambda: self._send_run(run_id))  # noqa: B023
        if self.order.models[0] and not self.report.away:
            self._apart("the registry", self._mirror)

    def _apart(self, what: str, work: Callable[[], None]) -> None:
        """Note what goes wrong with one thing, unless MLflow as a whole is the cause."""
        if not self._connected():
            return
        try:
            work()
        except OutOfTime:
            raise
        except Exception as error:
            if as_away(error, self.order.uri) and (gone := away(self.order.uri)):
                self.report.away = gone
                return
            why = f"{type(error).__name__}: {said(error, self.order.uri)}"  # the server lives: it is about this one
            self.report.problems.append(f"{what} could not be sent and waits in {self.order.spool}: {why}")
        self._in_time()

    def _send_while_here(self, run_id: str) -> None:
        """Whatever goes wrong ends the following of a run."""
        if not self._connected():
            return
        try:
            self._send_run(run_id)
        except OutOfTime:
            raise
        except Exception as error:
            self.report.away = as_away(error, self.order.uri)
            if not self.report.away:
                raise

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
            self.report.refused += refused
            self._in_time()
        if self.spool.is_away(run_id):
            self.spool.note_back(run_id)
        if run_id in self.order.ended and not self.spool.waiting(run_id):
            self.runs.close(mlflow_run, *self.order.ended[run_id])
            self.spool.close(run_id)
            self.report.closed += 1

    def _mirror(self) -> None:
        from mnist_pipeline.experiments.registry import Mirror

        mirror = Mirror(self.runs, ModelStore(blobs_at(*self.order.models)))
        self.report.registered, self.report.damaged, refused = mirror.versions()
        self.report.problems += refused
        self._in_time()
        self.report.aliases = mirror.aliases()

    @property
    def runs(self) -> MlflowRuns:
        """MLflow, once it is connected."""
        assert self._runs is not None
        return self._runs

    def _connected(self) -> bool:
        """Whether MLflow is there; imported and connected when it is first needed."""
        if self._runs is None and not self.report.away:
            self.report.away = away(self.order.uri) or self._connect()
        return not self.report.away

    def _connect(self) -> str:
        """Why MLflow is away, "" when it is there. What else it says to the first question is about no run: raised."""
        from mlflow import MlflowClient

        from mnist_pipeline.experiments.runs import MlflowRuns

        uri, folder = self.order.uri, Path(self.order.folder)
        try:
            self._runs = MlflowRuns.open(MlflowClient(uri, uri), uri, self.order.experiment, folder, self.spool)
        except Exception as error:
            if gone := as_away(error, uri):
                return gone
            raise
        return ""

    def _in_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


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
    os.nice(10)  # a training that goes on meanwhile has the processors first; importing mlflow alone takes 2 to 4 s
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
