"""Engines on a real cluster of two nodes: the same bytes from each, and a night that survives what dies.

Everything is bounded by the engine's own time limits, so that a hang is a failure.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from digit_files import hugging_face, parquet, png, strokes
from night_work import claimed, stored_model
from pipelines import ROOT, Pipeline, at_home, call
from processes import free_port, wait
from ray_cluster import NOTICED_SOON, SEEN, RayCluster, doors, ray_cluster
from s3_server import CREDENTIALS

from mnist_pipeline import ray_drivers
from mnist_pipeline.inbox import shards
from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.parts import fetched_of
from mnist_pipeline.inbox.ray_engine import DRIVER, RayEngine
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.shards import plan
from mnist_pipeline.inbox.tables import Tally
from mnist_pipeline.inbox.work import Done, EngineFailed, StoredModel, Work, made_with
from mnist_pipeline.ml import idx
from mnist_pipeline.ray_drivers import ClusterAway
from mnist_pipeline.storage.s3_requests import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra is not installed: pip install -e '.[ray]'"),
    pytest.mark.skipif(not SEEN, reason="actors are looked for in /proc"),
]
NIGHT = "2026-01-05"
NAMES = [str(digit) for digit in range(10)]
SHARDS, ROWS = 30, 1_000
LIMITS = {"wait_s": 20.0, "stall_s": 60.0}
STALL_S = 30  # more than actors take to begin on a busy machine, 4 s and longer
ACTOR = b"ray::MapWorker(MapBatches(ShardScorer))"
RUN = """
import sys
from pathlib import Path
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.ray_driver import read_work
from mnist_pipeline.inbox.ray_engine import RayEngine
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox import shards
import json
shards.ROWS_A_SHARD, schema = 1_000, schema_of([str(i) for i in range(10)])
predict(read_work(json.loads(sys.argv[1])), sys.argv[3:], schema, RayEngine(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Two nodes of one processor each, to which this process has the token."""
    with ray_cluster(**CREDENTIALS) as started:
        yield started


@pytest.fixture
def joining(monkeypatch: pytest.MonkeyPatch) -> Callable[[RayCluster], RayCluster]:
    """What gives this process the environment of a cluster."""

    def join(cluster: RayCluster) -> RayCluster:
        for name, value in cluster.env.items():
            monkeypatch.setenv(name, value)
        return cluster

    return join


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Some pictures, one of them none, and an array of thirty shards; a network that takes its time for them."""
    place = tmp_path_factory.mktemp("night")
    model = stored_model(place / "models", width_1=16, width_2=32, width_3=64)
    pictures = {f"{i}.png": png(image) for i, image in enumerate(strokes(3))} | {"2b.png": b"no image"}
    claimed(place / "inbox", NIGHT, {**pictures, "many.npy": np.tile(strokes(ROWS), (SHARDS, 1, 1))})
    return Work(NIGHT, str(place / "inbox"), str(place / "out"), "", model, made_with())


@pytest.fixture(scope="module")
def expected(night: Work) -> str:
    """The digest of the manifest by this process alone."""
    return scored(night, LocalEngine(), "expected").manifest


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS_A_SHARD", ROWS)


def files_of(work: Work) -> list[str]:
    folder = Path(work.inbox) / ".claimed" / NIGHT
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def scored(work: Work, engine: Engine, out: str) -> Tally:
    """The night by this engine, in a folder of its own."""
    work = replace(work, predictions=f"{work.predictions}-{out}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS_A_SHARD", ROWS)
        return predict(work, files_of(work), schema_of(NAMES), engine)


def finished_here(work: Work, out: str, expected: str) -> None:
    """The night that broke off in this folder goes on in this process from what was scored by then."""
    tally = scored(work, LocalEngine(), out)
    assert tally.manifest == expected
    assert tally.found >= 5


def actors_of(cluster: RayCluster) -> list[int]:
    """The numbers of its actors, which have its environment; those of other clusters here do not count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            ours = str(cluster.logs).encode() in path.with_name("environ").read_bytes()
            if ours and path.read_bytes().startswith(ACTOR):
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def datasets(cluster: RayCluster) -> set[str]:
    """What Ray Data has gone through there, by its logs."""
    return {path.name for path in cluster.logs.glob("ray/session_2*/logs/ray-data/ray-data-dataset_*.log")}


class Killing:
    """An engine that kills something once some shards are done."""

    def __init__(self, engine: RayEngine, kill: Callable[[], None], after: int = 5) -> None:
        self.engine, self.kill, self.after = engine, kill, after

    def run(self, *told: object) -> Iterator[Done]:
        for count, done in enumerate(self.engine.run(*told)):  # type: ignore[arg-type]
            if count == self.after:
                self.kill()
            yield done


def test_nobody_outside_this_machine_reaches_the_cluster(cluster: RayCluster) -> None:
    """Ray runs whatever it is told."""
    assert "127.0.0.1" in doors(cluster)
    assert doors(cluster) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("workers", [1, 2])
def test_actors_give_the_same_bytes_as_this_process(
    night: Work, expected: str, cluster: RayCluster, joining: Callable, workers: int
) -> None:
    engine = RayEngine(joining(cluster).address, workers, **LIMITS)
    tally = scored(night, engine, f"actors-{workers}")
    assert (tally.manifest, tally.predictions, tally.quarantined) == (expected, SHARDS * ROWS + 3, 1)
    wait("the actors are given back", lambda: not actors_of(cluster), 20)


def test_actors_work_from_a_bucket_into_a_bucket(
    night: Work, expected: str, cluster: RayCluster, joining: Callable, place: Place
) -> None:
    root = f"s3://{place.bucket}/{place.prefix}"
    for name in files_of(night):
        place.put(f"inbox/.claimed/{NIGHT}/{name}", Path(night.inbox) / ".claimed" / NIGHT / name)
    there = replace(night, inbox=f"{root}/inbox", predictions=f"{root}/predictions", endpoint=place.endpoint)
    engine = RayEngine(joining(cluster).address, 2, **LIMITS)
    assert predict(there, files_of(night), schema_of(NAMES), engine).manifest == expected


def test_actors_read_parquet_and_packed_idx_as_this_process_does(
    night: Work, tmp_path: Path, cluster: RayCluster, joining: Callable
) -> None:
    column = hugging_face([*(png(image) for image in strokes(2_500)), b"no image"])
    packed = gzip.compress(idx.dump(np.tile(strokes(700), (4, 1, 1))))
    claimed(tmp_path, NIGHT, {"many.parquet": parquet(1_000, image=column), "many-ubyte.gz": packed})
    work = replace(night, inbox=str(tmp_path), predictions=str(tmp_path / "out"))
    here, there = (
        scored(work, engine, name)
        for name, engine in (("here", LocalEngine()), ("there", RayEngine(joining(cluster).address, 2, **LIMITS)))
    )
    assert (there.predictions, there.quarantined, there.shards) == (5_300, 1, 6)
    assert there.manifest == here.manifest


def test_the_same_command_gives_the_same_predictions_here_and_on_the_cluster(
    pipeline: Pipeline, cluster: RayCluster, joining: Callable, tmp_path: Path
) -> None:
    array = BytesIO()
    np.save(array, pipeline.digits()["test"].images)
    pipeline.inbox.mkdir(exist_ok=True)
    (pipeline.inbox / "many.npy").write_bytes(array.getvalue())
    os.utime(pipeline.inbox / "many.npy", (1.6e9, 1.6e9))
    there = pipeline.copy(tmp_path / "there", MNIST_ENGINE="ray", RAY_ADDRESS=joining(cluster).address)
    command = ("-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions")
    for folder, each in ((tmp_path, pipeline), (there.state, there)):
        env = at_home(folder, **each.env, MLFLOW_TRACKING_URI="none")
        before = datasets(cluster)
        done = call(*command, "--select", "key:batch_digit_predictions", "--partition", NIGHT, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(datasets(cluster) - before) == (each is there)
    found = [
        {str(path.relative_to(each.state)): path.read_bytes() for path in (each.state / "predictions").rglob("*.*")}
        for each in (pipeline, there)
    ]
    assert found[0] == found[1]
    assert len(pq.read_table(there.state / "predictions" / f"{NIGHT}.parquet")) == len(pipeline.digits()["test"].images)


def test_processes_give_the_same_bytes_as_this_one(night: Work, expected: str) -> None:
    assert scored(night, LocalEngine(2), "processes").manifest == expected


def test_a_process_that_is_killed_is_an_error_and_the_next_run_goes_on(night: Work, expected: str) -> None:
    class KillingOne:
        def run(self, *told: object) -> Iterator[Done]:
            for count, done in enumerate(LocalEngine(2).run(*told)):  # type: ignore[arg-type]
                if count == 5:
                    os.kill(children_of(os.getpid(), b"spawn_main")[0], signal.SIGKILL)
                yield done

    with pytest.raises(EngineFailed, match=r"one of the 2 processes .* died"):
        scored(night, KillingOne(), "killed-process")
    finished_here(night, "killed-process", expected)


def test_an_actor_that_is_killed_costs_no_row_and_doubles_none(
    night: Work, expected: str, cluster: RayCluster, joining: Callable
) -> None:
    killed = []

    def kill() -> None:
        killed.append(actors_of(cluster)[0])
        os.kill(killed[0], signal.SIGKILL)

    engine = Killing(RayEngine(joining(cluster).address, 2, **LIMITS), kill)
    assert scored(night, engine, "killed-actor").manifest == expected
    assert killed


def test_a_driver_that_is_killed_is_an_error_that_gives_its_actors_back_and_the_next_run_goes_on(
    night: Work, expected: str, cluster: RayCluster, joining: Callable
) -> None:
    def kill() -> None:
        (driver,) = children_of(os.getpid(), DRIVER.encode())
        os.kill(driver, signal.SIGKILL)

    engine = RayEngine(joining(cluster).address, 2, **LIMITS)
    with pytest.raises(EngineFailed, match="the driver on the Ray cluster ended before a shard ends"):
        scored(night, Killing(engine, kill), "killed-driver")
    wait("the actors are given back", lambda: not actors_of(cluster), 30)
    finished_here(night, "killed-driver", expected)


def test_actors_that_hang_are_an_error_in_time_and_are_given_back(
    night: Work, cluster: RayCluster, joining: Callable
) -> None:
    stopped: list[int] = []

    def stop() -> None:
        stopped.extend(actors_of(cluster))
        for each in stopped:
            os.kill(each, signal.SIGSTOP)

    engine = RayEngine(joining(cluster).address, 2, wait_s=20, stall_s=STALL_S)
    with pytest.raises(
        EngineFailed, match=rf"given up: {STALL_S} s, and still waiting until a shard ends.*MNIST_SHARD_WAIT_S"
    ):
        scored(night, Killing(engine, stop), "hanging-actors")
    assert stopped
    wait("the actors are given back", lambda: not actors_of(cluster), 30)


def test_a_node_that_is_lost_costs_no_row_and_doubles_none(night: Work, expected: str, joining: Callable) -> None:
    with ray_cluster(**NOTICED_SOON) as cluster:
        engine, there = RayEngine(joining(cluster).address, 2, **LIMITS), list[int]()

        def kill() -> None:
            there.extend(set(actors_of(cluster)) & set(children_of(cluster.raylets[1], ACTOR)))
            os.kill(cluster.raylets[1], signal.SIGKILL)

        assert scored(night, Killing(engine, kill), "killed-raylet").manifest == expected
        assert there, "nobody worked on the node that was lost"


def test_a_cluster_that_is_lost_is_an_error_and_the_next_run_goes_on_elsewhere(
    night: Work, expected: str, joining: Callable
) -> None:
    with ray_cluster([{"num_cpus": 1}]) as cluster:
        engine, killed = RayEngine(joining(cluster).address, 1, wait_s=20, stall_s=STALL_S), list[int]()

        def kill() -> None:
            killed.extend(cluster.processes)
            for each in killed:
                os.kill(each, signal.SIGKILL)

        with pytest.raises((EngineFailed, ClusterAway), match="Ray cluster"):
            scored(night, Killing(engine, kill), "killed-cluster")
    assert killed
    finished_here(night, "killed-cluster", expected)


def test_a_run_that_is_killed_gives_its_actors_back_and_is_finished_by_the_next(
    night: Work, expected: str, cluster: RayCluster, joining: Callable
) -> None:
    address = joining(cluster).address
    work = replace(night, predictions=f"{night.predictions}-killed-run")
    command = [sys.executable, "-c", RUN, json.dumps(asdict(work)), address, *files_of(work)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait("five shards are done", lambda: len(list(Path(work.predictions).glob("parts/*.json"))) >= 5, 60, 0.05)
    finally:
        child.kill()
        child.wait()
    wait("the actors are given back", lambda: not actors_of(cluster), 30)
    tally = scored(night, RayEngine(address, 2, **LIMITS), "killed-run")
    assert tally.manifest == expected
    assert 5 <= tally.found < tally.shards


def test_an_array_that_breaks_off_is_quarantined_and_the_rest_goes_on(
    night: Work, tmp_path: Path, cluster: RayCluster, joining: Callable
) -> None:
    work = replace(night, inbox=str(tmp_path), predictions=str(tmp_path / "out"))
    claimed(tmp_path, NIGHT, {"a.png": png(strokes(1)[0]), "b.npy": strokes(3_000), "c.npy": strokes(10)})
    path = tmp_path / ".claimed" / NIGHT / "b.npy"

    class Cutting(RayEngine):
        def run(self, *told: object) -> Iterator[Done]:
            work, planned, fetched = told
            planned = list(planned)  # type: ignore[call-overload]
            path.write_bytes(path.read_bytes()[:-10])
            return super().run(work, planned, fetched)  # type: ignore[arg-type]

    tally = predict(work, files_of(work), schema_of(NAMES), Cutting(joining(cluster).address, **LIMITS))
    assert (tally.predictions, tally.quarantined) == (11, 1)
    assert "it was written anew while its night was scored" in tally.reasons["b.npy"]


def test_a_failing_actor_is_an_error_that_says_why_and_gives_its_actors_back(
    night: Work, tmp_path: Path, cluster: RayCluster, joining: Callable
) -> None:
    assert isinstance(night.model, StoredModel)
    broken = replace(night, model=replace(night.model, location=str(tmp_path / "nowhere")))
    with pytest.raises(EngineFailed, match="as it is seen here, has no decision 1") as raised:
        scored(broken, RayEngine(joining(cluster).address, 2, **LIMITS), "broken")
    assert socket.gethostname() in str(raised.value)
    wait("the actors are given back", lambda: not actors_of(cluster), 20)


def test_more_processors_than_any_node_has_are_refused_in_time(
    night: Work, cluster: RayCluster, joining: Callable
) -> None:
    began = time.monotonic()
    with pytest.raises(EngineFailed, match=r"asks for 8 processors, and no node .* as many \(1, 1\)"):
        scored(night, RayEngine(joining(cluster).address, cpus=8, wait_s=2), "greedy")
    assert time.monotonic() - began < 60


def test_an_address_where_nothing_listens_is_refused_at_once(night: Work) -> None:
    with pytest.raises(ClusterAway, match=r"no Ray cluster answers at 127\.0\.0\.1"):
        scored(night, RayEngine(f"127.0.0.1:{free_port()}", **LIMITS), "nowhere")


def test_what_listens_and_is_no_ray_is_named_in_time(night: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_drivers, "JOINS_S", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterAway, match=f"something listens at {address}, and no Ray cluster has answered"):
            scored(night, RayEngine(address, **LIMITS), "no-ray")


def test_a_wrong_token_is_refused_in_time(night: Work, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    for name, value in cluster.without_token().items():
        monkeypatch.setenv(name, value)
    with pytest.raises((EngineFailed, ClusterAway), match=r"(?i)token"):
        scored(night, RayEngine(cluster.address, **LIMITS), "stranger")
    assert time.monotonic() - began < 40


def test_no_shards_need_no_cluster(night: Work) -> None:
    with closing(fetched_of(night)) as fetched:
        assert list(RayEngine("127.0.0.1:1").run(night, enumerate(plan([], fetched)), fetched)) == []


def children_of(pid: int, kind: bytes) -> list[int]:
    """Those of a process whose command line says so."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and kind in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
