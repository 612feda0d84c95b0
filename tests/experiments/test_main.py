"""`make mlflow`, up to the point where MLflow's own server takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_places import RUN, Place, free_port, put_aside

from mnist_pipeline.experiments.__main__ import main


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MNIST_PIPELINE_ENV", "dev")


def test_where_tracking_is_off_there_is_nothing_to_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    assert main() == 2
    assert "nothing is tracked" in capsys.readouterr().err


def test_a_server_has_a_page_of_its_own_and_what_waits_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with Place(tmp_path / "state", uri).tracker() as tracker:
        tracker.tags({"a": "b"})
    assert main() == 0
    said = capsys.readouterr().out
    assert f"MLflow at {uri} is away" in said
    assert "1 records wait" in said
    assert f"MLflow's UI is at {uri}" in said


def test_refused_records_are_sent_again_or_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    place = Place(tmp_path / "state", uri)
    refused = put_aside(place)
    assert main() == 1
    assert "413 Request Entity Too Large" in capsys.readouterr().err
    assert main(["retry"]) == 0
    assert "2 records wait again" in capsys.readouterr().out
    assert (len(place.spool.waiting(RUN)), refused.names()) == (2, [])
    refused = put_aside(place)
    assert main(["drop"]) == 0
    assert "4 records given up" in capsys.readouterr().out
    assert (place.spool.waiting(RUN), refused.names()) == ([], [])
