"""The sensor new_feedback: to begin with, then for what people say, once it is whole and at most once an hour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from digit_files import strokes
from people import on_the_page
from pipelines import DATA, Pipeline
from test_triggers import Sensor

from mnist_pipeline.assets.feedback import feedback_digits
from mnist_pipeline.sensors import feedback
from mnist_pipeline.sensors.feedback import new_feedback


@pytest.fixture
def learning(finished: Pipeline, tmp_path: Path) -> Sensor:
    pipeline = finished.copy(tmp_path / "learning", MNIST_FEEDBACK="train")
    pipeline.run(*DATA)
    return Sensor(pipeline, new_feedback, "served")


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether the hour since the last reading is over."""
    return lambda over: monkeypatch.setattr(feedback, "AT_MOST_EVERY", timedelta(hours=0 if over else 1))


def test_it_waits_for_training_data_and_then_asks_to_begin_with(fresh: Pipeline) -> None:
    sensor = Sensor(fresh, new_feedback, "served")
    assert sensor.tick() == []
    assert "no training data yet" in sensor.said
    fresh.run("raw_mnist_data")
    (request,) = sensor.tick()
    assert request.asset_selection == [dg.AssetKey("feedback_digits")]
    fresh.run("feedback_digits")
    assert sensor.tick() == []
    assert "MNIST_FEEDBACK=off" in sensor.said


def test_off_it_asks_for_nothing_whatever_people_say(fresh: Pipeline, an_hour_later: Callable[[bool], None]) -> None:
    fresh.run(*DATA)
    on_the_page(fresh.state, strokes(1)[0], "7")
    an_hour_later(True)
    sensor = Sensor(fresh, new_feedback, "served")
    assert sensor.tick() == sensor.tick() == []


def test_feedback_is_asked_for_once_it_is_whole_and_once_an_hour(
    learning: Sensor, an_hour_later: Callable[[bool], None]
) -> None:
    assert learning.tick() == []
    on_the_page(learning.pipeline.state, strokes(1, seed=8)[0], "7")
    assert learning.tick() == []
    assert "changing" in learning.said
    assert learning.tick() == []
    assert "within the hour" in learning.said
    an_hour_later(True)
    (first,) = learning.tick()
    learning.pipeline.run("feedback_digits")
    assert learning.tick() == []
    on_the_page(learning.pipeline.state, strokes(1, seed=9)[0], "7")
    assert learning.tick() == []
    (second,) = learning.tick()
    assert first.run_key != second.run_key


def test_while_its_run_goes_on_nothing_more_is_asked_for(
    learning: Sensor, an_hour_later: Callable[[bool], None]
) -> None:
    on_the_page(learning.pipeline.state, strokes(1, seed=8)[0], "7")
    tags = {"dagster/sensor_name": "new_feedback"}
    job = learning.pipeline.definitions.resolve_job_def("training")
    learning.pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    an_hour_later(True)
    learning.tick()
    assert learning.tick() == []
    assert "is to read it" in learning.said


def test_other_code_is_asked_for_at_once(learning: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert learning.tick() == []
    newer = {feedback_digits.key: "another"}
    monkeypatch.setattr(type(feedback_digits), "code_versions_by_key", property(lambda _: newer))
    assert len(learning.tick()) == 1
