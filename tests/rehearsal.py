"""Production, rehearsed on one machine: `make rehearsal` starts every server, then only watches.

S3 (moto), Postgres and MLflow are real servers, Slack and the outside monitor are stand-ins; all of them, Dagster's
daemon and its webserver are processes on loopback. Data lies in the bucket, images in the inbox: nobody touches
anything, until a model is deployed and the night is predicted. Then a run is made to fail, and Slack must hear of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from digit_files import idx_contents, png, write_idx
from pipelines import ROOT, call
from postgres_server import postgres
from processes import Process, answers, daemon, free_port, running, wait
from slack_stand_in import slack_stand_in

from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import prod_resources

BUCKET, PREFIX = "rehearsal", "mnist"
IMAGES = 40
BEFORE_THE_NIGHT = timedelta(
    minutes=8
)  # from data to production takes 3 minutes on a quiet machine, most of it waiting
# dates every object a day back: what is dropped now belongs to the night that is due soon, and not to the next
S3_OF_YESTERDAY = """
import sys
from datetime import timedelta

from moto.s3 import models
from moto.server import main

now = models.utcnow
models.utcnow = lambda: now() - timedelta(days=1)
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


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
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        )

    def drop(self, name: str, data: bytes) -> None:
        """An image into the inbox."""
        self.client().put_object(Bucket=BUCKET, Key=f"{PREFIX}/inbox/{name}", Body=data)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Every server that production needs, on loopback, empty; all of them ended afterwards."""
    s3_port, mlflow_port = free_port(), free_port()
    s3 = Process("s3", [sys.executable, "-c", S3_OF_YESTERDAY, str(s3_port)], {}, folder / "s3.log")
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
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        folder / "mlflow.log",
    )
    with ExitStack() as stack:
        slack = stack.enter_context(slack_stand_in())
        url = stack.enter_context(postgres()).url
        stack.enter_context(running(s3, lambda: answers(f"http://127.0.0.1:{s3_port}")))
        stack.enter_context(running(mlflow, lambda: answers(f"{mlflow_url}/health")))
        made = Stage(folder, s3_port, mlflow_url, url, slack, {})
        made.parts.update(s3=s3, mlflow=mlflow)
        made.client().create_bucket(Bucket=BUCKET)
        made.env = _environment(made)
        stack.callback(lambda: [process.end() for process in made.parts.values()])
        yield made


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


def put_data(made: Stage, mnist: str) -> None:
    """The real MNIST where there is a folder of it, else the embedded digits as IDX files, into the bucket."""
    folder = Path(mnist) if mnist else made.folder / "idx"
    if not mnist:
        data = read_embedded()
        write_idx(folder, idx_contents(data["train"], data["test"]))
        made.env["MNIST_DATASET"] = "idx"
    for path in folder.glob("*ubyte*"):
        made.client().upload_file(str(path), BUCKET, f"data/{path.name}")


def rehearse(folder: Path, mnist: str = "", say: Callable[[str], None] = print) -> dict[str, Any]:
    """The whole play. Returns what was seen; raises TimeoutError for what did not come about."""
    begun = time.monotonic()

    def seen(what: str) -> None:
        say(f"  {time.monotonic() - begun:5.0f} s  {what}")

    with stage(folder) as made:
        seen("S3, Postgres, MLflow and Slack's stand-in are up, and empty")
        put_data(made, mnist)
        for number, image in enumerate(read_embedded()["test"].images[:IMAGES]):
            made.drop(f"digit-{number}.png", png(image))
        tick = datetime.now(timezone.utc) + BEFORE_THE_NIGHT
        made.env["MNIST_NIGHTLY_AT"] = f"{tick:%H:%M}"
        night = NightlyRun("UTC", tick.hour, tick.minute).night_of(tick)
        made.parts["daemon"] = daemon(made.env, folder / "daemon.log").start()
        seen(f"data in the bucket, {IMAGES} images in the inbox, the daemon started; the night is due at {tick:%H:%M}")
        return _watch(made, night, seen)


def _watch(made: Stage, night: str, seen: Callable[[str], None]) -> dict[str, Any]:
    store = prod_resources(_with_credentials(made.env))["models"].open()
    decision = wait("a model in production", store.current, 420)
    seen(f"decision {decision.number}: {decision.serves} serves")
    table = wait("the night's table", lambda: _table(made, night), 600)
    seen(f"{night}: {len(table)} predictions by {set(table.column('model_version').to_pylist())}")
    aliases = wait("the registry", lambda: _aliases(made), 120)
    seen(f"MLflow: {aliases}")
    wait("a sign of life", lambda: made.slack.beats, 120)
    quiet = list(made.slack.texts)
    failing = '{"ops": {"digit_predictions": {"config": {"paths": ["/nowhere/seven.png"]}}}}'
    command = ("-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions")
    call(*command, "--select", "key:digit_predictions", "--config-json", failing, **made.env)
    seen("a run by the command line has failed")
    alerts = wait("its alert", lambda: [text for text in made.slack.texts if "/nowhere/seven.png" in text], 180)
    seen(f"Slack has heard of it, and the monitor {made.slack.beats} signs of life")
    doctor = _make(made, "doctor")
    seen(f"doctor:\n{doctor.stdout}")
    return {
        "decision": decision,
        "table": table,
        "aliases": aliases,
        "quiet": quiet,
        "alerts": alerts,
        "doctor": doctor,
        "daemon": made.parts["daemon"].tail(5),
    }


def _make(made: Stage, target: str) -> subprocess.CompletedProcess[str]:
    """A target of the Makefile, as people call it, with this Python in the place of .venv's."""
    ready = made.folder / ".ready"
    ready.touch()
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "-s", target, f"BIN={Path(sys.executable).parent}", f"READY={ready}"],
        cwd=ROOT,
        env={**outside, **made.env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _with_credentials(env: dict[str, str]) -> dict[str, str]:
    """boto3 looks for them in the environment of this process."""
    os.environ.update(CREDENTIALS)
    return env


def _table(made: Stage, night: str) -> Any:
    """The predictions of a night as they lie in the bucket, None before."""
    client, key = made.client(), f"{PREFIX}/predictions/{night}.parquet"
    try:
        return pq.read_table(BytesIO(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()))
    except client.exceptions.NoSuchKey:
        return None


def _aliases(made: Stage) -> dict[str, str]:
    """Alias -> version name, as a person finds them in MLflow's registry."""
    from mlflow import MlflowClient

    found = MlflowClient(made.mlflow_url).search_registered_models()
    return {alias: str(version) for model in found for alias, version in model.aliases.items()}


def main() -> int:
    """As a command; MNIST_DATA_DIR is used if it is set."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # the servers are ended then too
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        rehearse(Path(folder), os.environ.get("MNIST_DATA_DIR", ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
