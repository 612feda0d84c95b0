"""What people leave behind in tests: feedback from the page, CSV files of labels, answers in the log, nights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from digit_files import png

from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.scoring import refused as refused_table
from mnist_pipeline.labelled import Places
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Parts, Predicted
from mnist_pipeline.storage.sealed import sha256
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.traffic import Traffic

NAMES = [str(digit) for digit in range(10)]


def on_the_page(state: Path, image: np.ndarray, label: str, request_id: str = "", version: str = "v-1") -> str:
    """Somebody says on the page what a drawing was; the name under which it is kept."""
    kept = Feedback(DiskShelf(state / "feedback"))
    return kept.keep(png(image), "png", label, request_id=request_id, model_version=version)


def in_a_file(state: Path, name: str, *lines: str) -> Path:
    """A CSV file of labels."""
    path = state / "feedback" / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def answered(
    state: Path,
    request_id: str,
    images: np.ndarray,
    labels: list[int],
    *,
    kept: bool = True,
    at: float | None = None,
    role: str = "champion",
    version: str = "v-1",
    door: str = "predict",
    decision: int = 1,
    abstained: bool = False,
) -> None:
    """One request, as the service logs it. kept: whether the pixels are."""
    log = PredictionLog(Parts(DiskShelf(state / "prediction_log"), images=kept))
    if abstained:
        log.note_abstentions(lambda predicted: np.ones(len(predicted.images), bool))
    shares = np.full((len(images), 10), 0.01, np.float32)
    shares[np.arange(len(images)), labels] = 0.91
    log.add(Predicted(at or time.time(), request_id, door, role, version, decision, NAMES, images, shares))
    log.flush()


def night(
    state: Path,
    date: str,
    files: dict[str, bytes],
    label: str | None = "1",
    version: str = "v-1",
    confidence: float | None = 0.9,
    rows: Sequence[int] = (0,),
    refused: Mapping[int, str] | None = None,
) -> None:
    """Files that a night has claimed, and its tables. rows: of each file; refused: row -> why, in quarantine."""
    folder = state / "inbox" / ".claimed" / date
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    spots = [(name, row, sha256(data)) for name, data in files.items() for row in rows]
    table = {
        "file": [name for name, _, _ in spots],
        "row": pa.array([row for _, row, _ in spots], pa.int64()),
        "sha256": [digest for _, _, digest in spots],
        "label": pa.array([label] * len(spots), pa.string()),
        "confidence": pa.array([confidence] * len(spots), pa.float32()),
        "model_version": [version] * len(spots),
        "decision": pa.array([1] * len(spots), pa.int64()),
    }
    faults = [
        (name, sha256(data), f"row {n}: {why}") for name, data in files.items() for n, why in (refused or {}).items()
    ]
    (state / "predictions" / "quarantine").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), state / "predictions" / f"{date}.parquet")
    pq.write_table(refused_table(faults), state / "predictions" / "quarantine" / f"{date}.parquet")


def places(state: Path, faults: list[str] | None = None) -> Places:
    """Where all that is."""
    fault = (lambda text: None) if faults is None else faults.append
    traffic = Traffic(DiskShelf(state / "prediction_log"), DiskShelf(state / "feedback"), fault)
    return Places(traffic, NightTables(DiskShelf(state / "predictions")), Inbox(state / "inbox", 0.0))
