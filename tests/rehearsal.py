"""Production, rehearsed on one machine: `make rehearsal` starts every server, then only watches.

S3 (moto), Postgres and MLflow are real servers, Slack and the outside monitor are stand-ins; all of them, Dagster's
daemon and its webserver are processes on loopback. Data lies in the bucket, images in the inbox: nobody touches
anything, until a model is deployed and the night is predicted. Then a run is made to fail, and Slack must hear of it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
BUCKET, PREFIX = "rehearsal", "mnist"
IMAGES = 40
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Process:
    """A child with its log; it leads a process group, so that ending it ends its children too."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, env={**os.environ, **self.env}, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.child is None:
            return
        for each in (how, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, each)
            except ProcessLookupError:
                break
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                continue
        self.child.wait()
        self.child = None

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what: str, seen: Callable[[], Any], seconds: float, every: float = 0.5) -> Any:
    """The first true answer. Raises TimeoutError naming what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := seen():
            return answer
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def answers(url: str) -> bool:
    """Whether a server answers at all."""
    try:
        urlopen(url, timeout=2).close()
    except (URLError, OSError) as error:
        return hasattr(error, "code")
    return True


@contextmanager
def running(process: Process, until: Callable[[], Any], seconds: float = 90) -> Iterator[Process]:
    """A server that has answered once; ended afterwards."""
    process.start()
    try:
        wait(f"{process.name} answers", until, seconds)
        yield process
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{process.tail()}") from error
    finally:
        process.end()


@dataclass
class Stage:
    """The servers, and the environment in which production runs against them."""

    folder: Path
    s3_port: int
    mlflow_url: str
    postgres_url: str
    slack: Any
    env: dict[str, str]
    parts: dict[str, Process] = field(default_factory=dict)

    def client(self) -> Any:
        """Of the bucket, past everything that is tested."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.s3_port}",
            aws_access_key_id="rehearsal",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def process(self, name: str, *command: str) -> Process:
        """A Dagster process in production's environment."""
        self.parts[name] = Process(name, [sys.executable, "-m", *command], self.env, self.folder / f"{name}.log")
        return self.parts[name]

    def drop(self, name: str, data: bytes) -> None:
        """An image into the inbox."""
        self.client().put_object(Bucket=BUCKET, Key=f"{PREFIX}/inbox/{name}", Body=data)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Every server that production needs, on loopback, empty; all of them ended afterwards."""
    from postgres_server import postgres
    from slack_stand_in import SlackStandIn

    s3_port, mlflow_port = free_port(), free_port()
    s3 = Process(
        "s3", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3_port)], {}, folder / "s3.log"
    )
    mlflow_url = f"http://127.0.0.1:{mlflow_port}"
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    at = ["--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"]
    mlflow = Process(
        "mlflow",
        [sys.executable, "-m", "mlflow", "server", *store, *at],
        {},
        folder / "mlflow.log",
    )
    with ExitStack() as stack:
        slack = stack.enter_context(SlackStandIn())
        url = stack.enter_context(postgres(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg")))))
        stack.enter_context(running(s3, lambda: answers(f"http://127.0.0.1:{s3_port}")))
        stack.enter_context(running(mlflow, lambda: answers(f"{mlflow_url}/health")))
        made = Stage(folder, s3_port, mlflow_url, url, slack, {})
        made.parts.update(s3=s3, mlflow=mlflow)
        made.client().create_bucket(Bucket=BUCKET)
        made.env = _environment(made)
        yield made
        for process in made.parts.values():
            process.end()


def _environment(made: Stage) -> dict[str, str]:
    state = made.folder / "state"
    state.mkdir()
    return {
        **CREDENTIALS,
        "MNIST_PIPELINE_ENV": "prod",
        "MNIST_PIPELINE_STATE": str(state),
        "MNIST_PIPELINE_TIMEZONE": "UTC",
        "MNIST_S3_BUCKET": BUCKET,
        "MNIST_S3_PREFIX": PREFIX,
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{made.s3_port}",
        "MNIST_DATA_DIR": f"s3://{BUCKET}/data",
        "MNIST_INBOX_SETTLE_S": "1",
        "MLFLOW_TRACKING_URI": made.mlflow_url,
        "SLACK_BOT_TOKEN": "xoxb-rehearsal",
        "SLACK_CHANNEL": "#mnist",
        "SLACK_API_URL": made.slack.url,
        "MNIST_HEARTBEAT_URL": f"{made.slack.url}heartbeat",
        "DAGSTER_HOME": str(ROOT / "instances" / "postgres"),
        "DAGSTER_POSTGRES_URL": made.postgres_url,
    }
