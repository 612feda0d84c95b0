"""Training on a Ray cluster, from within: the driver, which has TorchTrainer start a worker, and what that does.

Not here: who orders (`ray_training.py`), the training itself (`ml/learning.py`).
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from mnist_pipeline.checkpoint_files import CheckpointFiles
from mnist_pipeline.on_ray import NotJoined, joined, obey, room
from mnist_pipeline.ray_training import DIVERGED, Order
from mnist_pipeline.storage.locations import shelf_at

FAILURES = 3  # of the worker, after each of which it goes on from its checkpoint
STARTS = 2  # times that a worker group may not come up in Ray's minute
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
        _fit(order)
        yield {"trained": True}


def _wait_for_room(order: Order) -> None:
    """Until there is a node of that size, busy or not. Raises Unfit."""
    found, nodes = room(order.cpus, order.gpus, order.wait_s)
    if not found:
        raise Unfit(
            f"no node of {order.address} has {order.cpus} processors and {order.gpus} GPUs, which the training "
            f"asks for (the largest has {max(nodes, default=0):.0f}): lower MNIST_TRAIN_CPUS, or start a larger node"
        )


def _fit(order: Order) -> None:
    """By one worker. Ray's own storage is not used, but wants a folder."""
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    resources = {"CPU": order.cpus, **({"GPU": order.gpus} if order.gpus else {})}
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            learn_here,
            train_loop_config=vars(order),
            scaling_config=ray.train.ScalingConfig(
                num_workers=1, use_gpu=bool(order.gpus), resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                storage_path=folder,
                failure_config=FailureConfig(max_failures=FAILURES, controller_failure_limit=STARTS),
            ),
        ).fit()


def learn_here(order: dict[str, Any]) -> None:
    """What the worker does. It gives nothing back: the model is its last checkpoint."""
    import torch

    from mnist_pipeline.ml.checkpoints import Checkpoint
    from mnist_pipeline.ml.config import ModelConfig
    from mnist_pipeline.ml.digits import LabeledImages
    from mnist_pipeline.ml.learning import learn
    from mnist_pipeline.ml.training import TrainingDiverged

    given = Order(**order)
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
    try:
        learn(train, validation, given.classes, ModelConfig(**given.config), _tell, checkpoints=files)
    except TrainingDiverged as error:  # as it would again: told in place of the data, so that Ray tries nothing again
        images.put(Checkpoint({}, {DIVERGED: str(error)}))


def _tell(epoch: Any) -> None:
    log.info(epoch.line())


def _failure(error: Exception, order: dict[str, Any]) -> dict[str, Any]:
    """What to tell: what went wrong in the worker, where that is known."""
    log.error("the training on the Ray cluster failed", exc_info=error)
    inner = next(iter(getattr(error, "worker_failures", {}).values()), error)
    inner = getattr(inner, "cause", None) or inner
    kind = "away" if isinstance(error, ConnectionError) else "failed"
    known = isinstance(inner, NotJoined | Unfit)
    text = str(inner) if known else f"{type(inner).__name__}: {inner}"
    return {"failed": f"Ray cluster {order['address']}: {text}", "kind": kind}
