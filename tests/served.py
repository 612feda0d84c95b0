"""The service in tests: in this process behind a client, or as a process of its own on a socket."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from digit_files import png
from processes import Process, wait
from starlette.testclient import TestClient

from mnist_pipeline.alerts.doors import Alerter
from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.service.app import build
from mnist_pipeline.service.settings import Settings, doors
from mnist_pipeline.store import ModelStore

RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}


class People:
    """Who ask the service, and say so where it was wrong."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, images: np.ndarray) -> list[dict[str, Any]]:
        return [json.loads(self._post("/predict", image.tobytes(), RAW)) for image in images]

    def correct(self, data: LabeledImages, answers: list[dict[str, Any]]) -> int:
        """How many were wrong."""
        wrong = [
            (image, str(label), answer["request_id"])
            for image, label, answer in zip(data.images, data.labels, answers, strict=True)
            if answer["label"] != str(label)
        ]
        for image, label, request in wrong:
            said = {"image": base64.b64encode(png(image)).decode(), "label": label, "request_id": request}
            self._post("/feedback", json.dumps(said).encode(), JSON)
        return len(wrong)

    def wait_for(self, role: str, version: str | None) -> dict[str, Any]:
        """Until that version has that role."""

        def has() -> dict[str, Any] | None:
            with urlopen(f"{self.url}/model") as answer:
                model: dict[str, Any] = json.load(answer)
            return model if ((model[role] or {}).get("version")) == version else None

        found: dict[str, Any] = wait(f"{version} as {role}", has, 5, every=0.05)
        return found

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        with urlopen(Request(self.url + path, body, headers)) as answer:
            data: bytes = answer.read()
        return data


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
