"""Servers in processes of their own, on loopback: the service, MLflow's, and one that does nothing; and their clients.

They end with the block in which they run. What is measured of them is in `service.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_pipeline.environment import PROJECT

START_S = 60.0
SERVING = re.compile(r"serving on http://[^:\s]+:([0-9]+)")
SAVE_FOR_MLFLOW = """
import sys
import mlflow.onnx, numpy as np, onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
images, logits = TensorSpec(np.dtype("uint8"), (-1, 28, 28)), TensorSpec(np.dtype("float32"), (-1, 10))
signature = ModelSignature(Schema([images]), Schema([logits]))
mlflow.onnx.save_model(onnx.load(sys.argv[1]), sys.argv[2], signature=signature)
"""


def _resident_mb(pid: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


@dataclass(frozen=True)
class Server:
    """One that answers. ready_s: from the start of its process to its first word that it is ready."""

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float

    def resident_mb(self) -> float:
        """Of its memory, and that of its children (what they share counts twice). Linux only."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return sum(_resident_mb(pid) for pid in [str(own), *children])

    def load(self, path: str, folder: Path, **options: float | str | bool) -> dict[str, Any]:
        """The report of `load.py`, with its options."""
        command = [sys.executable, "-m", "benchmarks.load", str(self.port), path, str(folder)]
        for name, value in options.items():
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "", request_id: str = "") -> tuple[int, bytes]:
        """One request on a connection of its own. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            headers = {"Content-Type": kind, "X-Request-Id": request_id}
            connection.request(method, path, body or None, {name: text for name, text in headers.items() if text})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def service(env: Mapping[str, str]) -> Iterator[Server]:
    """Ours, on a free port."""
    with _running([sys.executable, "-m", "mnist_pipeline.service"], {**env, "MNIST_SERVE_PORT": "0"}) as (process, log):
        begun = time.perf_counter()
        found = _awaited(lambda: SERVING.search(log.read_text()), process, log)
        yield _ready(Server(process, int(found[1]), 0.0), "/v2/health/ready", begun, log)


@contextmanager
def mlflow(graph: bytes) -> Iterator[Server]:
    """`mlflow models serve` as it comes, with the same network."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        (Path(folder) / "model.onnx").write_bytes(graph)
        subprocess.run(
            [sys.executable, "-c", SAVE_FOR_MLFLOW, f"{folder}/model.onnx", f"{folder}/model"],
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
            check=True,
            capture_output=True,
        )
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"{folder}/model", "--env-manager", "local"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where it looks for uvicorn
        with _running([*command, "-h", "127.0.0.1", "-p", str(port)], {"PATH": path}) as (process, log):
            yield _ready(Server(process, port, 0.0), "/ping", time.perf_counter(), log)


@contextmanager
def daemon(env: Mapping[str, str]) -> Iterator[None]:
    """Dagster's, over the whole code location and with the settings of the repository, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copy(PROJECT / "dagster.yaml", home)
        env = {**env, "DAGSTER_HOME": home, "MNIST_DATASET": "embedded", "MLFLOW_TRACKING_URI": "none"}
        tables = [sys.executable, "-c", "import dagster; dagster.DagsterInstance.get().get_runs()"]
        subprocess.run(tables, cwd=PROJECT, env={**os.environ, **env}, check=True)
        with _running([sys.executable, "-m", "dagster._daemon", "run", "-m", "mnist_pipeline.definitions"], env):
            yield


@contextmanager
def nothing() -> Iterator[Server]:
    """What the load generator alone is measured with."""
    with _running([sys.executable, "-m", "benchmarks.nothing"], {}) as (process, log):
        begun = time.perf_counter()
        port = _awaited(lambda: log.read_text().strip(), process, log)
        yield Server(process, int(port), time.perf_counter() - begun)


def _ready(server: Server, path: str, begun: float, log: Path) -> Server:
    def is_ready() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return server.ask("GET", path)[0] == 200
        return False

    _awaited(is_ready, server.process, log)
    return Server(server.process, server.port, time.perf_counter() - begun)


def _awaited(look: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    """What `look` finds. Raises RuntimeError with the log when the process ends, or after a minute."""
    end = time.monotonic() + START_S
    while not (found := look()):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} does not serve:\n{log.read_text()[-4_000:]}")
        time.sleep(0.005)
    return found


@contextmanager
def _running(command: list[str], env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The process and the file of what it says. It and its own children, as MLflow has one, end with the block."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as users have it
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, env={**kept, **env}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process, Path(log.name)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
