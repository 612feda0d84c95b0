"""Where steps run: a failed gate stops the deployment everywhere, and what is killed is tried again.

On Ray: a real cluster, two nodes on loopback, with runs in a real Postgres.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import ROOT, TINY, UP_TO_DEPLOYMENT, Pipeline, at_home, call, instance_of
from postgres_server import postgres
from processes import Process, running, wait
from ray_cluster import NOTICED_SOON, SEEN, RayCluster, ray_cluster

pytestmark = pytest.mark.slow
NODES = ({"num_cpus": 1, "include_dashboard": True}, {"num_cpus": 1})
HERE = {"MNIST_DATASET": "embedded", "MLFLOW_TRACKING_URI": "none", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
UNTRAINED = {**TINY, "epochs": 1, "min_steps": 0, "learning_rate": 1e-9}
CHAIN = ("digit_classifier", "model_evaluation", "production_digit_classifier")


@pytest.fixture(scope="module")
def ray() -> Iterator[tuple[RayCluster, dict[str, str]]]:
    """A cluster whose nodes know the password of Postgres, and what a run needs whose steps go there."""
    own = {"OMP_NUM_THREADS": "1", **NOTICED_SOON}
    with postgres() as server, ray_cluster(NODES, DAGSTER_POSTGRES_URL=server.url, **own) as cluster:
        home = {"DAGSTER_HOME": str(ROOT / "instances" / "postgres"), "DAGSTER_POSTGRES_URL": server.url}
        yield cluster, {**cluster.env, **HERE, **home, "MNIST_STEPS_ON": "ray"}


def materialize(*where: str, assets: tuple[str, ...], **config: Any) -> list[str]:
    """The command. where: -m or -f with the definitions."""
    select = " or ".join(f"key:{asset}" for asset in assets)
    return ["-m", "dagster", "asset", "materialize", *where, "--select", select, "--config-json", json.dumps(config)]


def said(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> list[str]:
    """The steps of which it was said."""
    return [str(each.step_key) for each in instance.all_logs(run_id, of_type=kind)]


# --- a failed gate ---

EVERYWHERE = ("process", "processes", "ray", "some_processes")
WITH_SOME_PROCESSES = """
    import dagster as dg

    from mnist_pipeline.definitions import build_definitions
    from mnist_pipeline.executor import some_processes

    def rearranged():
        made = build_definitions()  # a name of the module would be a second code location
        parts = {"assets": made.assets, "asset_checks": made.asset_checks, "resources": made.resources}
        return dg.Definitions(**parts, executor=some_processes)

    defs = rearranged()
"""


@pytest.mark.parametrize("on", EVERYWHERE)
def test_a_failed_gate_never_lets_the_deployment_run(
    pipeline: Pipeline, tmp_path: Path, request: pytest.FixtureRequest, on: str
) -> None:
    """A network that has not learned is stored, and stopped by the check of it: nothing is even measured."""
    env = {**HERE, "MNIST_PIPELINE_STATE": str(pipeline.state), "MNIST_STEPS_ON": on}
    env = {**(request.getfixturevalue("ray")[1] if on == "ray" else at_home(tmp_path)), **env}
    where, config = ("-m", "mnist_pipeline.definitions"), {"ops": {"digit_classifier": {"config": UNTRAINED}}}
    if on == "some_processes":
        (tmp_path / "some.py").write_text(textwrap.dedent(WITH_SOME_PROCESSES))
        where, env["MNIST_STEPS_ON"] = ("-f", str(tmp_path / "some.py")), "process"
        config["execution"] = {"config": {"processes": 2}}
    ran = call(*materialize(*where, assets=CHAIN, **config), **env)
    assert ran.returncode != 0
    assert [each.number for each in pipeline.store.decisions()] == [1]
    with instance_of(env) as instance:
        run = instance.get_runs(limit=1)[0]
        assert said(instance, run.run_id, dg.DagsterEventType.STEP_SUCCESS) == ["digit_classifier"]
        assert said(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE) == ["model_checks"]
        (executor,) = said_by_executor(instance, run.run_id)
        assert executor == {"process": "in", "processes": "multiprocess", "some_processes": "multiprocess"}.get(on, on)


def said_by_executor(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """in, multiprocess or ray: where the steps of a run were."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
    return {"ray" if "Ray job" in each.message else "multiprocess" for each in events} or {"in"}


# --- on a cluster ---


def test_the_digit_graph_on_a_cluster_gives_what_one_process_gives(
    ray: tuple[RayCluster, dict[str, str]], finished: Pipeline, tmp_path: Path
) -> None:
    """Also when the process that trains is killed in mid-step."""
    env = {**ray[1], "MNIST_PIPELINE_STATE": str(tmp_path / "state")}
    config = {"ops": {"digit_classifier": {"config": TINY}}}
    command = materialize("-m", "mnist_pipeline.definitions", assets=UP_TO_DEPLOYMENT, **config)
    run = Process("run", [sys.executable, *command], env, tmp_path / "run.log")
    with instance_of(env) as instance:
        before = {each.run_id for each in instance.get_runs()}
        with running(run, lambda: True):
            pid = wait("training", lambda: training_process(instance, before), 180, every=0.05)
            os.kill(pid, signal.SIGKILL)
            assert run.child
            assert run.child.wait(240) == 0, run.tail()
        run_id = instance.get_runs(limit=1)[0].run_id
        assert said(instance, run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == ["digit_classifier"]
        assert said_by_executor(instance, run_id) == {"ray"}
    there = Pipeline(tmp_path / "state")
    assert immutable(there) == immutable(finished)
    assert there.store.production() == finished.store.production()
    assert there.value("processed_mnist_data").digest() == finished.digits().digest()


def training_process(instance: dg.DagsterInstance, before: set[str]) -> int:
    """Its pid, once the step has begun to work. before: runs of other tests."""
    runs = [each for each in instance.get_runs() if each.run_id not in before]
    if not runs or "digit_classifier" not in said(instance, runs[0].run_id, dg.DagsterEventType.STEP_START):
        return 0
    for each in instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED):
        if each.step_key == "digit_classifier" and each.dagster_event:
            return int(str(each.dagster_event.engine_event_data.metadata["pid"].value))
    return 0


def immutable(pipeline: Pipeline) -> dict[str, str]:
    """Blob -> sha256 but of cards and decisions, which say when and by which run."""
    return {key: digest for key, digest in pipeline.stored().items() if not key.endswith("card.json")} | {
        key: "" for key in pipeline.stored() if key.startswith("decisions/")
    }


ODD = """
    import os, signal
    from pathlib import Path

    import dagster as dg

    from mnist_pipeline.executor import steps_executor

    def first_time(name):
        try:
            (Path(__file__).parent / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ.get("DAGSTER_RUN_STEP_KEY") == "killed_before_it_begins" and first_time("before"):
        die()

    @dg.asset
    def killed_before_it_begins() -> None: ...

    @dg.asset(deps=[killed_before_it_begins])
    def after_it() -> None: ...

    @dg.asset
    def killed_each_time(context) -> None:
        first_time(f"each {context.retry_number}")
        die()

    @dg.asset(deps=[killed_each_time])
    def never() -> None: ...

    @dg.asset(op_tags={"dagster-ray/config": {"num_cpus": 8}})
    def too_large() -> None: ...

    @dg.asset
    def told(context) -> None:
        kept = {k: v for k, v in os.environ.items() if k.startswith(("MNIST", "RAY_ADDRESS"))}
        (Path(__file__).parent / "told").write_text(str(kept))

    defs = dg.Definitions(
        assets=[killed_before_it_begins, after_it, killed_each_time, never, too_large, told], executor=steps_executor()
    )
"""
ODD_ONES = ("killed_before_it_begins", "after_it", "killed_each_time", "never", "too_large", "told")


def odd(folder: Path) -> Path:
    path = folder / "odd.py"
    path.write_text(textwrap.dedent(ODD))
    return path


def test_what_is_killed_or_finds_no_room_ends_and_the_rest_goes_on(
    ray: tuple[RayCluster, dict[str, str]], tmp_path: Path
) -> None:
    env = {**ray[1], "MNIST_PIPELINE_STATE": str(tmp_path / "state"), "MNIST_STEP_WAIT_S": "20"}
    command = materialize("-f", str(odd(tmp_path)), assets=ODD_ONES)
    ran = call(*command, **env, MNIST_HEARTBEAT_URL="http://127.0.0.1/secret")
    assert ran.returncode != 0
    with instance_of(env) as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        assert sorted(said(instance, run_id, dg.DagsterEventType.STEP_SUCCESS)) == [
            *("after_it", "killed_before_it_begins", "told")
        ]
        again = said(instance, run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY)
        assert sorted(again) == ["killed_before_it_begins", "killed_each_time", "killed_each_time"]
        failed = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        why = {str(each.step_key): str(each.dagster_event.step_failure_data.error) for each in failed}  # type: ignore[union-attr]
    assert why.keys() == {"killed_each_time", "too_large"}
    assert "exit code -9" in why["killed_each_time"]
    assert "no node had room for 8 CPUs and 0 GPUs within" in why["too_large"]
    assert "MNIST_STEP_CPUS" in why["too_large"]
    told = (tmp_path / "told").read_text()
    assert "'MNIST_STEP_WAIT_S': '20'" in told
    assert "HEARTBEAT" not in told
    assert f"'RAY_ADDRESS': '{ray[0].address}'" in told  # by which nights in prod go to its actors


def test_the_doctor_finds_the_cluster(ray: tuple[RayCluster, dict[str, str]], tmp_path: Path) -> None:
    told = call("-m", "mnist_pipeline.doctor", **{**ray[1], "MNIST_PIPELINE_STATE": str(tmp_path)}).stdout
    (line,) = [line for line in told.splitlines() if line.split()[1:2] == ["steps"]]
    assert line.split()[0] == "ok", line
    assert ray[0].address in line


DOOR = "import sys; from mnist_pipeline import ray_jobs; ray_jobs.ANSWER_S = 1.0; ray_jobs.jobs_at(sys.argv[1])"


def refused(address: str, env: Mapping[str, str]) -> str:
    """What is said of it, by a process that knows nothing of other clusters. Time-limited."""
    own = {name: value for name, value in env.items() if name not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
    door = subprocess.run(
        [sys.executable, "-c", DOOR, address], env={**os.environ, **own}, capture_output=True, text=True, timeout=60
    )
    assert door.returncode == 1, door.stderr
    return door.stderr.splitlines()[-1]


def test_who_has_another_token_is_not_let_in(ray: tuple[RayCluster, dict[str, str]]) -> None:
    assert "no Ray cluster takes jobs at" in (why := refused(ray[0].address, ray[0].without_token()))
    assert "token" in why.lower()


def test_a_port_where_nothing_listens_and_one_that_never_answers_are_told(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert f"no Ray cluster takes jobs at 127.0.0.1:{port} (" in (why := refused(f"127.0.0.1:{port}", HERE))
        assert "refused" in why
        probe.listen(5)
        assert "timed out" in refused(f"http://127.0.0.1:{port}", HERE)


def test_a_run_whose_cluster_is_away_fails_and_says_so(tmp_path: Path) -> None:
    env = {**at_home(tmp_path), **HERE, "MNIST_STEPS_ON": "ray", "RAY_ADDRESS": "127.0.0.1:9"}
    ran = call(*materialize("-m", "mnist_pipeline.definitions", assets=("raw_mnist_data",)), timeout=90, **env)
    assert ran.returncode != 0
    assert "no Ray cluster takes jobs at 127.0.0.1:9" in ran.stdout + ran.stderr
    assert "MNIST_STEPS_ON=processes" in ran.stdout + ran.stderr


TWO = """
    import os, time
    from pathlib import Path

    import dagster as dg

    from mnist_pipeline.executor import steps_executor

    HERE = Path(__file__).parent

    def work(context) -> None:
        name = f"{context.asset_key.to_user_string()} {context.retry_number}"
        (HERE / name).write_text(str(os.getpid()))
        end = time.monotonic() + 120
        while not (HERE / f"go {name}").exists() and time.monotonic() < end:
            time.sleep(0.1)

    @dg.asset
    def one(context) -> None:
        work(context)

    @dg.asset
    def two(context) -> None:
        work(context)

    defs = dg.Definitions(assets=[one, two], executor=steps_executor())
"""


@pytest.mark.skipif(not SEEN, reason="processes are looked for in /proc")
def test_a_step_that_loses_its_node_is_done_by_another(ray: tuple[RayCluster, dict[str, str]], tmp_path: Path) -> None:
    """Each node has room for one of both; the second is killed. Its step works on, and ends beside its second attempt.

    Later tests find one node, which is enough for them.
    """
    env = {**ray[1], "MNIST_PIPELINE_STATE": str(tmp_path / "state")}
    (tmp_path / "two.py").write_text(textwrap.dedent(TWO))
    command = materialize("-f", str(tmp_path / "two.py"), assets=("one", "two"))
    run = Process("run", [sys.executable, *command], env, tmp_path / "run.log")
    with running(run, lambda: True):
        wait("both at work", lambda: (tmp_path / "one 0").exists() and (tmp_path / "two 0").exists(), 120)
        at_work = {name: int((tmp_path / f"{name} 0").read_text()) for name in ("one", "two")}
        (lost,) = [name for name, pid in at_work.items() if ray[0].raylets[1] in ancestors(pid)]
        os.kill(ray[0].raylets[1], signal.SIGKILL)
        (other,) = at_work.keys() - {lost}
        (tmp_path / f"go {other} 0").touch()
        wait("the second attempt", lambda: (tmp_path / f"{lost} 1").exists(), 90)
        (tmp_path / f"go {lost} 0").touch()
        wait("the end of the first", lambda: not is_at_work(at_work[lost]), 30)
        (tmp_path / f"go {lost} 1").touch()
        assert run.child
        assert run.child.wait(60) == 0, run.tail()
    with instance_of(env) as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        assert said(instance, run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == [lost]
        assert set(said(instance, run_id, dg.DagsterEventType.STEP_SUCCESS)) == {"one", "two"}
        assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.SUCCESS


def is_at_work(pid: int) -> bool:
    """Not ended; one that has, and that nobody has waited for, is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ancestors(pid: int) -> list[int]:
    """Process ids, the parent's first."""
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


# --- in processes of their own ---


def test_a_process_that_is_killed_is_tried_again_twice(tmp_path: Path) -> None:
    env = {**at_home(tmp_path), **HERE, "MNIST_STEPS_ON": "processes", "MNIST_STEPS_AT_ONCE": "2"}
    ran = call(*materialize("-f", str(odd(tmp_path)), assets=("killed_each_time", "never", "told")), **env)
    assert ran.returncode != 0
    assert sorted(path.name for path in tmp_path.glob("each *")) == ["each 0", "each 1", "each 2"]
    with instance_of(env) as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        assert said(instance, run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == ["killed_each_time"] * 2
        assert said(instance, run_id, dg.DagsterEventType.STEP_FAILURE) == ["killed_each_time"]
        assert said(instance, run_id, dg.DagsterEventType.STEP_SUCCESS) == ["told"]
