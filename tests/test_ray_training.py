"""Training on Ray: the same version as in this process; a killed worker, a wrong address, too large a wish, the driver.

The cluster is real and on loopback; no test process imports Ray (`ray_cluster.py`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_watch import reached
from pipelines import ROOT, Pipeline, metadata
from processes import wait
from ray_cluster import SEEN, RayCluster, ray_cluster

from mnist_pipeline.environment import training_cluster
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.training import TrainingDiverged
from mnist_pipeline.ray_drivers import ClusterAway
from mnist_pipeline.ray_training import ProcessorsTaken, RayTrainer, RayTrainingFailed
from mnist_pipeline.resources import dev_resources
from mnist_pipeline.retries import PASSES_BY_ITSELF
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.trainers import Lesson, LocalTrainer

FEW = {"width_1": 4, "width_2": 8, "width_3": 8, "epochs": 3, "min_steps": 0, "dropout": 0.3, "device": "cpu"}


def quiet(*_: Any) -> None:
    """Nobody asks how far it is."""


# --- without a cluster ---


@pytest.fixture
def lesson(finished: Pipeline) -> Lesson:
    return Lesson(finished.digits(), ModelConfig(**FEW), "code")


@pytest.fixture
def trainer(tmp_path: Path) -> RayTrainer:
    location = str(tmp_path / "checkpoints")
    return RayTrainer("127.0.0.1:1", location, "", 0.0, 1, 2.0, 60.0, logging.getLogger("training"))


def test_by_default_models_are_trained_in_the_process_of_the_run(tmp_path: Path) -> None:
    made = dev_resources({"MNIST_PIPELINE_STATE": str(tmp_path), "RAY_ADDRESS": "head:6379"})["training"]
    assert isinstance(made.open(logging.getLogger()), LocalTrainer)


def test_a_cluster_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    env = {"MNIST_TRAIN_ON": "ray", "RAY_ADDRESS": "head:6379", "MNIST_TRAIN_CPUS": "4", "MNIST_TRAIN_WAIT_S": "9"}
    env |= {"MNIST_EPOCH_WAIT_S": "7"}
    made = dev_resources({"MNIST_PIPELINE_STATE": str(tmp_path), **env})["training"].open(logging.getLogger())
    assert isinstance(made, RayTrainer)
    assert (made.address, made.cpus, made.wait_s, made.epoch_s) == ("head:6379", 4, 9.0, 7.0)
    assert made.location == str(tmp_path / "checkpoints")


@pytest.mark.parametrize("address", ["", "auto", "local", "ray://head:10001", "head"])
def test_an_address_that_leaves_open_which_cluster_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"RAY_ADDRESS=.* write it as host:port.*MNIST_TRAIN_ON=process"):
        training_cluster({"MNIST_TRAIN_ON": "ray", "RAY_ADDRESS": address})


def test_where_nothing_listens_the_error_says_so_soon_and_leaves_nothing(trainer: RayTrainer, lesson: Lesson) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = replace(trainer, address=f"127.0.0.1:{free.getsockname()[1]}")
        begun = time.monotonic()
        with (
            pytest.raises(ClusterAway, match=r"no Ray cluster answers at 127.0.0.1:.*MNIST_TRAIN_ON=process"),
            away.fitted(lesson, quiet, quiet),
        ):
            pass
    assert time.monotonic() - begun < 20
    assert shelf_at(trainer.location).list("") == []


def test_a_classical_model_needs_no_cluster(trainer: RayTrainer, lesson: Lesson) -> None:
    tree = replace(lesson, config=ModelConfig(architecture="tree"))
    with trainer.fitted(tree, quiet, quiet) as fitted:
        assert fitted.best.validation_accuracy > 0.5


# --- on a cluster ---

LONG: dict[str, Any] = {"preset": "accurate", "epochs": 12, "min_steps": 0, "device": "cpu", "patience": 11}
LONG |= {"width_1": 16, "width_2": 32, "width_3": 64}
on_a_cluster = pytest.mark.slow
sees_workers = pytest.mark.skipif(not SEEN, reason="workers are looked for in /proc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster([{"num_cpus": 2}]) as started:
        yield started


@pytest.fixture
def joined(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """With its token in the environment."""
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.fixture
def on_ray(pipeline: Pipeline, joined: RayCluster, tmp_path: Path) -> Pipeline:
    """A pipeline that trains there, with as many threads as here."""
    torch.set_num_threads(1)
    env = {"MNIST_TRAIN_ON": "ray", "RAY_ADDRESS": joined.address, "MNIST_CHECKPOINT_S": "0"}
    return pipeline.copy(tmp_path / "on_ray", MLFLOW_TRACKING_URI="none", **env)


def workers(cluster: RayCluster) -> list[int]:
    """Process ids of what trains there."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if _read(folder / "cmdline").startswith("ray::RayTrainWorker")
        and any(f"PPid:\t{raylet}\n" in _read(folder / "status") for raylet in cluster.raylets)
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


@on_a_cluster
@sees_workers
def test_a_killed_worker_goes_on_to_the_version_of_the_plain_loop(
    on_ray: Pipeline, joined: RayCluster, pipeline: Pipeline
) -> None:
    killed: list[int] = []

    def kill() -> None:
        wait("epoch 3", lambda: reached(on_ray.state / "checkpoints") >= 3, 300, every=0.02)
        (worker,) = workers(joined)
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    ran = on_ray.run("digit_classifier", digit_classifier=LONG)
    killer.join()
    assert killed
    assert 3 <= metadata(ran, "digit_classifier")["resumed_at_epoch"] < 12
    pipeline.run("digit_classifier", digit_classifier=LONG)
    assert on_ray.store.versions() == pipeline.store.versions()
    assert on_ray.value("digit_classifier") == pipeline.value("digit_classifier")
    assert list((on_ray.state / "checkpoints").iterdir()) == []
    assert workers(joined) == []


RUN = """
import json, sys
from pipelines import Pipeline
Pipeline(**json.loads(sys.argv[1])).run("digit_classifier", digit_classifier=json.loads(sys.argv[2]))
"""


@on_a_cluster
@sees_workers
def test_a_killed_run_gives_its_worker_back_and_its_checkpoint_stays(on_ray: Pipeline, joined: RayCluster) -> None:
    order = [json.dumps({"state": str(on_ray.state), **on_ray.env}), json.dumps({**LONG, "seed": 1})]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    child = subprocess.Popen([sys.executable, "-c", RUN, *order], env=env, cwd=ROOT)
    wait("epoch 2", lambda: reached(on_ray.state / "checkpoints") >= 2, 300, every=0.02)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    wait("the worker is gone", lambda: not workers(joined), 60)
    assert reached(on_ray.state / "checkpoints") >= 2


@on_a_cluster
def test_more_processors_than_there_are_is_an_error_and_no_hang(
    joined: RayCluster, trainer: RayTrainer, lesson: Lesson
) -> None:
    greedy = replace(trainer, address=joined.address, cpus=64)
    with (
        pytest.raises(RayTrainingFailed, match=r"no node of .* has 64 processors .* lower MNIST_TRAIN_CPUS"),
        greedy.fitted(lesson, quiet, quiet),
    ):
        pass
    assert shelf_at(trainer.location).list("") == []


HOLDS = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
class Holder:
    def here(self):
        return "held"
holder = ray.remote(num_cpus=1)(Holder).remote()
print(ray.get(holder.here.remote()), flush=True)
sys.stdin.read()
"""


@contextmanager
def one_processor_taken(cluster: RayCluster) -> Iterator[None]:
    """By an actor of somebody else."""
    command = [sys.executable, "-c", HOLDS, cluster.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()


@on_a_cluster
def test_processors_that_others_hold_are_waited_for_as_long_as_is_said(
    joined: RayCluster, trainer: RayTrainer, lesson: Lesson
) -> None:
    waiting = replace(trainer, address=joined.address, cpus=2, wait_s=6.0)
    with one_processor_taken(joined):
        begun = time.monotonic()
        with (
            pytest.raises(ProcessorsTaken, match=r"for 6 s no node had 2 processors .* free.*\(MNIST_TRAIN_WAIT_S\)"),
            waiting.fitted(lesson, quiet, quiet),
        ):
            pass
    assert time.monotonic() - begun < 60  # Ray by itself waits for three minutes
    assert issubclass(ProcessorsTaken, PASSES_BY_ITSELF)


@on_a_cluster
@sees_workers
def test_a_cluster_that_hangs_is_given_up_in_time_and_its_worker_comes_back(
    joined: RayCluster, trainer: RayTrainer, lesson: Lesson
) -> None:
    hanging = replace(trainer, address=joined.address, epoch_s=20.0)
    stopped: list[int] = []

    def stop() -> None:
        wait("epoch 1", lambda: reached(Path(trainer.location)) >= 1, 300, every=0.02)
        stopped.extend([*workers(joined), *joined.processes])
        for each in stopped:
            os.kill(each, signal.SIGSTOP)

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    try:
        with (
            pytest.raises(RayTrainingFailed, match=r"given up: 20 s, .* until an epoch .*MNIST_EPOCH_WAIT_S"),
            hanging.fitted(replace(lesson, config=ModelConfig(**{**FEW, "epochs": 60, "width_3": 64})), quiet, quiet),
        ):
            pass
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)
    wait("the worker is gone", lambda: not workers(joined), 60)


@on_a_cluster
@sees_workers
def test_what_goes_wrong_in_the_worker_is_told_as_it_is_here(
    joined: RayCluster, trainer: RayTrainer, lesson: Lesson
) -> None:
    wild = ModelConfig(**{**FEW, "optimizer": "sgd", "learning_rate": 1e30})
    with (
        pytest.raises(TrainingDiverged, match=r"learning rate below 1e\+30"),
        replace(trainer, address=joined.address).fitted(replace(lesson, config=wild), quiet, quiet),
    ):
        pass
    wait("the worker is gone", lambda: not workers(joined), 60)


@on_a_cluster
def test_without_the_token_nobody_is_let_in(
    joined: RayCluster, trainer: RayTrainer, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", joined.without_token()["RAY_AUTH_TOKEN"])
    with (
        pytest.raises(RayTrainingFailed, match=r"does not take our token: .* \(RAY_AUTH_MODE=token"),
        replace(trainer, address=joined.address).fitted(lesson, quiet, quiet),
    ):
        pass
