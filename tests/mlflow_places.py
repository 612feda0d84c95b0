"""MLflow for tests: a store in a file, a server in a process, servers that are ill; and runs that record there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mnist_pipeline.experiments.courier import Order, Report
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.experiments.sender import Sender
from mnist_pipeline.experiments.spool import RunFacts, Spool
from mnist_pipeline.tracking import Pages, SpoolTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN = "5d8bb1c4-0000-4000-8000-000000000001"
BEGUN_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Place:
    """A spool and an MLflow store that belong together."""

    folder: Path
    uri: str

    @property
    def order(self) -> Order:
        return Order(self.uri, "experiment", str(self.folder / "tracking"), "", str(self.folder / "mlflow"), 60)

    @property
    def spool(self) -> Spool:
        return Spool.at(self.order.spool)

    @property
    def client(self) -> MlflowClient:
        return client_of(self.uri)

    def tracker(self, run_id: str = RUN, spool: Spool | None = None, **more: Any) -> SpoolTracker:
        facts = RunFacts(run_id, "a run", BEGUN_MS, {"environment": "test"})
        return SpoolTracker(spool or self.spool, facts, Pages.of(self.uri, "experiment"), **more)

    def send(self, **more: Any) -> Report:
        """In this process, where a store in a file is quick enough."""
        return Sender(replace(self.order, **more)).carry_out()

    def run(self, run_id: str = RUN) -> Run:
        """The one MLflow run of a Dagster run."""
        (found,) = self.runs(run_id)
        return found

    def runs(self, run_id: str = RUN) -> list[Run]:
        experiment = self.client.get_experiment_by_name("experiment")
        return list(self.client.search_runs([experiment.experiment_id], f"tags.dagster_run_id = '{run_id}'"))

    def history(self, metric: str, run_id: str = RUN) -> list[tuple[int, float]]:
        """(step, value) of a metric, as MLflow has it."""
        found = self.client.get_metric_history(self.run(run_id).info.run_id, metric)
        return sorted((each.step, each.value) for each in found)


def client_of(uri: str) -> MlflowClient:
    """A client with no state elsewhere; mlflow's own use of SQLAlchemy warns, which is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(uri, uri)
        client.search_experiments()
        client.search_registered_models()
        return client


def file_store(folder: Path) -> str:
    """A new store in a file, as a URI."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    before = Path.cwd()
    os.chdir(folder)
    try:
        client_of(uri)
    finally:
        os.chdir(before)
    return uri


def copied_store(template: str, folder: Path) -> str:
    """A copy of a store: making one takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template.removeprefix("sqlite:///"), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def put_aside(place: Place) -> Refused:
    """A tag and an artifact more, and everything that waits then is refused."""
    with place.tracker() as tracker:
        tracker.tags({"a": "b"})
        tracker.artifact("curve.png", b"png")
    refused = Refused(place.spool)
    for name in place.spool.waiting(RUN):
        record, data = place.spool.record(name) or pytest.fail(name)
        refused.add(name, record, data, "413 Request Entity Too Large")
    return refused


class Server:
    """A real MLflow server over a file, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        listen = ("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        keep = ("--backend-store-uri", self.store, "--artifacts-destination", (self.folder / "artifacts").as_uri())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *listen, *keep],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.answers, 120)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """The server and its worker, at once."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@dataclass
class Ill:
    """A server that is there and of no use: which paths were asked for, and what it answers."""

    uri: str
    asked: list[str]


@contextmanager
def ill_server(status: int, healthy: bool, delay_s: float = 0.0) -> Iterator[Ill]:
    """Answers everything with `status`, after a delay; /health well, or just as ill."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            time.sleep(delay_s)
            self.send_response(200 if healthy and self.path == "/health" else status)
            said = f'{{"detail": "{status}"}}'.encode()
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # the other side did not wait for the answer

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Ill(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def wait_until(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)
