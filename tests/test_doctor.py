"""`make doctor`: every line tells the truth, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines import PROD, ROOT
from s3_server import Answer, Proxy
from slack_stand_in import SlackStandIn, slack_stand_in

from mnist_pipeline import doctor
from mnist_pipeline.doctor import Finding, examine
from mnist_pipeline.s3_requests import Place

ELSEWHERE = ("daemon",)  # what a test's own process does not have


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


def test_production_is_well_and_nothing_of_the_examination_stays(prod: dict[str, str], place: Place) -> None:
    assert ailing(prod) == {}
    assert list(place.entries("")) == []


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
    assert set(said) == {"Slack", "MLflow"}
    assert "invalid_auth" in said["Slack"]
    assert "127.0.0.1:9" in said["MLflow"]


def test_a_disk_that_is_nearly_full_is_told(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1e18)
    assert "free some" in ailing(env)["disk"]


def test_the_exit_status_is_for_scripts(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 1  # no daemon
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  FAIL")] == ["daemon"]
    assert lines[-1].strip().startswith("1 of ")
