"""Batch inference by every engine, with its bars: python -m benchmarks.scale [--images N] [--times N]. Needs the extra
`ray`, and starts a cluster of two nodes on loopback, one processor each.

The images are those of the test set, each shifted by up to two pixels: 200,000 in a file, which is linked under as many
names as are needed, so that ten million take no more of the disk. The engines take turns with a million of them at
most, some with losses; all that are asked for are scored by two actors.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import storage_requests
from benchmarks.common import Row
from benchmarks.deployed import deployed
from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.parts import Worker
from mnist_pipeline.inbox.ray_engine import RayEngine
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.shards import Fetched, Shard
from mnist_pipeline.inbox.work import Done, StoredModel, Work, made_with

NIGHT, A_FILE = "2026-01-01", 200_000
ACTOR = b"ray::MapWorker(MapBatches(ShardScorer))"
GIB = 1 << 30
MANY, LARGE = 1_000_000, 10_000_000  # from which the bars count
WIDTHS = (16, 32, 64)  # of the preset `fast`
Run = tuple[float, str, int]  # seconds, the digest of the manifest, and the peak of memory


@dataclass
class Memory:
    """The peak of what this process, its children and Ray's actors hold together, while the block lasts."""

    peak: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(2.0):  # to look takes a process tens of milliseconds
            self.peak = max(self.peak, sum(map(_held, [os.getpid(), *children(os.getpid()), *processes_of(ACTOR)])))


def _held(pid: int) -> int:
    """Bytes; what it shares with others is counted in parts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def processes_of(kind: bytes) -> list[int]:
    """The numbers of those whose command line begins so."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(kind):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    """The children of a process, for engines that start some."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@dataclass(frozen=True)
class Place:
    """Images to score, and who does. Each run has an empty shelf."""

    folder: Path
    model: StoredModel
    names: tuple[str, ...]

    def files(self, images: int) -> list[str]:
        """So many images, in files that are one."""
        there = Inbox(self.folder / "inbox").night(NIGHT)
        for number in range(images // A_FILE):
            if not (there / f"{number:04d}.npy").exists():
                (there / f"{number:04d}.npy").hardlink_to(self.folder / "images.npy")
        return [f"{number:04d}.npy" for number in range(images // A_FILE)]

    def run(self, engine: Engine, images: int) -> Run:
        """All of them."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out, Memory() as memory:
            work = Work(NIGHT, str(self.folder / "inbox"), out, "", self.model, made_with())
            files, began = self.files(images), time.perf_counter()
            tally = predict(work, files, schema_of(self.names), engine)
            return time.perf_counter() - began, tally.manifest, memory.peak


class OneThread:
    """This process with one thread, which is what an actor has."""

    def run(self, work: Work, shards: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        """As the local engine does."""
        worker = Worker.open(work, threads=1, fetched=fetched)
        return (worker.part(index, shard) for index, shard in shards)


class Killing:
    """An engine that loses something when a third of its shards is done."""

    def __init__(self, engine: Engine, kill: Callable[[], None], after: int) -> None:
        self.engine, self.kill, self.after = engine, kill, after

    def run(self, *told: Any) -> Iterator[Done]:
        """As the engine does."""
        for count, done in enumerate(self.engine.run(*told)):
            if count == self.after:
                self.kill()
            yield done


def place_of_images(folder: Path, widths: Sequence[int] = WIDTHS) -> Place:
    """A trained network and the images, shifted by up to two pixels. widths: channels of its convolutions."""
    model, _, data = deployed(folder / "models", **dict(zip(("width_1", "width_2", "width_3"), widths, strict=True)))
    draw, images = np.random.default_rng(0), data["test"].images
    shifted = np.concatenate(
        [np.roll(images, draw.integers(-2, 3, 2), (1, 2)) for _ in range(-(-A_FILE // len(images)))]
    )[:A_FILE]
    np.save(folder / "images.npy", shifted)
    Inbox(folder / "inbox").night(NIGHT).mkdir(parents=True)
    return Place(folder, model, tuple(data.origin.class_names))


def run(images: int, times: int, widths: Sequence[int]) -> list[Row]:
    """All bars."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from ray_cluster import ray_cluster  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder, ray_cluster() as cluster:
        os.environ.update(cluster.env)
        place, few = place_of_images(Path(folder), widths), min(images, MANY)
        engines: dict[str, Engine] = {
            "this process": LocalEngine(),
            "one thread": OneThread(),
            "two processes": LocalEngine(2),
            "one actor": RayEngine(cluster.address, 1),
            "two actors": RayEngine(cluster.address, 2),
        }
        place.run(engines["this process"], A_FILE)  # warms the page cache
        runs = {name: [] for name in engines}  # type: dict[str, list[Run]]
        for _ in range(times):
            for name, engine in engines.items():
                runs[name].append(_told(name, place.run(engine, few)))
        two, third = engines["two actors"], few // 10_000 // 3
        fifth = _told("a fifth", place.run(two, max(A_FILE, images // 5 // A_FILE * A_FILE)))
        whole = _told("all", place.run(two, images)) if images > few else runs["two actors"][-1]
        actor = place.run(Killing(two, lambda: _kill(processes_of(ACTOR)[0]), third), few)
        raylet = place.run(Killing(two, lambda: _kill(cluster.raylets[1]), third), few)
        of_storage = storage_requests.rows(place.model, place.names)
    return [*rows(few, runs), *rows_of_all(images, whole, fifth), *rows_of_losses(runs, actor, raylet), *of_storage]


def _told(name: str, run: Run) -> Run:
    print(f"{name}: {run[0]:.1f} s", file=sys.stderr, flush=True)
    return run


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def rows(images: int, runs: dict[str, list[Run]]) -> list[Row]:
    """How fast each engine is beside another. A bar that is set for more images than these is not shown."""
    rate = {name: images / statistics.median(each[0] for each in all_runs) for name, all_runs in runs.items()}

    def row(name: str, beside: str, bar: float | None, note: str = "") -> Row:
        ratio = rate[name] / rate[beside]
        counts = bar if images >= MANY else None
        shown = f"≥ {counts:g}" if counts else ("– (from 1 million)" if bar else "–")
        return Row(f"{name}, {images:,} images{note}", per_s(rate[name]), f"{per_s(rate[beside])} ({beside})",
                   f"{ratio:.2f}", shown, not counts or ratio >= counts)  # fmt: skip

    return [
        row("one actor", "one thread", 0.75, ", beside as many processors of this process"),
        row("one actor", "this process", None),
        row("two actors", "one actor", 1.4),
        row("two actors", "this process", None),
        row("two processes", "this process", None),
    ]


def rows_of_all(images: int, whole: Run, fifth: Run) -> list[Row]:
    """What two actors made of all images."""
    large, later, rate = images >= LARGE, "– (from 10 million)", images / whole[0]
    return [
        Row(f"two actors, {images:,} images", per_s(rate), "–", "–", "≥ 80,000 images/s" if large else later,
            not large or rate >= 80_000),
        Row("peak memory of that", f"{whole[2] / GIB:.2f} GiB", "–", "–", "≤ 1.5 GiB", whole[2] <= 1.5 * GIB),
        Row("… beside a fifth of the images", f"{whole[2] / GIB:.2f} GiB", f"{fifth[2] / GIB:.2f} GiB",
            f"{whole[2] / fifth[2]:.2f}", "≤ 1.1" if large else later, not large or whole[2] <= 1.1 * fifth[2]),
    ]  # fmt: skip


def rows_of_losses(runs: dict[str, list[Run]], actor: Run, raylet: Run) -> list[Row]:
    """What a loss costs, and whether anything else differs."""
    usual = statistics.median(each[0] for each in runs["two actors"])
    digests = {each[1] for all_runs in runs.values() for each in all_runs} | {actor[1], raylet[1]}
    return [
        Row("kill -9 of an actor", f"{actor[0] - usual:+.1f} s", f"{usual:.1f} s", "–", "≤ 10 s more",
            actor[0] <= usual + 10),
        Row("kill -9 of a raylet, one node left", f"{raylet[0] - usual:+.1f} s", f"{usual:.1f} s", "–", "≤ 30 s more",
            raylet[0] <= usual + 30),
        Row("manifests of all engines and losses", f"{len(digests)} digest", "–", "–", "1", len(digests) == 1),
    ]  # fmt: skip


def per_s(value: float) -> str:
    """Images/s."""
    return f"{value:,.0f} images/s"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--images", type=int, default=400_000, help="a multiple of 200,000; bars are for 1,000,000 and 10,000,000"
    )
    parser.add_argument("--times", type=int, default=1, help="how often each engine takes its turn; the median counts")
    parser.add_argument("--widths", default="16 32 64", help="channels of the network's three convolutions")
    given = parser.parse_args()
    widths = tuple(map(int, given.widths.split()))
    found = run(max(A_FILE, given.images // A_FILE * A_FILE), given.times, widths)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, a network of {given.widths} channels\n")
    print("| what | ours | baseline | ratio | bar | met |\n|---|---|---|---|---|---|")
    for row in found:
        print(row.line())


if __name__ == "__main__":
    main()
