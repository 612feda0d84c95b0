"""A network trained for one epoch, in a model store of its own, and decisions, for benchmarks that want what serves."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.common import mnist
from mnist_pipeline.inbox.work import StoredModel
from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.artifacts import version_files
from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.training import train
from mnist_pipeline.production import load_production
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore


def deployed(folder: Path, **settings: int) -> tuple[StoredModel, Mapping[str, bytes], DigitData]:
    """The model as workers load it, its files, and the data that it was trained on. settings: beside the preset's."""
    data = mnist()
    trained = train(data["validation"], data["test"], 10, configure("fast", epochs=1, **settings))
    files, store = version_files(trained, data["test"]), ModelStore(DiskBlobs(folder))
    card = store.add_version(
        files,
        label="bench",
        metrics={},
        config={},
        class_names=data.origin.class_names,
        preparation="ink",
        dataset="mnist",
        data_version="bench",
        code_version="bench",
        run_id="bench",
    )
    deploy(store, card.name)
    return StoredModel.of(load_production(store), str(folder), "", abstain=False), files, data


def deploy(store: ModelStore, version: str) -> Decision:
    """Decide for a version, whatever served before."""
    current = store.current()
    return store.decide(
        serves=version,
        strategy="manual",
        outcome="deployed",
        candidate=version,
        reason="to be measured",
        evidence={},
        actor="benchmarks",
        expected=current.number if current else 0,
    )
