"""What checkpoints cost a training: images/s with them and without, in turns, five times as often as is usual."""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import Row, mnist, spread
from mnist_pipeline.checkpoint_files import CheckpointFiles
from mnist_pipeline.ml.checkpoints import Checkpoint, Checkpoints, NoCheckpoints, bound_to
from mnist_pipeline.ml.config import ModelConfig, configure
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.training import train
from mnist_pipeline.storage.shelves import DiskShelf

SEEDS = range(5)
IMAGES, EPOCHS = 4_000, 8
EVERY_S = 2.0  # by default 10


@dataclass
class Counted:
    """Checkpoint files, and how long the training waited for them."""

    files: CheckpointFiles
    seconds: float = 0.0
    written: int = 0

    def load(self) -> Checkpoint | None:
        """As the files do."""
        return self.files.load()

    def save(self, make: Callable[[], Checkpoint], over: bool) -> None:
        """As the files do."""

        def counted() -> Checkpoint:
            self.written += 1
            return make()

        begun = time.perf_counter()
        self.files.save(counted, over)
        self.seconds += time.perf_counter() - begun


@dataclass(frozen=True)
class Spent:
    """What one training took. cpu: seconds of all threads, which others on the machine hardly touch."""

    wall: float
    cpu: float


def spend(training: LabeledImages, validation: LabeledImages, config: ModelConfig, checkpoints: Checkpoints) -> Spent:
    """One training, timed."""
    wall, cpu = time.perf_counter(), time.process_time()
    train(training, validation, 10, config, checkpoints=checkpoints)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def run() -> list[Row]:
    """One row: the smaller each ratio's distance to 1, the less they cost."""
    import torch

    torch.set_num_threads(1)  # several wait for each other, which counts as work and differs from run to run
    data = mnist()
    parts = data["train"].take(np.arange(IMAGES)), data["validation"].take(np.arange(1_000))
    plain: list[Spent] = []
    kept: list[Spent] = []
    waited: list[float] = []
    written: list[int] = []
    spend(*parts, configure("accurate", epochs=1, min_steps=0), NoCheckpoints())  # the first one pays for torch's start
    for seed in SEEDS:
        config = configure("accurate", epochs=EPOCHS, min_steps=0, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            shelf, log = DiskShelf(Path(folder)), logging.getLogger("benchmark")
            counted = Counted(CheckpointFiles(shelf, bound_to(seed=seed), EVERY_S, log))
            for turn in (0, 1) if seed % 2 else (1, 0):
                into, checkpoints = ((plain, NoCheckpoints()), (kept, counted))[turn]
                into.append(spend(*parts, config, checkpoints))
        waited.append(100 * counted.seconds / kept[-1].wall)
        written.append(counted.written)
    rates = [[IMAGES * EPOCHS / each.wall for each in those] for those in (kept, plain)]
    more = [100 * (one.cpu / other.cpu - 1) for one, other in zip(kept, plain, strict=True)]
    return [
        Row(
            f"training with a checkpoint every {EVERY_S:.0f} s ({statistics.mean(written):.0f} each)",
            spread(rates[0], 0, " images/s"),
            spread(rates[1], 0, " images/s (none)"),
            f"{spread(waited, 2, ' %')} of its time, {spread(more, 1, ' %')} more CPU",
            "≤ 2 %",
            statistics.mean(more) <= 2 and statistics.mean(waited) <= 2,
        )
    ]
