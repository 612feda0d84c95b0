"""Training on a Ray cluster, from within: the driver, which has TorchTrainer start a worker, and what that does.

The driver takes its order as a line of JSON and answers with lines; the end of its input ends it. Only here is Ray
imported.
Not here: who orders (`ray_training.py`), the training itself (`ml/learning.py`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from typing import IO, Any

from mnist_pipeline.checkpoint_files import CheckpointFiles
from mnist_pipeline.ray_training import DIVERGED, Order
from mnist_pipeline.storage.locations import shelf_at

FAILURES = 3  # of the worker, after each of which it goes on from its checkpoint
STARTS = 2  # times that a worker group may not come up in Ray's minute
LOOKS_S = 1.0
log = logging.getLogger(__name__)


class Unfit(RuntimeError):
    """The cluster has no node with as many processors as were asked for."""


def main() -> None:
    """One order, from the first line of input to an answer."""
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints goes where errors go
    order = Order(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        _carry_out(order, said)
    except Exception as error:
        log.exception("the training on the Ray cluster failed")
        kind, why = _cause(error, order)
        print(json.dumps({"failed": why, "kind": kind}), file=said)


def _end_with_input() -> None:
    """Whoever ordered has what was wanted, or is no more; Ray takes back the actors of a driver that has gone."""
    sys.stdin.read()
    os._exit(0)


def _carry_out(order: Order, said: IO[str]) -> None:
    import ray

    with ray.init(address=order.address, log_to_driver=True, logging_level=logging.WARNING):
        print(json.dumps({"joined": order.address}), file=said)
        _wait_for_room(order)
        print(json.dumps({"fits": True}), file=said)
        _fit(order)
        print(json.dumps({"trained": True}), file=said)


def _wait_for_room(order: Order) -> None:
    """Until there is a node of that size, busy or not. Raises Unfit."""
    import ray

    end = time.monotonic() + order.wait_s
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= order.cpus and node.get("GPU", 0) >= order.gpus for node in nodes):
            return
        if time.monotonic() > end:
            most = max((node.get("CPU", 0) for node in nodes), default=0)
            raise Unfit(
                f"no node of {order.address} has {order.cpus} processors and {order.gpus} GPUs, which the training "
                f"asks for (the largest has {most:.0f}): lower MNIST_TRAIN_CPUS, or start a larger node"
            )
        time.sleep(LOOKS_S)


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


def _cause(error: Exception, order: Order) -> tuple[str, str]:
    """(kind, what to tell), of what went wrong in the worker where that is known."""
    said = "".join(traceback.format_exception(error))
    if "AuthenticationError" in said:
        return "failed", (
            f"the Ray cluster at {order.address} does not take the token of this process: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN as they are set on its nodes"
        )
    inner = next(iter(getattr(error, "worker_failures", {}).values()), error)
    inner = getattr(inner, "cause", None) or inner
    return ("away" if isinstance(error, ConnectionError) else "failed"), f"{type(inner).__name__}: {inner}"
