"""Something to serve, and something to ask: two versions in a store of their own, and requests of every form."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import mnist
from benchmarks.deployed import deploy
from mnist_pipeline.environment import model_store
from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.artifacts import pack
from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.predictor import ONNX
from mnist_pipeline.ml.training import train
from mnist_pipeline.store import ModelStore

DIGITS = 200  # different ones; requests repeat them
KINDS = {
    "png": "image/png",
    "raw": "application/octet-stream",
    "json": "application/json",
    "mlflow": "application/json",
}
"""Form of request -> Content-Type."""


@dataclass(frozen=True)
class Served:
    """A state folder whose store has two versions, and a folder of bodies for each form of request."""

    state: Path
    versions: tuple[str, ...]

    @property
    def env(self) -> dict[str, str]:
        """For processes that work with it."""
        return {"MNIST_PIPELINE_STATE": str(self.state), "MNIST_PIPELINE_ENV": "dev"}

    @property
    def store(self) -> ModelStore:
        """Of the versions and decisions."""
        return model_store(self.env)

    def bodies(self, form: str) -> Path:
        """A folder."""
        return self.state / "bodies" / form

    def graph(self) -> bytes:
        """Of the first version."""
        return self.store.read_file(self.versions[0], ONNX)

    def deploy(self, version: str) -> tuple[Decision, float]:
        """A decision, and when it was begun to be written (`time.perf_counter`)."""
        begun = time.perf_counter()
        return deploy(self.store, version), begun


@contextmanager
def two_versions() -> Iterator[Served]:
    """Trained with the preset `fast`, one epoch, two seeds; the first one is deployed."""
    data = mnist()
    with tempfile.TemporaryDirectory() as state:
        store = model_store({"MNIST_PIPELINE_STATE": state})
        served = Served(Path(state), tuple(_train(store, data, seed) for seed in (0, 1)))
        for form in KINDS:
            served.bodies(form).mkdir(parents=True)
            for i, image in enumerate(data["test"].images[:DIGITS]):
                (served.bodies(form) / f"{i:03d}").write_bytes(_body(form, image))
        served.deploy(served.versions[0])
        yield served


def _train(store: ModelStore, data: DigitData, seed: int) -> str:
    config = configure("fast", epochs=1, seed=seed)
    trained = train(data["train"], data["validation"], len(data.origin.class_names), config)
    return store.add_version(
        pack(trained.network, data["validation"].images),
        label=f"benchmark-{seed}",
        metrics={},
        config=config.model_dump(),
        class_names=data.origin.class_names,
        preparation="ink",
        dataset="mnist",
        data_version="benchmark",
        code_version="benchmark",
        run_id=f"benchmark-{seed}",
    ).name


def _body(form: str, image: np.ndarray) -> bytes:
    if form == "raw":
        return image.tobytes()
    if form == "json":
        return json.dumps({"pixels": image.tolist()}).encode()
    if form == "mlflow":
        return json.dumps({"inputs": [image.tolist()]}).encode()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
