"""The engine on a Ray cluster, as the run sees it: a driver in a process of its own, which is ended when it stalls.

A process of its own, because Ray ends the process that has lost its cluster, because a call into a cluster that does
not answer can then be ended, and because an ended driver gives back its actors. The run may so belong to a Ray job
itself. Not here: what the driver does (`ray_driver.py`).
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from mnist_pipeline.inbox.reach import probed
from mnist_pipeline.inbox.shards import Fetched, Shard
from mnist_pipeline.inbox.work import Done, EngineFailed, Unreachable, Work
from mnist_pipeline.storage.blobs import StoreUnreachable

COMMAND = (sys.executable, "-c", "from mnist_pipeline.inbox.ray_driver import main; main()")
PROJECT = Path(__file__).resolve().parents[2]  # from where the package is found, installed or not
KNOCK_S, JOINS_S, ENDS_S = 5.0, 90.0, 20.0
TAIL = 3_000  # characters of what the driver said, for an error


class ClusterAway(ConnectionError):
    """Nobody answers at the address of the cluster. It may come back, so Dagster tries the step again."""


@dataclass(frozen=True)
class RayEngine:
    """Actors of a Ray cluster, each with a predictor of its own, which take a shard at a time.

    address: of the head, host:port; the run is on one of its nodes. workers: actors, 0 for as many as there are
    processors. cpus: that each actor asks for. wait_s: how long to wait for a node that has as many, as clusters that
    grow need; stall_s: how long no shard may end before the cluster is given up, more than the slowest one takes.
    """

    address: str
    workers: int = 0
    cpus: float = 1.0
    wait_s: float = 120.0
    stall_s: float = 1_800.0

    def run(self, work: Work, shards: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        """fetched is not used: actors fetch for themselves. Raises ClusterAway, EngineFailed, Unreachable."""
        if find_spec("ray") is None:
            raise EngineFailed("Ray is not installed here: pip install 'mnist-pipeline[ray]', or MNIST_ENGINE=local")
        planned = [[index, asdict(shard)] for index, shard in shards]
        if not planned:
            return
        self._knock()
        with probed(work) as work, _driver() as said:
            said.order({"engine": asdict(self), "work": asdict(work), "shards": planned})
            said.wait("it is joined", JOINS_S, "joined")
            said.wait("a node fits", self.wait_s + KNOCK_S, "fits")
            for _ in planned:
                yield Done(**said.wait("a shard ends (are all its processors taken?)", self.stall_s, "done"))

    def _knock(self) -> None:
        """Ray itself tries for a minute, and names the wrong culprit."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
        except OSError as error:
            raise ClusterAway(
                f"no Ray cluster answers at {self.address} ({error}): start it, or correct RAY_ADDRESS, or score the "
                f"night on this machine with MNIST_ENGINE=local"
            ) from error


@dataclass
class _Driver:
    """The child, and the lines that it says: {"joined": …}, {"fits": …}, {"done": …} or {"failed": …}."""

    child: subprocess.Popen[str]
    lines: queue.SimpleQueue[str]
    log: IO[bytes]

    def order(self, order: dict[str, Any]) -> None:
        """In one line; what comes after is nothing, as long as the run lives."""
        assert self.child.stdin
        with suppress(BrokenPipeError):  # it has ended, which is told to whoever waits for its first word
            self.child.stdin.write(json.dumps(order) + "\n")
            self.child.stdin.flush()

    def wait(self, what: str, seconds: float, key: str) -> Any:
        """What it says next under this key. Raises EngineFailed when it fails, ends, or says nothing in time."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise EngineFailed(
                f"the Ray cluster was given up: {seconds:.0f} s, and still waiting until {what}.{self._tail()}"
            ) from None
        if not line:
            raise EngineFailed(f"the driver on the Ray cluster ended before {what}.{self._tail()}")
        said = json.loads(line)
        if key not in said:
            raise ERRORS[said["kind"]](said["failed"])
        return said[key]

    def _tail(self) -> str:
        self.log.seek(0)
        return "\n" + self.log.read().decode(errors="replace")[-TAIL:]


ERRORS = {"failed": EngineFailed, "unreachable": Unreachable, "store": StoreUnreachable, "away": ClusterAway}


@contextmanager
def _driver() -> Iterator[_Driver]:
    """A driver that waits for its order; ended with the block, however that ends, and with this process."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=PROJECT
        )
        assert child.stdout
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
        reader.start()
        try:
            yield _Driver(child, lines, log)
            with suppress(subprocess.TimeoutExpired):  # it leaves the cluster by itself
                child.wait(ENDS_S)
        finally:
            _end(child)
            reader.join(ENDS_S)
            child.stdout.close()


def _read(child: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Every line; an empty one at the end."""
    assert child.stdout
    for line in child.stdout:
        lines.put(line)
    lines.put("")


def _end(child: subprocess.Popen[str]) -> None:
    """By closing its input, at which it leaves the cluster; by force when that takes long."""
    assert child.stdin
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
