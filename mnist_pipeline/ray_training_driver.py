"""Training on a Ray cluster, from within: the driver, which has TorchTrainer start a worker, and what that does.

Not here: who orders (`ray_training.py`), the training itself (`ml/learning.py`).
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from mnist_pipeline.checkpoint_files import CheckpointFiles
from mnist_pipeline.on_ray import LOOKS_S, NotJoined, joined, obey, room
from mnist_pipeline.ray_training import DIVERGED, Order
from mnist_pipeline.storage.locations import shelf_at

FAILURES = 3  # of the worker, after each of which it goes on from its checkpoint
STARTS = 2  # times that a worker may not come up, after each of which Ray asks for its processors anew
START_S = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # what Ray waits for them each time; else a minute
log = logging.getLogger(__name__)


class Unfit(RuntimeError):
    """The cluster has no node with as many processors as were asked for."""


def main() -> None:
    """One order."""
    obey(_carry_out, _failure)


def _carry_out(plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    order = Order(**plain)
    with joined(order.address, with_output=True):
        yield {"joined": order.address}
        _wait_for_room(order)
        yield {"fits": True}
        yield from _trained(order)


def _wait_for_room(order: Order) -> None:
    """Until there is a node of that size, busy or not. Raises Unfit."""
    found, nodes = room(order.cpus, order.gpus, order.wait_s)
    if not found:
        raise Unfit(
            f"no node of {order.address} has {order.cpus} processors and {order.gpus} GPUs, which the training "
            f"asks for (the largest has {max(nodes, default=0):.0f}): lower MNIST_TRAIN_CPUS, or start a larger node"
        )


class Bell:
    """An actor beside the driver, which takes no processor: the worker rings it when it begins, and for each epoch."""

    def __init__(self) -> None:
        self._rung = 0

    def ring(self) -> None:
        """A sign of life."""
        self._rung += 1

    def rung(self) -> int:
        """How many there were."""
        return self._rung


def _trained(order: Order) -> Iterator[dict[str, Any]]:
    """Tells of every sign of life of the worker, and of the end."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Bell)
    bell = actor.options(num_cpus=0, scheduling_strategy=here).remote()
    heard = 0
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(_fit, order, bell)
        while not fit.done():
            wait([fit], LOOKS_S)
            if (rung := ray.get(bell.rung.remote())) > heard:
                heard = rung
                yield {"goes_on": True}
        fit.result()
    yield {"goes_on": False}


def _fit(order: Order, bell: Any) -> None:
    """By one worker. Ray's own storage is not used, but wants a folder."""
    os.environ[START_S] = str(max(1.0, order.wait_s / (1 + STARTS)))  # Ray passes it on to what starts the worker
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    resources = {"CPU": order.cpus, **({"GPU": order.gpus} if order.gpus else {})}
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            learn_here,
            train_loop_config={"order": vars(order), "bell": bell},
            scaling_config=ray.train.ScalingConfig(
                num_workers=1, use_gpu=bool(order.gpus), resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                storage_path=folder,
                failure_config=FailureConfig(max_failures=FAILURES, controller_failure_limit=STARTS),
            ),
        ).fit()


def learn_here(told: dict[str, Any]) -> None:
    """What the worker does. It gives nothing back: the model is its last checkpoint. told: the order, and the bell."""
    import torch

    from mnist_pipeline.ml.checkpoints import Checkpoint
    from mnist_pipeline.ml.config import ModelConfig
    from mnist_pipeline.ml.digits import LabeledImages
    from mnist_pipeline.ml.learning import learn
    from mnist_pipeline.ml.training import TrainingDiverged

    given, bell = Order(**told["order"]), told["bell"]
    bell.ring.remote()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    torch.set_num_threads(given.cpus)  # Ray has set it to what it likes; weights depend on it
    shelf = shelf_at(given.location, given.endpoint)
    images = CheckpointFiles(shelf, given.data, given.every_s, log)
    data = images.newest()
    if data is None:
        raise FileNotFoundError(
            f"{os.uname().nodename} does not see {given.location}, where the run has put the images: that is a folder "
            "which all nodes share under the same path, or a bucket (MNIST_PIPELINE_ENV=prod)"
        )
    train, validation = (
        LabeledImages(*(data.tensors[f"{part}.{what}"].numpy() for what in ("images", "labels")))
        for part in ("train", "validation")
    )
    log.info("process %d trains with %d threads", os.getpid(), torch.get_num_threads())
    files = CheckpointFiles(shelf, given.bound, given.every_s, log, last_too=True)

    def tell(epoch: Any) -> None:
        log.info(epoch.line())
        bell.ring.remote()

    try:
        learn(train, validation, given.classes, ModelConfig(**given.config), tell, checkpoints=files)
    except TrainingDiverged as error:  # as it would again: told in place of the data, so that Ray tries nothing again
        images.put(Checkpoint({}, {DIVERGED: str(error)}))


def _failure(error: Exception, order: dict[str, Any]) -> dict[str, Any]:
    """What to tell: what went wrong in the worker, where that is known."""
    log.error("the training on the Ray cluster failed", exc_info=error)
    if type(getattr(error, "controller_failure", None)).__name__ == "WorkerGroupStartupTimeoutError":
        return {"failed": _taken(order), "kind": "taken"}
    inner = next(iter(getattr(error, "worker_failures", {}).values()), error)
    inner = getattr(inner, "cause", None) or inner
    kind = "away" if isinstance(error, ConnectionError) else "failed"
    known = isinstance(inner, NotJoined | Unfit)
    text = str(inner) if known else f"{type(inner).__name__}: {inner}"
    return {"failed": f"Ray cluster {order['address']}: {text}", "kind": kind}


def _taken(order: dict[str, Any]) -> str:
    return (
        f"Ray cluster {order['address']}: for {order['wait_s']:.0f} s no node had {order['cpus']} processors and "
        f"{order['gpus']} GPUs free, which the training asks for (others hold them, or a node was lost): wait longer "
        "(MNIST_TRAIN_WAIT_S), ask for fewer (MNIST_TRAIN_CPUS), or add a node"
    )
