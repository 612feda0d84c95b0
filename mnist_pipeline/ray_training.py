"""Training on a Ray cluster, as the run sees it: a driver joins the cluster for it, and it waits.

Data and checkpoints lie where both sides see them, and the trained model is the last checkpoint.
Not here: what the driver and the worker do (`ray_training_driver.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mnist_pipeline.checkpoint_files import CheckpointFiles, Log
from mnist_pipeline.ml.config import NETWORKS
from mnist_pipeline.ray_drivers import ClusterAway, driver, find
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.trainers import Lesson, LocalTrainer, OnEpoch, OnStep

if TYPE_CHECKING:
    from mnist_pipeline.ml.training import Trained

DRIVER = "mnist_pipeline.ray_training_driver"
DIVERGED = "diverged"
ANSWERS_S = 60.0  # that a cluster may take to say what it has
AN_EPOCH = "an epoch of the training ends (does the worker hang? MNIST_EPOCH_WAIT_S is for how long to wait)"


class RayTrainingFailed(RuntimeError):
    """The cluster did not train: it says why. What is in the last checkpoint is not lost."""


class ProcessorsTaken(TimeoutError):
    """No node had as many processors free for too long. They may come free, so Dagster tries the step again."""


ERRORS = {"failed": RayTrainingFailed, "away": ClusterAway, "taken": ProcessorsTaken}


@dataclass(frozen=True)
class Order:
    """What driver and worker have to know. data, bound: of the files with the images, and with the checkpoints.

    cpus: processors of the worker, and threads of torch; gpus: 0 or 1; wait_s: for a node that has as many, and then
    until they are free.
    """

    address: str
    location: str
    endpoint: str
    data: str
    bound: str
    config: dict[str, Any]
    classes: int
    every_s: float
    cpus: int
    gpus: int
    wait_s: float


@dataclass(frozen=True)
class RayTrainer:
    """One worker of a Ray cluster, by TorchTrainer. address: of the head, host:port; the run is on one of its nodes.

    location: of checkpoints, a bucket or a folder that all nodes see under the same path. epoch_s: how long no epoch
    may end before the cluster is given up. The others: see `Order`. With as many threads it gives the same weights as
    this process would.
    """

    address: str
    location: str
    endpoint: str
    every_s: float
    cpus: int
    wait_s: float
    epoch_s: float
    log: Log

    @contextmanager
    def fitted(self, lesson: Lesson, on_epoch: OnEpoch, on_step: OnStep) -> Iterator[Trained]:
        """on_epoch is told at the end, of all epochs of this run; meanwhile the worker's lines are in its output.

        Raises ClusterAway, ProcessorsTaken, RayTrainingFailed, TrainingDiverged; ValueError where Ray is not installed.
        """
        if lesson.config.architecture not in NETWORKS:  # fitted in one step, with nothing to go on from
            with LocalTrainer(shelf_at(self.location, self.endpoint), self.every_s, self.log).fitted(
                lesson, on_epoch, on_step
            ) as trained:
                yield trained
            return
        files, data = self._files(lesson)
        _check_installed()
        find(self.address, "train in the process of the run with MNIST_TRAIN_ON=process")
        data.put(_packed(lesson))
        try:
            self._train(self._order(lesson, files, data))
            trained = _collected(lesson, files, data)
        finally:
            data.clear()
        for epoch in trained.history[trained.resumed_at :]:
            on_epoch(epoch)
        yield trained
        files.clear()

    def _train(self, order: Order) -> None:
        """Until the last checkpoint is there."""
        with driver(DRIVER, ERRORS) as said:
            said.order(asdict(order))
            said.wait_until_joined(self.address)
            said.wait("a node fits", self.wait_s + ANSWERS_S, "fits")
            patience = self.wait_s + ANSWERS_S + self.epoch_s  # the worker has to get its processors first
            while said.wait(AN_EPOCH, patience, "goes_on"):
                patience = self.epoch_s

    def _files(self, lesson: Lesson) -> tuple[CheckpointFiles, CheckpointFiles]:
        """Of the checkpoints, and of the data."""
        from mnist_pipeline.ml.checkpoints import bound_to

        around = {"on": "ray", "cpus": self.cpus, "gpus": _gpus(lesson), "torch": version("torch")}
        bound, shelf = lesson.bound(around), shelf_at(self.location, self.endpoint)
        files = CheckpointFiles(shelf, bound, self.every_s, self.log)
        return files, replace(files, bound=bound_to(data_of=bound))

    def _order(self, lesson: Lesson, files: CheckpointFiles, data: CheckpointFiles) -> Order:
        settings = lesson.config.model_dump()
        return Order(
            address=self.address,
            location=self.location,
            endpoint=self.endpoint,
            data=data.bound,
            bound=files.bound,
            config=settings,
            classes=lesson.classes,
            every_s=self.every_s,
            cpus=self.cpus,
            gpus=_gpus(lesson),
            wait_s=self.wait_s,
        )


def _gpus(lesson: Lesson) -> int:
    return int(lesson.config.device == "cuda")


def _packed(lesson: Lesson) -> Any:
    """The images and labels that are learned from, as tensors."""
    import torch

    from mnist_pipeline.ml.checkpoints import Checkpoint

    parts = {name: lesson.data[name] for name in ("train", "validation")}
    images = {f"{name}.images": torch.tensor(part.images) for name, part in parts.items()}
    labels = {f"{name}.labels": torch.tensor(part.labels) for name, part in parts.items()}
    return Checkpoint({**images, **labels}, {})


def _collected(lesson: Lesson, files: CheckpointFiles, data: CheckpointFiles) -> Trained:
    """The worker has put why it diverged in place of the data."""
    from mnist_pipeline.ml.training import TrainingDiverged, finished

    left = data.newest()
    if left and DIVERGED in left.facts:
        raise TrainingDiverged(left.facts[DIVERGED])
    if last := files.newest():
        return finished(lesson.config, lesson.classes, last)
    raise RayTrainingFailed(
        f"the worker has trained, and left no checkpoint in {files.shelf.where(files.bound)}: all nodes have to see "
        "that folder under the same path, or use a bucket (MNIST_PIPELINE_ENV=prod)"
    )


def _check_installed() -> None:
    if find_spec("ray") is None:
        raise ValueError("Ray is not installed here: pip install 'mnist-pipeline[ray]', or MNIST_TRAIN_ON=process")
