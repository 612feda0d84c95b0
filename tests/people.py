"""What people leave behind in tests: feedback from the page, CSV files of labels, answers in the log, nights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from digit_files import png

from mnist_pipeline.inbox.mailbox import Inbox
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
) -> None:
    """One request, as the service logs it. kept: whether the pixels are."""
    log = PredictionLog(Parts(DiskShelf(state / "prediction_log"), images=kept))
    shares = np.full((len(images), 10), 0.01, np.float32)
    shares[np.arange(len(images)), labels] = 0.91
    log.add(Predicted(at or time.time(), request_id, door, role, version, 1, NAMES, images, shares))
    log.flush()


def night(state: Path, date: str, files: dict[str, bytes], label: str = "1", version: str = "v-1") -> None:
    """Files that a night has claimed, and its table; of an array file one row."""
    folder = state / "inbox" / ".claimed" / date
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    table = {
        "file": list(files),
        "row": pa.array([0] * len(files), pa.int64()),
        "sha256": [sha256(data) for data in files.values()],
        "label": [label] * len(files),
        "confidence": pa.array([0.9] * len(files), pa.float32()),
        "model_version": [version] * len(files),
        "decision": pa.array([1] * len(files), pa.int64()),
    }
    (state / "predictions").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), state / "predictions" / f"{date}.parquet")


def places(state: Path, faults: list[str] | None = None) -> Places:
    """Where all that is."""
    fault = (lambda text: None) if faults is None else faults.append
    traffic = Traffic(DiskShelf(state / "prediction_log"), DiskShelf(state / "feedback"), fault)
    return Places(traffic, NightTables(DiskShelf(state / "predictions")), Inbox(state / "inbox", 0.0))
