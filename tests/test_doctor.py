"""`make doctor`: every line tells the truth, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from digit_files import strokes
from people import answered
from pipelines import PROD, ROOT, Pipeline
from postgres_server import postgres
from s3_server import Answer, Proxy
from slack_stand_in import SlackStandIn, slack_stand_in

from mnist_pipeline import doctor
from mnist_pipeline.doctor import Finding, examine
from mnist_pipeline.experiments.spool import RunFacts
from mnist_pipeline.resources import dev_resources
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.tracking import SpoolTracker

ELSEWHERE = ("daemon",)  # what a test's own process does not have
SQLITE = ("Dagster",)  # what ails in prod where no Postgres is started for the test


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Dev, in a folder of its own; Dagster looks at the environment itself."""
    own = {"MNIST_PIPELINE_STATE": str(tmp_path / "state"), "DAGSTER_HOME": str(tmp_path)}
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return {**own, "MNIST_DATASET": "embedded"}


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as made:
        yield made


@pytest.fixture
def prod(env: dict[str, str], place: Place, slack: SlackStandIn, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SLACK_BOT_TOKEN", PROD["SLACK_BOT_TOKEN"])
    return {
        **env,
        **PROD,
        "MNIST_PIPELINE_ENV": "prod",
        "MNIST_S3_BUCKET": place.bucket,
        "S3_ENDPOINT_URL": place.endpoint,
        "SLACK_API_URL": slack.url,
    }


def found(env: dict[str, str]) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(env)}


def ailing(env: dict[str, str]) -> dict[str, str]:
    return {what: finding.said for what, finding in found(env).items() if not finding.well and what not in ELSEWHERE}


def test_a_fresh_project_is_well_but_for_the_daemon(env: dict[str, str]) -> None:
    findings = found(env)
    assert ailing(env) == {}
    assert "start it with `make dev`" in findings["daemon"].said
    assert findings["production"].said == "nothing is deployed yet"
    assert "writes once, refuses the second" in findings["model store"].said
    assert "alerts go to the log" in findings["Slack"].said
    assert findings["switches"].said.endswith("schedules and sensors are on")


@pytest.mark.slow
def test_production_is_well_and_nothing_of_the_examination_stays(
    prod: dict[str, str], place: Place, slack: SlackStandIn
) -> None:
    with postgres() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in on_postgres(server.url).items():
            patch.setenv(name, value)
        assert ailing({**prod, **on_postgres(server.url)}) == {}
    assert list(place.entries("")) == []
    assert (slack.messages, slack.scheduled) == ([], {})


def on_postgres(url: str) -> dict[str, str]:
    return {"DAGSTER_HOME": str(ROOT / "instances" / "postgres"), "DAGSTER_POSTGRES_URL": url}


@pytest.mark.slow
def test_a_postgres_that_is_away_is_told_without_its_password(
    prod: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = on_postgres("postgresql+psycopg2://dagster:hunter2pass@127.0.0.1:9/dagster")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    findings = found({**prod, **settings})
    assert set(findings) == {"environment", "Dagster"}
    assert not findings["Dagster"].well
    assert "port 9 failed: Connection refused" in findings["Dagster"].said
    assert "instances/postgres" in findings["Dagster"].said
    assert "hunter2pass" not in findings["Dagster"].said


@pytest.mark.parametrize(
    ("dataset", "well", "says"),
    [
        ("embedded", True, "embedded: comes with scikit-learn"),
        ("auto", True, "auto: downloaded when it is asked for"),
        ("images", False, "MNIST_DATASET=images needs MNIST_DATA_DIR, the folder to read"),
    ],
)
def test_where_the_data_comes_from_is_told(env: dict[str, str], dataset: str, well: bool, says: str) -> None:
    finding = found({**env, "MNIST_DATASET": dataset})["data"]
    assert (finding.well, finding.said) == (well, says)


@pytest.mark.slow
def test_steps_on_other_machines_need_a_storage_that_they_reach(env: dict[str, str]) -> None:
    assert found(env)["steps"].said == "in the process of their run"
    assert found({**env, "MNIST_STEPS_ON": "processes"})["steps"].said.startswith("each in a process of its own")
    said = ailing({**env, "MNIST_STEPS_ON": "ray", "RAY_ADDRESS": "127.0.0.1:9"})
    assert set(said) == {"steps"}
    assert "MNIST_STEPS_ON=ray with SqliteRunStorage" in said["steps"]
    assert "instances/postgres here, and DAGSTER_POSTGRES_URL here and on every node" in said["steps"]


def test_production_that_keeps_its_runs_in_sqlite_is_told_what_to_set(prod: dict[str, str]) -> None:
    """As it is when nobody has set DAGSTER_HOME."""
    said = ailing(prod)
    assert set(said) == {"Dagster"}
    assert "prod needs Postgres" in said["Dagster"]
    assert "instances/postgres and DAGSTER_POSTGRES_URL" in said["Dagster"]


def test_credentials_that_s3_does_not_take_are_told(prod: dict[str, str], proxy: Proxy) -> None:
    proxy.fault = lambda request: Answer(403, "InvalidAccessKeyId")
    said = ailing({**prod, "S3_ENDPOINT_URL": proxy.endpoint})
    assert {"model store", "shelves", "inbox"} <= set(said)
    assert "AWS_SECRET_ACCESS_KEY, or the profile or role" in said["model store"]


def test_what_is_not_set_is_named_and_ends_the_examination(prod: dict[str, str]) -> None:
    (only,) = examine({**prod, "SLACK_CHANNEL": ""})
    assert not only.well
    assert "SLACK_CHANNEL: the channel" in only.said


def test_a_bucket_that_takes_a_key_twice_is_found_out(prod: dict[str, str], proxy: Proxy) -> None:
    """As old S3-compatible servers do: they ignore If-None-Match."""
    taken = iter([None])
    proxy.fault = lambda request: Answer(200) if request.method == "PUT" and next(taken, "again") else None
    said = ailing({**prod, "S3_ENDPOINT_URL": proxy.endpoint})
    assert "lets a key be written twice" in said["model store"]


def test_a_slack_that_knows_nobody_and_an_mlflow_that_is_away_are_told(
    prod: dict[str, str], slack: SlackStandIn
) -> None:
    slack.always = "invalid_auth"
    said = ailing({**prod, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert set(said) == {"Slack", "MLflow", *SQLITE}
    assert "invalid_auth" in said["Slack"]
    assert "127.0.0.1:9" in said["MLflow"]


@pytest.mark.parametrize(
    ("refusal", "cure"),
    [
        ("not_in_channel", "invite the bot into 'C012'"),
        ("channel_not_found", "use the channel's id"),
        ("missing_scope", "chat:write"),
        ("restricted_action", "see the methods of its API"),
    ],
)
def test_a_channel_that_takes_no_messages_from_us_is_told(
    prod: dict[str, str], slack: SlackStandIn, refusal: str, cure: str
) -> None:
    slack.answers = ["", refusal]  # the token is good
    said = found(prod)["Slack"]
    assert not said.well
    assert refusal in said.said
    assert cure in said.said
    assert slack.messages == []


def test_the_channel_is_tried_without_a_message_that_anybody_sees(prod: dict[str, str], slack: SlackStandIn) -> None:
    assert found(prod)["Slack"].said == "alerts go to C012 as mnist in digits; it takes messages from us"
    assert slack.calls == ["auth.test", "chat.scheduleMessage", "chat.deleteScheduledMessage"]
    assert (slack.messages, slack.scheduled) == ([], {})


def test_a_login_in_the_address_of_mlflow_is_no_reason_to_fail_and_is_not_shown(
    prod: dict[str, str], slack: SlackStandIn
) -> None:
    """The stand-in answers /health as MLflow does: to everybody."""
    address = slack.url.replace("http://", "http://user:hunter2pass@")
    finding = found({**prod, "MLFLOW_TRACKING_URI": address})["MLflow"]
    assert finding.well
    assert finding.said == f"{slack.url}; 0 records wait to be sent"


def test_records_that_wait_for_mlflow_are_counted(env: dict[str, str]) -> None:
    """The spool of dev lies under the state folder."""
    tracking = dev_resources(env)["tracking"]
    for run in ("one", "another"):
        tracker = SpoolTracker(tracking.spool(), RunFacts(run, run, 0), tracking.pages())
        tracker.tags({"a": "b"})
        tracker.metrics({"loss": 0.5})
    assert ailing(env) == {}
    assert found(env)["MLflow"].said.endswith("; 4 records wait to be sent")


def switch(instance: dg.DagsterInstance, name: str, status: InstigatorStatus, location: CodeLocationOrigin) -> None:
    """As the UI writes it down."""
    where = RemoteRepositoryOrigin(code_location_origin=location, repository_name="__repository__")
    origin = RemoteInstigatorOrigin(repository_origin=where, instigator_name=name)
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, status, SensorInstigatorData()))


def location_of(module: str, name: str) -> CodeLocationOrigin:
    return ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=module), location_name=name)


@pytest.mark.slow
def test_what_was_switched_off_is_named_and_what_others_switched_off_is_not(env: dict[str, str]) -> None:
    ours, theirs = location_of(doctor.DEFINITIONS, "whatever we call it"), location_of("their.code", "theirs")
    with dg.DagsterInstance.get() as instance:
        for name in ("alerts", "watch"):
            switch(instance, name, InstigatorStatus.STOPPED, theirs)
        switch(instance, "new_images", InstigatorStatus.RUNNING, ours)
        assert ailing(env) == {}
        switch(instance, "alerts", InstigatorStatus.STOPPED, ours)
        switch(instance, "heal_nights", InstigatorStatus.STOPPED, ours)
        assert set(ailing(env)) == {"switches"}
        assert ailing(env)["switches"].startswith("switched off: alerts, heal_nights; switch them on")


def test_a_code_server_whose_module_nobody_knows_is_taken_for_ours(env: dict[str, str]) -> None:
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=4000, location_name="container")
    with dg.DagsterInstance.get() as instance:
        switch(instance, "watch", InstigatorStatus.STOPPED, server)
        assert "switched off: watch" in ailing(env)["switches"]


@pytest.mark.slow
def test_a_decision_that_is_missing_or_changed_is_told(pipeline: Pipeline, env: dict[str, str]) -> None:
    env = {**env, "MNIST_PIPELINE_STATE": str(pipeline.state)}
    assert "by decision 1, verified" in found(env)["production"].said
    for _ in range(2):
        pipeline.run("production_digit_classifier")
    pipeline.store.blobs.delete("decisions/00000002.json")
    assert set(ailing(env)) == {"production"}
    assert "missing: decisions/00000002.json" in ailing(env)["production"]
    assert "from a backup" in ailing(env)["production"]


def test_decisions_that_only_answers_know_of_are_told(pipeline: Pipeline, env: dict[str, str]) -> None:
    answered(pipeline.state, "r-1", strokes(1), [1], version="v-2", decision=2)
    said = ailing({**env, "MNIST_PIPELINE_STATE": str(pipeline.state)})["production"]
    assert "was answered under decision 2, and the newest is 1" in said


def test_a_disk_that_is_nearly_full_is_told(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1e18)
    assert "free some" in ailing(env)["disk"]


def test_the_exit_status_is_for_scripts(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 1  # no daemon
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  FAIL")] == ["daemon"]
    assert lines[-1].strip().startswith("1 of ")
