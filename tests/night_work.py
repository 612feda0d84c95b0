"""A night's work for tests that have no pipeline: files of a claimed night, a scorer at hand, a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from digit_files import strokes

from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import Scorer, schema_of
from mnist_pipeline.inbox.tables import Tally
from mnist_pipeline.inbox.work import StoredModel, Work, made_with
from mnist_pipeline.ml.artifacts import pack
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.production import load_production
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore


@dataclass(frozen=True)
class Loaded:
    """A model that this process has at hand."""

    scorer: Scorer

    @property
    def version(self) -> str:
        return self.scorer.version

    @property
    def decision(self) -> int:
        return self.scorer.decision

    def load(self, threads: int = 0) -> Scorer:
        return self.scorer


def work_of(inbox: Path | str, out: Path | str, scorer: Scorer, night: str, endpoint: str = "") -> Work:
    return Work(night, str(inbox), str(out), endpoint, Loaded(scorer), made_with())


def predict_night(
    inbox: Path | str, files: Sequence[str], scorer: Scorer, out: Path, night: str, engine: Engine | None = None
) -> Tally:
    """These files of a claimed night, as the asset does it."""
    work = work_of(inbox, out, scorer, night)
    return predict(work, files, schema_of(scorer.class_names), engine or LocalEngine())


def stored_model(folder: Path, **widths: int) -> StoredModel:
    """A network that was never trained, deployed in a store of its own: its answers are as good as any here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitCNN(ModelConfig(**(widths or {"width_1": 2, "width_2": 2, "width_3": 2})), 10).eval()
    store = ModelStore(DiskBlobs(folder))
    names = [str(digit) for digit in range(10)]
    facts = {"class_names": names, "preparation": "ink", "dataset": "strokes", "data_version": "1", "code_version": "1"}
    files = pack(network, strokes(16))
    card = store.add_version(files, label="untrained", metrics={}, config={}, run_id="1", **facts)  # type: ignore[arg-type]
    said = {"reason": "for a test", "evidence": {}, "actor": "test", "expected": 0}
    store.decide(serves=card.name, strategy="manual", outcome="deployed", candidate=card.name, **said)  # type: ignore[arg-type]
    return StoredModel.of(load_production(store), str(folder), "", abstain=False)


def claimed(folder: Path, night: str, files: Mapping[str, np.ndarray | bytes]) -> list[str]:
    """Files in the night of an inbox: arrays as .npy, bytes as they are. Returns their names, in order."""
    at = Inbox(folder).night(night)
    at.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (at / name).write_bytes(content)
        else:
            np.save(at / name, content)
    return sorted(files)
