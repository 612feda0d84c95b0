"""MLflow killed, hanging or away while a real process trains, and that process killed: nothing lost, nothing double.

A run is a process of its own with a Dagster instance of its own, the server is MLflow's, and each kill is a kill -9.
The printed rows are of the table of all faults.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from fault_table import Tried
from mlflow_places import Place, Server, copied_store, file_store, wait_until
from pipelines import ROOT, TINY, instance_of
from processes import Process

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.sensors.delivery import mlflow_delivery

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*noload.*")]  # mlflow's use of SQLAlchemy
EPOCHS = 60  # some 20 s: long enough to be met in the middle
LONGEST_S = 240.0  # for one run, wherever; what would wait for MLflow with its own retries takes 246 s a call
# Seen by every child: which kind of process imports mlflow, or connects to the port where MLflow should be.
WITNESS = """
import os, sys

def look(event, arguments):
    if event == "import" and arguments[0] == "mlflow":
        note("imports mlflow")
    elif event == "socket.connect" and arguments[1][1:2] == (int(os.environ["MLFLOW_PORT"]),):
        note("connects")

def note(what):
    who = "sender" if "mnist_pipeline.experiments.sender" in sys.orig_argv else "run"
    with open(os.environ["WITNESSED"], "a") as file:
        file.write(f"{who} {what}\\n")

sys.addaudithook(look)
"""


Fault = Callable[[int], AbstractContextManager[None]]  # what is at a port, instead of MLflow


@dataclass
class Stage:
    """A run in a process, the server that it tracks to, and what both leave behind."""

    folder: Path
    server: Server
    epochs: int

    @property
    def env(self) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.folder / "home"),
            "MNIST_PIPELINE_STATE": str(self.folder / "state"),
            "MNIST_DATASET": "embedded",
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MNIST_EXPERIMENT": "experiment",
            "PYTHONPATH": f"{self.folder / 'witness'}{os.pathsep}{ROOT}",
            "MLFLOW_PORT": str(self.server.port),
            "WITNESSED": str(self.folder / "witnessed"),
        }

    @property
    def place(self) -> Place:
        return Place(self.folder / "state", self.server.uri)

    @contextmanager
    def running(self) -> Iterator[Process]:
        """From data to a deployed model, by command line; the process is ended with the block."""
        chosen = {**TINY, "epochs": self.epochs, "min_steps": 0}
        files = {
            "home/dagster.yaml": (ROOT / "dagster.yaml").read_text(),
            "witness/sitecustomize.py": WITNESS,
            "config.yaml": json.dumps({"ops": {"digit_classifier": {"config": chosen}}}),
        }
        for name, content in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(content)
        job = ("-m", "mnist_pipeline.definitions", "-j", "make_model", "-c", str(self.folder / "config.yaml"))
        command = [sys.executable, "-m", "dagster", "job", "execute", *job]
        process = Process("run", command, self.env, self.folder / "run.log").start()
        try:
            yield process
        finally:
            process.kill()

    def succeeds(self, process: Process) -> None:
        assert process.child is not None
        assert process.child.wait(LONGEST_S) == 0, process.tail()

    def run_id(self) -> str:
        with instance_of(self.env) as instance:
            (run,) = instance.get_runs()
            return run.run_id

    def arrived(self) -> list[int]:
        """The epochs that MLflow has, in order, as often as it has them."""
        if not self.server.answers() or not self.place.client.get_experiment_by_name("experiment"):
            return []
        runs = self.place.runs(self.run_id())
        return [step for step, _ in self.place.history("train_loss", self.run_id())] if runs else []

    def waiting(self) -> list[int]:
        """The epochs that are in the spool."""
        spool = self.place.spool
        found = [spool.record(name) for name in spool.waiting(self.run_id())]
        return [entry[0].step for entry in found if entry and "train_loss" in entry[0].values]

    def tick(self) -> str:
        """What the sensor says in one tick, as the daemon makes it."""
        resources = build_definitions(self.env).resources or {}
        chosen = {name: resources[name] for name in ("tracking", "models")}
        with instance_of(self.env) as instance:
            context = dg.build_sensor_context(instance=instance, resources=chosen)
            return str(mlflow_delivery.evaluate_tick(context).skip_message)

    def delivered(self) -> bool:
        """After one more tick, whether nothing waits and the run is closed."""
        self.tick()
        return not self.place.spool.runs()

    def witnessed(self) -> set[str]:
        file = self.folder / "witnessed"
        return set(file.read_text().splitlines()) if file.exists() else set()

    def all_is_there_once(self) -> None:
        run = self.place.run(self.run_id())
        assert self.arrived() == list(range(1, self.epochs + 1))
        assert run.info.status == "FINISHED"
        assert run.data.params["epochs"] == str(self.epochs)
        assert run.data.metrics["test_accuracy"] > 0.9
        files = [each.path for each in self.place.client.list_artifacts(run.info.run_id)]
        assert {"training_curves.png", "evaluation", "version"} <= set(files)
        (registered,) = self.place.client.search_model_versions("name = 'digit_classifier'")
        champion = self.place.client.get_model_version_by_alias("digit_classifier", "champion")
        assert champion.version == registered.version
        assert champion.tags["version"] == run.data.tags["model_version"] == run.data.tags["serves_now"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return file_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def server(template: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, copied_store(template, tmp_path))
    yield made
    made.kill()


# --- the server ---


@pytest.mark.parametrize("seen", [0, 3], ids=["before its first epoch is sent", "after some epochs have arrived"])
def test_a_server_killed_in_mid_training(server: Server, tmp_path: Path, seen: int, tried: Tried) -> None:
    stage = Stage(tmp_path, server, EPOCHS)
    server.start()
    with stage.running() as process:
        wait_until(lambda: any(stage.place.spool.runs().values()) if not seen else len(stage.arrived()) >= seen, 120)
        server.kill()
        done = process.tail(1_000)
        stage.succeeds(process)
    assert f"epoch {EPOCHS}/{EPOCHS}" not in done  # it was in mid-training
    assert "run imports mlflow" not in stage.witnessed()
    assert "run connects" not in stage.witnessed()
    assert len(stage.waiting()) > 0
    server.start()
    wait_until(stage.delivered, 120)
    stage.all_is_there_once()
    tried(f"MLflow's server killed in mid-training, {'after' if seen else 'before'} epochs have arrived", 1)


@contextmanager
def silence(port: int) -> Iterator[None]:
    """Somebody listens there, takes every connection, and never says a word."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(64)
        yield


@contextmanager
def nobody(port: int) -> Iterator[None]:
    """Nobody listens there."""
    yield


@pytest.mark.parametrize("fault", [silence, nobody], ids=["hangs", "down"])
def test_a_server_that_is_of_no_use_from_the_start(server: Server, tmp_path: Path, fault: Fault, tried: Tried) -> None:
    stage = Stage(tmp_path, server, epochs=8)
    with fault(server.port):
        with stage.running() as process:
            stage.succeeds(process)
        wait_until(lambda: "is away" in stage.tick(), 60)  # until the run's own sender has ended, it is busy
    assert stage.witnessed() == {"sender connects"}  # asked for a sign of life, and then not even mlflow was imported
    assert stage.waiting() == list(range(1, 9))
    server.start()
    wait_until(stage.delivered, 120)
    stage.all_is_there_once()
    tried("MLflow's server hangs: accepts and never answers" if fault is silence else "MLflow down from the start", 1)


# --- the worker ---


def children(process: Process) -> list[int]:
    """The senders that a run has started and that live."""
    assert process.child is not None
    command = ["pgrep", "-P", str(process.child.pid), "-f", "mnist_pipeline.experiments.sender"]
    return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()]


def ps(pid: int, column: str) -> str:
    """What ps tells of a process; empty when it is gone."""
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has asked for its exit status."""
    return ps(pid, "stat")[:1] in ("", "Z")


def test_a_worker_killed_in_mid_training_leaves_no_sender_behind_and_loses_no_epoch(
    server: Server, tmp_path: Path, tried: Tried
) -> None:
    stage = Stage(tmp_path, server, EPOCHS)
    server.start()
    with stage.running() as process:
        wait_until(lambda: len(stage.arrived()) >= 3, 120)
        (sender,) = children(process)
        assert process.child is not None
        assert int(ps(sender, "ni")) == int(ps(process.child.pid, "ni")) + 10  # the training has the processors first
        os.kill(process.child.pid, signal.SIGKILL)
        process.child.wait()
        logged = process.tail(1_000).count("validation loss")
    wait_until(lambda: has_ended(sender), 60)
    stage.tick()
    arrived = stage.arrived()
    assert len(arrived) < EPOCHS
    assert arrived == list(range(1, len(arrived) + 1))
    assert len(arrived) >= logged - 1  # an epoch is logged a moment before it is recorded
    assert stage.waiting() == []
    assert stage.place.run(stage.run_id()).info.status == "RUNNING"  # until Dagster says how it ended
    tried("kill -9 of a worker whose epochs are being sent", 1, remark="its sender sends the rest and ends")
