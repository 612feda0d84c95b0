"""The pipeline under kill -9, two deployments at once and damaged files: nothing lost, nothing double, nothing half."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pipelines import NIGHT, ROOT, Pipeline, flip_a_bit

from mnist_pipeline.files import NotMaterialized
from mnist_pipeline.inbox import Inbox
from mnist_pipeline.ml.gate import WrongEvidence
from mnist_pipeline.production import load_production
from mnist_pipeline.store import LostRace

KILLS = 24
ROUNDS = 8
IMAGES = 20  # dropped before each kill


def tonight() -> str:
    """A night that is not over: each run claims what has come since."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


# --- what the children do; they are forked from a server that has the imports behind it ---


def deploy_and_predict(state: Path, versions: list[str], said: Connection) -> None:
    """Deploy one version, then the other, and predict the inbox after each, until killed."""
    pipeline = Pipeline(state)
    said.send("ready")
    for turn in range(1_000):
        choice = {"strategy": "manual", "version": versions[turn % 2]}
        pipeline.run("production_digit_classifier", production_digit_classifier=choice)
        pipeline.run("batch_digit_predictions", night=tonight())


def deploy_on_command(state: Path, version: str, said: Connection) -> None:
    """One deployment for every word that comes in; answers with what came of it."""
    pipeline = Pipeline(state)
    said.send("ready")
    while said.recv() == "go":
        try:
            choice = {"strategy": "manual", "version": version}
            pipeline.run("production_digit_classifier", production_digit_classifier=choice)
            said.send("deployed")
        except LostRace as error:
            said.send(str(error))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ForkServerContext:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}:{Path(__file__).parents[1]}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_pipeline_faults", "torch", "onnxruntime", "pyarrow.parquet", "matplotlib"])
    return context


@pytest.fixture
def start(server: ForkServerContext) -> Iterator[Callable[..., tuple[Any, Connection]]]:
    """Start a child and wait until it is ready; whatever still runs afterwards is ended."""
    children = []

    def begin(work: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
        ours, theirs = server.Pipe()
        child = server.Process(target=work, args=(*arguments, theirs))
        child.start()
        children.append(child)
        theirs.close()
        assert ours.poll(120), "the child never became ready"
        assert ours.recv() == "ready"
        return child, ours

    yield begin
    for child in children:
        child.kill()
        child.join()


@pytest.fixture
def versions(pipeline: Pipeline) -> list[str]:
    """Two that can be deployed."""
    return [pipeline.value("digit_classifier"), pipeline.variant(lambda network: network.classifier.bias.add_(0.1))]


class Witness:
    """Knows every image that was dropped, and looks at everything after each kill."""

    def __init__(self, pipeline: Pipeline, versions: list[str]) -> None:
        self.pipeline, self.versions = pipeline, versions
        self.dropped: Counter[str] = Counter()
        self.decisions = 1
        self.chance = np.random.default_rng(2)

    def drop(self) -> None:
        """Images that differ in one pixel, half of them under names that were used before."""
        image = self.pipeline.digits()["test"].images[0]
        self.pipeline.inbox.mkdir(exist_ok=True)
        for i in range(IMAGES):
            changed = image.copy()
            changed[14, 14:18] = self.chance.integers(0, 256, 4)
            buffer = BytesIO()
            Image.fromarray(changed).save(buffer, "png")
            number = i if i % 2 else sum(self.dropped.values())
            path = self.pipeline.inbox / f"digit-{number}.png"
            if not path.exists():
                path.write_bytes(buffer.getvalue())
                self.dropped[sha256(buffer.getvalue())] += 1

    def look(self) -> None:
        """Production is whole, every table is whole, and each image lies somewhere, once."""
        production = load_production(self.pipeline.store)
        assert production.card.name in self.versions
        assert self.pipeline.store.verify_chain() == []
        assert production.decision.number >= self.decisions
        self.decisions = production.decision.number
        there = Counter(sha256(path.read_bytes()) for path in self.pipeline.inbox.rglob("*.png"))
        assert there == self.dropped
        for path in (self.pipeline.state / "predictions").rglob("*.parquet"):
            rows = pq.ParquetFile(path).read().to_pylist()
            assert max(Counter(row["file"] for row in rows).values(), default=1) == 1

    def look_at_the_end(self) -> None:
        """After a run that nobody killed: every image has a row, and no row is double."""
        self.look()
        rows = pq.ParquetFile(self.pipeline.state / "predictions" / f"{tonight()}.parquet").read().to_pylist()
        assert Counter(row["sha256"] for row in rows) == self.dropped
        assert {row["model_version"] for row in rows} == {self.pipeline.store.production()}
        assert Inbox(self.pipeline.inbox).waiting() == []


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_kill_at_random_moments_of_deployment_and_batch(
    pipeline: Pipeline, versions: list[str], start: Callable[..., tuple[Any, Connection]]
) -> None:
    witness, chance = Witness(pipeline, versions), random.Random(3)
    for _ in range(KILLS):
        witness.drop()
        child, _said = start(deploy_and_predict, pipeline.state, versions)
        time.sleep(chance.uniform(0, 2.5))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        witness.look()
    assert witness.decisions > KILLS / 4  # the children came far enough for it to mean something
    pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "rollback"})
    pipeline.run("batch_digit_predictions", night=tonight())
    witness.look_at_the_end()
    print(f"{KILLS} kills: {witness.decisions} decisions and {sum(witness.dropped.values())} images, all whole")


@pytest.mark.slow
def test_of_two_deployments_at_once_each_is_recorded_or_told(
    pipeline: Pipeline, versions: list[str], start: Callable[..., tuple[Any, Connection]]
) -> None:
    racers = [start(deploy_on_command, pipeline.state, version)[1] for version in versions]
    answers: list[str] = []
    for _ in range(ROUNDS):
        for racer in racers:
            racer.send("go")
        answers += [racer.recv() for racer in racers]
    recorded = answers.count("deployed")
    assert recorded >= ROUNDS  # of two, at least one wins
    assert all("was made first: manual by" in answer for answer in answers if answer != "deployed")
    assert pipeline.store.verify_chain() == []
    assert [each.number for each in pipeline.store.decisions()] == list(range(1, recorded + 2))
    assert load_production(pipeline.store).card.name in versions
    print(f"{ROUNDS} races: {recorded} deployments recorded, {len(answers) - recorded} told that they lost")
    for racer in racers:
        racer.send("stop")


# --- files that are missing or damaged ---


@pytest.mark.parametrize(
    ("missing", "asset"),
    [
        ("processed_mnist_data.safetensors", "digit_classifier"),
        ("digit_classifier.json", "model_evaluation"),
        ("model_evaluation.json", "production_digit_classifier"),
    ],
)
def test_a_value_that_is_not_there_is_named_with_what_to_do(pipeline: Pipeline, missing: str, asset: str) -> None:
    stored = pipeline.stored()
    (pipeline.state / "assets" / missing).unlink()
    with pytest.raises(NotMaterialized, match=f"{missing.split('.')[0]} has no value yet.*materialize it first"):
        pipeline.run(asset)
    assert pipeline.stored() == stored


@pytest.mark.parametrize("keep", [0, 4, 1_000, -1])
@pytest.mark.parametrize(
    ("damaged", "asset"),
    [("processed_mnist_data.safetensors", "digit_classifier"), ("digit_classifier.json", "model_evaluation")],
)
def test_a_value_that_was_cut_short_is_named_and_nothing_is_made_of_it(
    pipeline: Pipeline, damaged: str, asset: str, keep: int
) -> None:
    stored, path = pipeline.stored(), pipeline.state / "assets" / damaged
    path.write_bytes(path.read_bytes()[: min(keep, path.stat().st_size - 1)])
    with pytest.raises(dg.DagsterError, match=rf"{path}.*is damaged.*materialize {path.stem} again"):
        pipeline.run(asset)
    assert pipeline.stored() == stored


def test_data_with_a_flipped_bit_deploys_nothing(pipeline: Pipeline) -> None:
    flip_a_bit(pipeline.state / "assets" / "processed_mnist_data.safetensors")
    with pytest.raises(WrongEvidence, match="of another data"):
        pipeline.run("production_digit_classifier")
    assert len(pipeline.store.decisions()) == 1


def test_a_decision_that_was_changed_stops_deployment_and_prediction(pipeline: Pipeline) -> None:
    flip_a_bit(pipeline.state / "models" / "decisions" / "00000001.json")
    for asset, night in (("production_digit_classifier", None), ("batch_digit_predictions", NIGHT)):
        with pytest.raises(Exception, match=r"decisions/00000001\.json cannot be trusted.*Restore it from a backup"):
            pipeline.run(asset, night=night)
