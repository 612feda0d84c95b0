"""What child processes of tests of faults do until they are killed; forked from a server with the imports behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

from pipelines import Pipeline
from s3_server import CREDENTIALS

from mnist_pipeline.store import LostRace

Start = Callable[..., tuple[Any, Connection]]


def tonight() -> str:
    """A night that is not over: each run claims what has come since."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def reopened(env: Mapping[str, str]) -> Pipeline:
    """The pipeline of another process."""
    os.environ.update({name: env[name] for name in CREDENTIALS if name in env})
    return Pipeline(**{"state": env["MNIST_PIPELINE_STATE"], **env})  # type: ignore[arg-type]


def deploy_and_predict(env: Mapping[str, str], versions: list[str], said: Connection) -> None:
    """Deploy one version, then the other, and predict the inbox after each, until killed."""
    pipeline = reopened(env)
    said.send("ready")
    for turn in range(1_000):
        choice = {"strategy": "manual", "version": versions[turn % 2]}
        pipeline.run("production_digit_classifier", production_digit_classifier=choice)
        said.send("deployed")
        pipeline.run("batch_digit_predictions", night=tonight())
        said.send("predicted")


def deploy_on_command(env: Mapping[str, str], version: str, said: Connection) -> None:
    """One deployment for every word that comes in; answers with what came of it."""
    pipeline = reopened(env)
    said.send("ready")
    while said.recv() == "go":
        try:
            choice = {"strategy": "manual", "version": version}
            pipeline.run("production_digit_classifier", production_digit_classifier=choice)
            said.send("deployed")
        except LostRace as error:
            said.send(str(error))


def make(env: Mapping[str, str], asset: str, config: Mapping[str, Any], night: str | None, said: Connection) -> None:
    """One asset, again and again, until killed."""
    pipeline = reopened(env)
    said.send("ready")
    for _ in range(1_000):
        pipeline.run(asset, night=night, **({asset: config} if config else {}))


@contextmanager
def starting(server: ForkServerContext) -> Iterator[Start]:
    """How to start a child, which is ready then; whatever still runs afterwards is ended."""
    children = []

    def start(work: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
        ours, theirs = server.Pipe()
        child = server.Process(target=work, args=(*arguments, theirs))
        child.start()
        children.append(child)
        theirs.close()
        assert ours.poll(120), "the child never became ready"
        assert ours.recv() == "ready"
        return child, ours

    yield start
    for child in children:
        child.kill()
        child.join()
