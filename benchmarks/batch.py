"""Batch prediction from an array and from PNG files, beside bare ONNX Runtime on the same images."""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Row, seconds, spread
from benchmarks.deployed import deployed
from mnist_pipeline.inbox.engines import LocalEngine
from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.work import StoredModel, Work, made_with
from mnist_pipeline.ml.predictor import BATCH, ONNX
from mnist_pipeline.samples import write_samples

NIGHT = "2026-01-01"
ARRAY_IMAGES, FILES, TIMES = 200_000, 10_000, 5


def bare(graph: bytes, images: np.ndarray) -> None:
    """Nothing but the session, batch after batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for at in range(0, len(images), BATCH):
        session.run(None, {"images": images[at : at + BATCH]})


def bare_files(graph: bytes, folder: Path) -> None:
    """Nothing but Pillow, a file after the other, and the session: no digest, no front door, no table."""
    from PIL import Image

    bare(graph, np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted(folder.glob("**/*.png"))]))


def night(folder: Path, model: StoredModel, names: Sequence[str]) -> None:
    """What the nightly asset does with claimed files, from disk to Parquet."""
    files = Inbox(folder, settle_s=0).claim(NIGHT, over=False)
    work = Work(NIGHT, str(folder), str(folder / ".out"), "", model, made_with())
    predict(work, files, schema_of(names), LocalEngine())


def run() -> list[Row]:
    """Two rows."""
    with (
        tempfile.TemporaryDirectory() as models,
        tempfile.TemporaryDirectory() as arrays,
        tempfile.TemporaryDirectory() as pictures,
    ):
        model, files, data = deployed(Path(models))
        images, names = np.concatenate([data["test"].images] * (ARRAY_IMAGES // 10_000)), data.origin.class_names
        np.save(Path(arrays) / "images.npy", images)
        write_samples(Path(pictures), data["test"].images[:FILES], 0.0)
        night(Path(arrays), model, names)  # claims, and warms the page cache
        night(Path(pictures), model, names)
        plain, ours = [], []
        for _ in range(TIMES):  # in turns, because the machine is shared
            plain += seconds(lambda: bare(files[ONNX], images), 1)
            ours += seconds(lambda: night(Path(arrays), model, names), 1)
        loop, shots = [], []
        for _ in range(TIMES):
            loop += seconds(lambda: bare_files(files[ONNX], Path(pictures)), 1)
            shots += seconds(lambda: night(Path(pictures), model, names), 1)
    share = statistics.mean(plain) / statistics.mean(ours)
    rates = [FILES / spent for spent in shots]
    return [
        Row(
            "batch prediction from an array",
            spread([ARRAY_IMAGES / spent for spent in ours], 0, " images/s"),
            spread([ARRAY_IMAGES / spent for spent in plain], 0, " images/s (bare ONNX Runtime)"),
            f"{share:.0%}",
            "≥ 70 %",
            share >= 0.7,
        ),
        Row(
            "batch prediction from PNG files",
            spread(rates, 0, " files/s"),
            spread([FILES / spent for spent in loop], 0, " files/s (Pillow and bare ONNX Runtime)"),
            f"{statistics.mean(loop) / statistics.mean(shots):.0%}",
            "≥ 2,000 files/s",
            statistics.mean(rates) >= 2_000,
        ),
    ]
