"""Batch inference by every engine, with its bars: python -m benchmarks.scale [--images N] [--times N]. Needs the extra
`ray`, and starts a cluster of two nodes on loopback, one processor each.

The images are those of the test set, each shifted by up to two pixels: 200,000 in a file, which is linked under as many
names as are needed, so that ten million take no more of the disk. In each row the engines take turns.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row
from benchmarks.deployed import deployed
from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.ray_engine import RayEngine
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.work import Done, StoredModel, Work, made_with

NIGHT, A_FILE = "2026-01-01", 200_000
ACTOR = b"ray::MapWorker(MapBatches(ShardScorer))"
GIB = 1 << 30
MANY, LARGE = 1_000_000, 10_000_000  # from which the bars count


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
        while not self._ended.wait(0.5):
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

    def run(self, engine: Engine, images: int) -> tuple[float, str, int]:
        """Seconds, the digest of the manifest, and the peak of memory."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out, Memory() as memory:
            work = Work(NIGHT, str(self.folder / "inbox"), out, "", self.model, made_with())
            files, began = self.files(images), time.perf_counter()
            tally = predict(work, files, schema_of(self.names), engine)
            return time.perf_counter() - began, tally.manifest, memory.peak


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


def place_of_images(folder: Path) -> Place:
    """A trained network and the images, shifted by up to two pixels."""
    model, _, data = deployed(folder / "models")
    draw, images = np.random.default_rng(0), data["test"].images
    shifted = np.concatenate(
        [np.roll(images, draw.integers(-2, 3, 2), (1, 2)) for _ in range(-(-A_FILE // len(images)))]
    )[:A_FILE]
    np.save(folder / "images.npy", shifted)
    Inbox(folder / "inbox").night(NIGHT).mkdir(parents=True)
    return Place(folder, model, tuple(data.origin.class_names))


def run(images: int, times: int) -> list[Row]:
    """All bars."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from ray_cluster import ray_cluster  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder, ray_cluster() as cluster:
        os.environ.update(cluster.env)
        place = place_of_images(Path(folder))
        engines: dict[str, Engine] = {
            "this process": LocalEngine(),
            "two processes": LocalEngine(2),
            "one actor": RayEngine(cluster.address, 1),
            "two actors": RayEngine(cluster.address, 2),
        }
        place.run(engines["this process"], A_FILE)  # warms the page cache
        runs = {name: [] for name in engines}  # type: dict[str, list[tuple[float, str, int]]]
        for _ in range(times):
            for name, engine in engines.items():
                runs[name].append(place.run(engine, images))
                print(f"{name}: {runs[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
        fifth = place.run(engines["two actors"], max(A_FILE, images // 5 // A_FILE * A_FILE))
        third = images // 10_000 // 3
        actor = place.run(Killing(engines["two actors"], lambda: _kill(processes_of(ACTOR)[0]), third), images)
        raylet = place.run(Killing(engines["two actors"], lambda: _kill(cluster.raylets[1]), third), images)
    return rows(images, runs, fifth, actor, raylet)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


Run = tuple[float, str, int]


def rows(images: int, runs: dict[str, list[Run]], fifth: Run, actor: Run, raylet: Run) -> list[Row]:
    """The table. A bar that is set for more images than these is not shown."""
    rate = {name: images / statistics.median(each[0] for each in all_runs) for name, all_runs in runs.items()}
    one, two, alone = rate["one actor"], rate["two actors"], rate["this process"]
    digests = {each[1] for all_runs in runs.values() for each in all_runs} | {actor[1], raylet[1]}
    peak = max(each[2] for each in runs["two actors"])
    usual = images / two
    many, large = images >= MANY, images >= LARGE

    def per_s(value: float) -> str:
        return f"{value:,.0f} images/s"

    few, not_ten = "– (from 1 million)", "– (from 10 million)"
    return [
        Row("manifests of all engines and losses", f"{len(digests)} digest", "–", "–", "1", len(digests) == 1),
        Row(f"one actor, {images:,} images", per_s(one), f"{per_s(alone)} (this process)", f"{one / alone:.2f}",
            "≥ 0.75" if many else few, not many or one >= 0.75 * alone),
        Row(f"two actors, {images:,} images", per_s(two), f"{per_s(one)} (one actor)", f"{two / one:.2f}",
            "≥ 1.4" if many else few, not many or two >= 1.4 * one),
        Row(f"two processes, {images:,} images", per_s(rate["two processes"]), f"{per_s(alone)} (this process)",
            f"{rate['two processes'] / alone:.2f}", "–", True),
        Row("two actors", per_s(two), "–", "–", "≥ 80,000 images/s" if large else not_ten, not large or two >= 80_000),
        Row("peak memory of two actors", f"{peak / GIB:.2f} GiB", "–", "–", "≤ 1.5 GiB", peak <= 1.5 * GIB),
        Row("the same beside a fifth of the images", f"{peak / GIB:.2f} GiB", f"{fifth[2] / GIB:.2f} GiB",
            f"{peak / fifth[2]:.2f}", "≤ 1.1" if large else not_ten, not large or peak <= 1.1 * fifth[2]),
        Row("kill -9 of an actor", f"{actor[0] - usual:+.1f} s", f"{usual:.1f} s", "–", "≤ 10 s more",
            actor[0] <= usual + 10),
        Row("kill -9 of a raylet, one node left", f"{raylet[0] - usual:+.1f} s", f"{usual:.1f} s", "–", "≤ 30 s more",
            raylet[0] <= usual + 30),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--images", type=int, default=400_000, help="a multiple of 200,000; the bars are for 10,000,000"
    )
    parser.add_argument("--times", type=int, default=1, help="how often each engine takes its turn; the median counts")
    given = parser.parse_args()
    found = run(max(A_FILE, given.images // A_FILE * A_FILE), given.times)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| what | ours | baseline | ratio | bar | met |\n|---|---|---|---|---|---|")
    for row in found:
        print(row.line())


if __name__ == "__main__":
    main()
