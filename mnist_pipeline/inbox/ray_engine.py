"""The engine on a Ray cluster, as the run sees it. Not here: what its driver does there (`ray_driver.py`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from mnist_pipeline.inbox.reach import probed
from mnist_pipeline.inbox.shards import Fetched, Shard
from mnist_pipeline.inbox.work import Done, EngineFailed, Unreachable, Work
from mnist_pipeline.ray_drivers import KNOCK_S, ClusterAway, driver, find
from mnist_pipeline.storage.blobs import StoreUnreachable

DRIVER = "mnist_pipeline.inbox.ray_driver"
ERRORS = {"failed": EngineFailed, "unreachable": Unreachable, "store": StoreUnreachable, "away": ClusterAway}
A_SHARD = "a shard ends (are all processors taken? MNIST_SHARD_WAIT_S is for how long to wait)"


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
        find(self.address, "score the night on this machine with MNIST_ENGINE=local")
        with probed(work) as work, tempfile.TemporaryFile() as log, driver(DRIVER, ERRORS, log) as said:
            said.order({"engine": asdict(self), "work": asdict(work), "shards": planned})
            said.wait_until_joined(self.address)
            said.wait("a node fits", self.wait_s + KNOCK_S, "fits")
            for _ in planned:
                yield Done(**said.wait(A_SHARD, self.stall_s, "done"))
