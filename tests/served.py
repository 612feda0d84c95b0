"""The service in tests: in this process behind a client, or as a process of its own on a socket."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from processes import Process, wait
from starlette.testclient import TestClient

from mnist_pipeline.alerts.doors import Alerter
from mnist_pipeline.ledger import Decision
from mnist_pipeline.service.app import build
from mnist_pipeline.service.settings import Settings, doors
from mnist_pipeline.store import ModelStore

RAW = {"Content-Type": "application/octet-stream"}


@contextmanager
def served(state: Path, alerter: Alerter | None = None, **settings: Any) -> Iterator[TestClient]:
    """The whole application over a state folder; it looks for new decisions as it does in earnest."""
    chosen = Settings(**settings)
    opened = doors(chosen, {"MNIST_PIPELINE_STATE": str(state)})
    app = build(chosen, replace(opened, alerter=alerter) if alerter else opened)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def service(state: Path, log: Path, **env: str) -> Process:
    """A process that is not started yet, on a free port of this machine."""
    given = {"MNIST_PIPELINE_STATE": str(state), "MNIST_SERVE_PORT": "0", **env}
    return Process("service", [sys.executable, "-m", "mnist_pipeline.service"], given, log)


@contextmanager
def service_at(state: Path, log: Path, **env: str) -> Iterator[str]:
    """Its address, while it runs."""
    process = service(state, log, **env).start()
    try:
        yield address(process)
    finally:
        process.end()


def address(process: Process) -> str:
    """Where it listens, once it does."""
    found: str = wait(
        "the service", lambda: "".join(re.findall(r"serving on (\S+)", process.tail(200))), 30, every=0.05
    )
    return found


def deploy(store: ModelStore, version: str, *, past: int | None = None, **more: Any) -> Decision:
    """One more decision. past: the number of one that cannot be read, which this goes past."""
    newest = store.current() if past is None else None
    given = {"strategy": "manual", "outcome": "deployed", "candidate": version, "reason": "a test", **more}
    expected = newest.number if newest else past or 0
    return store.decide(serves=version, evidence={}, actor="tests", expected=expected, **given)


def pixels(image: np.ndarray) -> bytes:
    """As JSON."""
    return json.dumps({"pixels": image.tolist()}).encode()
