"""The driver of the engine on a Ray cluster: has actors score the shards, and says what they did.

Ray Data spreads the shards over a pool of actors, replaces those that die and gives their shards to others; what it
carries is a line of JSON a shard, never an image. Not here: whoever waits for that (`ray_engine.py`).
"""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mnist_pipeline.inbox.parts import Worker, fetched_of
from mnist_pipeline.inbox.reach import check_reach
from mnist_pipeline.inbox.shards import Shard
from mnist_pipeline.inbox.work import EngineFailed, StoredModel, Unreachable, Work
from mnist_pipeline.on_ray import NotJoined, joined, obey, room
from mnist_pipeline.storage.blobs import StoreUnreachable

BLOCKS = 10_000  # at most, of so many shards that Ray keeps account of; one each, up to a hundred million images


class ShardScorer:
    """An actor: a worker of its own, opened for its first shard. What goes wrong is told, not thrown across Ray."""

    def __init__(self, work: str, threads: int) -> None:
        self._work, self._threads = read_work(json.loads(work)), threads
        self._fetched = fetched_of(self._work)
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """said: a line of JSON for each shard of the batch."""
        return {"said": [json.dumps(self._told(*json.loads(str(each)))) for each in batch["shard"]]}

    def __del__(self) -> None:
        """Ray Data calls it when the actor is not needed any longer: the files that it has fetched go."""
        if self._worker:
            self._worker.close()
        self._fetched.close()

    def _told(self, index: int, plain: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._worker is None:
                check_reach(self._work)
                self._worker = Worker.open(self._work, self._threads, self._fetched)
            return {"done": asdict(self._worker.part(index, Shard(**{**plain, "files": tuple(plain["files"])})))}
        except Exception as error:  # whatever it is, the run has to hear of it
            return failure(error, f"on {socket.gethostname()}, shard {index}")


def read_work(plain: dict[str, Any]) -> Work:
    """From JSON."""
    return Work(**{**plain, "model": StoredModel(**plain["model"])})


def failure(error: Exception, where: str) -> dict[str, Any]:
    """An error in a line, of a kind that the run can raise again."""
    kinds = {StoreUnreachable: "store", Unreachable: "unreachable", ConnectionError: "away"}
    kind = next((name for cls, name in kinds.items() if isinstance(error, cls)), "failed")
    known = kind != "failed" or isinstance(error, EngineFailed | NotJoined)
    text = str(error) if known else "".join(traceback.format_exception(error)).strip()
    return {"failed": f"{where}: {text}", "kind": kind}


def drive(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that comes to pass, in order. Leaves the cluster at the end, and so gives back its actors."""
    engine = order["engine"]
    with joined(engine["address"]):
        yield {"joined": engine["address"]}
        most = wait_for_room(engine["cpus"], engine["wait_s"])
        yield {"fits": most}
        workers = min(engine["workers"] or most, len(order["shards"]))
        for row in scored(order, workers, engine["cpus"]).iter_rows():
            yield json.loads(row["said"])


def scored(order: dict[str, Any], workers: int, cpus: float) -> Any:
    """A dataset of what is told of each shard; nothing is begun yet."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shards = [{"shard": json.dumps(each)} for each in order["shards"]]
    blocks = ray.data.from_items(shards, override_num_blocks=min(len(shards), BLOCKS))
    pool = ray.data.ActorPoolStrategy(  # one is enough to go on, for a node may be lost
        min_size=1, initial_size=workers, max_size=workers, max_tasks_in_flight_per_actor=2
    )
    return blocks.map_batches(
        ShardScorer,
        fn_constructor_args=(json.dumps(order["work"]), max(1, int(cpus))),
        batch_size=1,
        num_cpus=cpus,
        compute=pool,
    )


def wait_for_room(cpus: float, seconds: float) -> int:
    """How many actors that ask for so many processors the nodes have room for. Raises EngineFailed for none."""
    found, nodes = room(cpus, 0, seconds)
    if not found:
        there = ", ".join(f"{has:g}" for has in nodes)
        raise EngineFailed(
            f"an actor asks for {cpus:g} processors, and no node of the cluster has as many ({there}), also after "
            f"{seconds:.0f} s: lower MNIST_WORKER_CPUS, or add a node"
        )
    return found


def main() -> None:
    """One order."""
    obey(drive, lambda error, order: failure(error, f"Ray cluster {order['engine']['address']}"))
