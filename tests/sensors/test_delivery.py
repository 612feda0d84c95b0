"""Delivery: the sensor, the processes that send, and an MLflow that is away, slow, ill or killed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlflow_places import RUN, Place, Server, copied_store, file_store, free_port, ill_server, wait_until
from pipelines import DATA, TINY, Pipeline, call, metadata

from mnist_pipeline.experiments.answers import away
from mnist_pipeline.experiments.courier import COMMAND, PROJECT, SendingFailed, follow, send
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.experiments.spool import RunFacts, Spool, now_ms
from mnist_pipeline.sensors.delivery import FORGOTTEN_MS, Seen, ended_runs, mlflow_delivery
from mnist_pipeline.sensors.health import IN_A_ROW

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*")  # mlflow's use of SQLAlchemy


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return file_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def place(template: str, tmp_path: Path) -> Place:
    return Place(tmp_path, copied_store(template, tmp_path))


@pytest.fixture
def server(template: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, copied_store(template, tmp_path))
    made.start()
    yield made
    made.kill()


def tick(pipeline: Pipeline, cursor: str | None = None) -> tuple[str, str | None]:
    """(what the sensor said, its cursor) of one evaluation, as the daemon makes it."""
    resources = {"tracking": pipeline.tracking, "models": pipeline.models}
    context = dg.build_sensor_context(instance=pipeline.instance, cursor=cursor, resources=resources)
    done = mlflow_delivery.evaluate_tick(context)
    assert done.run_requests == []
    return str(done.skip_message), done.cursor


def nowhere() -> str:
    """A server's address where none is."""
    return f"http://127.0.0.1:{free_port()}"


# --- the sensor ---


def test_it_is_on_by_default_and_bounded() -> None:
    assert mlflow_delivery.default_status == dg.DefaultSensorStatus.RUNNING
    assert mlflow_delivery.minimum_interval_seconds == 30


def test_where_tracking_is_off_it_says_so(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, MLFLOW_TRACKING_URI="none")
    assert "nothing is tracked" in tick(pipeline)[0]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_is_named_with_what_waits_and_is_no_error(pipeline: Pipeline, tmp_path: Path) -> None:
    uri = nowhere()
    away_now = pipeline.copy(tmp_path / "away", MLFLOW_TRACKING_URI=uri.replace("//", "//user:secret@"))
    waiting = sum(len(names) for names in away_now.tracking.spool().runs().values())
    said, cursor = tick(away_now)
    assert f"MLflow at {uri} is away (" in said
    assert f"{waiting} records wait in {away_now.state / 'tracking'}" in said
    assert "secret" not in said
    assert cursor is None  # the registry is not mirrored yet


def test_runs_are_closed_as_dagster_ended_them_and_never_before(tmp_path: Path) -> None:
    spool, status = Spool.at(str(tmp_path)), dg.DagsterRunStatus
    wanted = {
        status.STARTED: None,
        status.STARTING: None,
        status.CANCELING: None,
        status.SUCCESS: "FINISHED",
        status.FAILURE: "FAILED",
        status.CANCELED: "KILLED",
    }
    with dg.DagsterInstance.ephemeral() as instance:
        for number, each in enumerate(wanted):
            instance.add_run(dg.DagsterRun(job_name="x", run_id=f"run-{number}", status=each))
            spool.begin(RunFacts(f"run-{number}", "x", now_ms()))
        found = ended_runs(instance, spool, list(spool.runs()))
    closed = {status: found[f"run-{n}"][0] if f"run-{n}" in found else None for n, status in enumerate(wanted)}
    assert closed == wanted


def test_a_run_that_dagster_does_not_know_is_closed_after_a_day(tmp_path: Path) -> None:
    spool = Spool.at(str(tmp_path))
    spool.begin(RunFacts("young", "x", now_ms()))
    spool.begin(RunFacts("old", "x", now_ms() - FORGOTTEN_MS - 1_000))
    with dg.DagsterInstance.ephemeral() as instance:
        found = ended_runs(instance, spool, ["young", "old"])
    assert {run: status for run, (status, _) in found.items()} == {"old": "KILLED"}


@pytest.mark.slow
def test_ticks_send_close_mirror_and_then_rest(pipeline: Pipeline) -> None:
    pipeline.run("production_digit_classifier")
    said, cursor = tick(pipeline)
    assert "1 runs closed, 1 versions registered, 1 aliases moved" in said
    assert Seen.of(cursor).decision == 2
    assert tick(pipeline, cursor) == ("nothing to send", cursor)
    due = json.dumps({**asdict(Seen.of(cursor)), "mirrored_s": 0.0})
    assert Seen.of(tick(pipeline, due)[1]).mirrored_s > time.time() - 60


@pytest.mark.slow
def test_what_mlflow_refuses_keeps_the_sensor_red_until_somebody_has_dropped_it(pipeline: Pipeline) -> None:
    _, cursor = tick(pipeline)
    place = Place(pipeline.state, pipeline.tracking.uri)
    with place.tracker() as tracker:
        tracker.params({"width": 8})
        tracker.params({"width": 16})
    for _ in range(IN_A_ROW):  # which is when `watch` tells it
        with pytest.raises(SendingFailed, match=r"refused 1 records.*\n.*Changing param values is not allowed") as red:
            tick(pipeline, cursor)
    assert f"{pipeline.state / 'tracking' / 'refused' / RUN}" in str(red.value)
    assert "experiments retry` sends them again" in str(red.value)
    assert Refused(place.spool).drop() == 1
    assert tick(pipeline, cursor)[0] == "nothing to send"


# --- signs of life ---


def test_a_store_in_a_file_is_always_there() -> None:
    assert away("sqlite:////nowhere/mlflow.db") == ""


@pytest.mark.parametrize(("status", "found"), [(200, ""), (404, ""), (403, ""), (500, "it answers 500"), (503, "503")])
def test_what_a_server_answers_says_whether_it_is_there(status: int, found: str) -> None:
    with ill_server(status, healthy=False) as server:
        said = away(server.uri)
    assert found in said
    assert bool(said) == bool(found)


def test_no_connection_and_no_answer_in_time_are_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "refused" in away(nowhere())
    monkeypatch.setattr("mnist_pipeline.experiments.answers.PROBE_S", 0.2)
    with ill_server(200, healthy=True, delay_s=1.0) as slow:
        assert "timed out" in away(slow.uri)


# --- a run whose server is away: nobody waits, and it is asked once ---


@pytest.mark.slow
@pytest.mark.parametrize("healthy", [False, True], ids=["all 503", "only health is well"])
def test_an_ill_server_is_asked_by_one_step_of_a_run_only(tmp_path: Path, healthy: bool) -> None:
    with ill_server(503, healthy) as server:
        pipeline = Pipeline(tmp_path / "state", MLFLOW_TRACKING_URI=server.uri)
        ran = pipeline.run(*DATA, "digit_classifier", digit_classifier=TINY)
        spool = pipeline.tracking.spool()
        wait_until(lambda: spool.is_away(ran.run_id), 60)
        asked = len(server.asked)
        assert 1 <= asked <= 4  # a sign of life, and one call with one retry
        for step in range(3):
            with Place(pipeline.state, server.uri).tracker(ran.run_id, spool, start=_start(pipeline, ran.run_id)) as on:
                on.tags({f"step {step}": "done"})
        assert len(server.asked) == asked
    assert len(spool.waiting(ran.run_id)) > 9
    assert metadata(ran, "digit_classifier")["mlflow_run"] == f"{server.uri}/#/experiments"


def _start(pipeline: Pipeline, run_id: str) -> Any:
    return lambda: pipeline.tracking._start(run_id, pipeline.tracking.spool())


@pytest.mark.slow
def test_a_slow_server_costs_the_sender_its_time_and_the_tick_nothing_more(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.tags({"a": "b"})
    with ill_server(200, healthy=False, delay_s=30) as server:
        report = send(replace(place.order, uri=server.uri, seconds=10))
    assert "timed out" in report.away
    assert report.waiting == 1


@pytest.mark.slow
def test_no_access_is_an_error_that_is_seen(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.tags({"a": "b"})
    with ill_server(403, healthy=True) as server, pytest.raises(SendingFailed, match="403"):
        send(replace(place.order, uri=server.uri))
    assert len(place.spool.waiting(RUN)) == 1


# --- kills ---


def test_records_survive_a_kill_of_the_step(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, "tests")
from pathlib import Path
from mlflow_places import Place
tracker = Place(Path({str(tmp_path)!r}), "sqlite://").tracker()
for epoch in range(5):
    tracker.metrics({{"loss": 1.0}}, step=epoch)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert call("-c", code).returncode == -9
    assert len(Spool.at(str(tmp_path / "tracking")).waiting(RUN)) == 5


@pytest.mark.slow
def test_a_sender_killed_at_any_moment_loses_nothing_and_doubles_nothing(place: Place) -> None:
    with place.tracker() as tracker:
        for epoch in range(400):
            tracker.metrics({"loss": 1.0}, step=epoch)
            if epoch % 10 == 0:
                tracker.artifact(f"pictures/{epoch}.png", b"png")
    kills, left = 0, len(place.spool.waiting(RUN))
    while left > 50 and kills < 10:
        sender = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=PROJECT, text=True)
        assert sender.stdin is not None
        sender.stdin.write(json.dumps(asdict(place.order)) + "\n")
        sender.stdin.close()
        before = left
        wait_until(lambda: len(place.spool.waiting(RUN)) < before, 60)  # noqa: B023
        sender.kill()
        sender.wait()
        kills, left = kills + 1, len(place.spool.waiting(RUN))
    assert kills > 1
    send(place.order)
    assert [step for step, _ in place.history("loss")] == list(range(400))
    assert len(place.client.list_artifacts(place.run().info.run_id, "pictures")) == 40


# --- a real server ---


@pytest.mark.slow
def test_epochs_appear_while_training_goes_on_and_survive_a_kill_of_the_server(place: Place, server: Server) -> None:
    live = replace(place, uri=server.uri)
    with live.tracker(start=lambda: follow(replace(live.order, follow=RUN))) as tracker:
        for epoch in range(1, 4):
            tracker.metrics({"loss": 1 / epoch}, step=epoch)
        wait_until(lambda: not live.spool.waiting(RUN), 60)
        assert [step for step, _ in live.history("loss")] == [1, 2, 3]
        assert f"{server.uri}/#/experiments/" in tracker.link()
        assert tracker.link().endswith(live.run().info.run_id)
        server.kill()
        for epoch in range(4, 10):
            tracker.metrics({"loss": 1 / epoch}, step=epoch)
        tracker.artifact("curve.png", b"png")
        wait_until(lambda: live.spool.is_away(RUN), 60)
    assert len(live.spool.waiting(RUN)) == 7
    server.start()
    report = send(replace(live.order, ended={RUN: ("FINISHED", now_ms())}))
    assert (report.sent, report.closed, report.away) == (7, 1, "")
    assert [step for step, _ in live.history("loss")] == list(range(1, 10))
    assert live.run().info.status == "FINISHED"
    assert not live.spool.runs()


@pytest.mark.slow
def test_a_whole_run_reaches_a_server_and_its_registry(server: Server, pipeline: Pipeline, tmp_path: Path) -> None:
    live = pipeline.copy(tmp_path / "live", MLFLOW_TRACKING_URI=server.uri, MNIST_EXPERIMENT="experiment")
    ran = live.run("digit_classifier", "model_evaluation", "production_digit_classifier", digit_classifier=TINY)
    place = Place(live.state, server.uri)
    wait_until(lambda: place.spool.waiting(ran.run_id) == [], 60)
    assert place.run(ran.run_id).info.status == "RUNNING"
    wait_until(lambda: tick(live)[1] is not None, 60)  # until the run's own sender has ended, it is busy
    run = place.run(ran.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["width_1"] == "4"
    assert run.data.metrics.keys() >= {"train_loss", "validation_accuracy", "test_accuracy", "test_top_2_accuracy"}
    assert run.data.tags["dagster_run"] == f"http://127.0.0.1:3000/runs/{ran.run_id}"
    champion = place.client.get_model_version_by_alias("digit_classifier", "champion")
    assert champion.tags["version"] == live.store.production()


# --- dev ---


@pytest.mark.slow
def test_a_dev_run_never_imports_mlflow_and_leaves_nothing_in_the_working_directory(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "tests")]
from pathlib import Path
from pipelines import TINY, UP_TO_DEPLOYMENT, Pipeline
os.makedirs({str(tmp_path / "here")!r})
os.chdir({str(tmp_path / "here")!r})
Pipeline(Path({str(tmp_path / "state")!r})).run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)
print("mlflow" in sys.modules, os.listdir())
"""
    done = call("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "[]"]


DAGSTER_MLFLOW = """
import sys
from dagster import job, op, build_init_resource_context
import dagster as dg, mlflow
from dagster_mlflow import mlflow_tracking

@op(required_resource_keys={"mlflow"})
def theirs(context):
    context.resources.mlflow.log_param("theirs", "yes")
    print(context.resources.mlflow.mlflow_run_id)

@job(resource_defs={"mlflow": mlflow_tracking.configured(
    {"experiment_name": "experiment", "mlflow_tracking_uri": sys.argv[1]})})
def users_job():
    theirs()

users_job.execute_in_process(run_id=sys.argv[2])
"""


@pytest.mark.slow
def test_the_resource_of_dagster_mlflow_resumes_our_run(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.params({"ours": "yes"})
    place.send()
    done = call("-W", "ignore", "-c", DAGSTER_MLFLOW, place.uri, RUN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == place.run().info.run_id
    assert place.run().data.params == {"ours": "yes", "theirs": "yes"}
