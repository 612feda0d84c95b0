"""Sensors: each new file and each new content is asked for once, when it is whole, whatever is restarted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time
from digit_files import digits, idx_contents, png, strokes, write_idx
from PIL import Image
from pipelines import NIGHT, PROD, Pipeline, metadata
from s3_server import Answer, Proxy, put_long_ago

from mnist_pipeline.assets.data import FULL_SIZE
from mnist_pipeline.sensors import triggers
from mnist_pipeline.sensors.triggers import new_images, new_training_data
from mnist_pipeline.storage.s3_requests import Place


class Sensor:
    """One sensor over a pipeline, with the cursor that a daemon would keep."""

    def __init__(self, pipeline: Pipeline, sensor: dg.SensorDefinition, *names: str) -> None:
        self.pipeline, self.sensor, self.names = pipeline, sensor, names
        self.cursor: str | None = None
        self.said = ""

    def tick(self) -> list[dg.RunRequest]:
        all_of_them = self.pipeline.definitions.resources or {}
        resources = {name: all_of_them[name] for name in self.names}
        with dg.build_sensor_context(self.pipeline.instance, cursor=self.cursor, resources=resources) as context:
            result = self.sensor(context)
        if isinstance(result, dg.SkipReason):
            self.said = str(result.skip_message)
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = str(result.skip_reason.skip_message) if isinstance(result.skip_reason, dg.SkipReason) else ""
        return list(result.run_requests or [])

    def files(self) -> list[str]:
        """The names of the images that are asked for now."""
        return sorted(name for request in self.tick() for name in asked(request))


def asked(request: dg.RunRequest) -> dict[str, str]:
    config: dict[str, Any] = dict(request.run_config)
    return dict(config["ops"]["digit_predictions"]["config"]["inbox_files"])


def drop(folder: Path, *names: str, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, strokes(len(names), seed), strict=True):
        (folder / name).write_bytes(png(image))


# --- new images ---


@pytest.fixture
def images(pipeline: Pipeline) -> Sensor:
    return Sensor(pipeline, new_images, "mail", "models")


def test_each_new_image_is_asked_for_once(images: Sensor) -> None:
    inbox = images.pipeline.inbox
    assert images.files() == []
    drop(inbox, "a.png", "b.png")
    assert images.files() == ["a.png", "b.png"]
    assert images.files() == []
    drop(inbox, "c.png")
    assert images.files() == ["c.png"]
    assert images.files() == []


def test_a_file_that_is_written_again_is_new(images: Sensor) -> None:
    drop(images.pipeline.inbox, "a.png")
    assert images.files() == ["a.png"]
    drop(images.pipeline.inbox, "a.png", seed=7)
    assert images.files() == ["a.png"]


def test_a_file_that_is_still_written_waits(pipeline: Pipeline, tmp_path: Path) -> None:
    patient = Sensor(pipeline.copy(tmp_path / "patient", MNIST_INBOX_SETTLE_S="60"), new_images, "mail", "models")
    drop(patient.pipeline.inbox, "a.png", "b.png.part")
    assert patient.files() == []
    long_ago = time.time() - 120
    os.utime(patient.pipeline.inbox / "a.png", (long_ago, long_ago))
    assert patient.files() == ["a.png"]


def test_arrays_and_other_files_are_left_to_the_night(images: Sensor) -> None:
    drop(images.pipeline.inbox, "many.npy", "notes.txt")
    assert images.files() == []


def test_a_restart_before_the_cursor_was_kept_asks_with_the_same_keys(images: Sensor) -> None:
    drop(images.pipeline.inbox, "a.png", "b.png")
    first = [request.run_key for request in images.tick()]
    images.cursor = None
    assert [request.run_key for request in images.tick()] == first


def test_the_cursor_forgets_files_that_the_night_has_taken(images: Sensor) -> None:
    drop(images.pipeline.inbox, *(f"{i}.png" for i in range(20)))
    images.tick()
    assert len(str(images.cursor)) > 20 * 12
    for path in images.pipeline.inbox.glob("*.png"):
        path.unlink()
    images.tick()
    assert images.cursor == "[]"


def test_many_images_are_asked_for_in_bounded_runs_and_ticks(images: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "FILES_A_RUN", 3)
    monkeypatch.setattr(triggers, "RUNS_A_TICK", 2)
    drop(images.pipeline.inbox, *(f"{i}.png" for i in range(10)))
    sizes = [[len(asked(request)) for request in images.tick()] for _ in range(3)]
    assert sizes == [[3, 3], [3, 1], []]


def test_images_wait_until_a_model_is_in_production(fresh: Pipeline) -> None:
    waiting = Sensor(fresh, new_images, "mail", "models")
    drop(fresh.inbox, "a.png")
    assert waiting.files() == []
    assert "no model is in production yet" in waiting.said


def test_what_is_asked_for_is_answered_and_a_bad_file_fails_nothing(images: Sensor) -> None:
    pipeline = images.pipeline
    drop(pipeline.inbox, "good.png", "gone.png", "claimed.png")
    (pipeline.inbox / "bad.png").write_bytes(b"no image")
    (request,) = images.tick()
    (pipeline.inbox / "gone.png").unlink()
    night = pipeline.inbox / ".claimed" / NIGHT
    night.mkdir(parents=True)
    (pipeline.inbox / "claimed.png").rename(night / "claimed.png")  # the night was faster
    ran = pipeline.run("digit_predictions", digit_predictions={"inbox_files": asked(request)})
    rows = {row["image"]: row for row in pipeline.value("digit_predictions")}
    assert rows.keys() == {"good.png", "bad.png", "gone.png", "claimed.png"}
    assert rows["good.png"]["label"]
    assert rows["claimed.png"]["label"]
    assert "not a PNG" in rows["bad.png"]["reason"]
    assert "changed or taken back" in rows["gone.png"]["reason"]
    assert metadata(ran, "digit_predictions")["unreadable"] == 2


# --- new training data ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_idx(tmp_path / "data", idx_contents(digits(20), digits(10, 1)))


@pytest.fixture
def training(folder: Path, tmp_path: Path) -> Iterator[Sensor]:
    pipeline = Pipeline(tmp_path / "state", MNIST_DATASET="idx", MNIST_DATA_DIR=str(folder))
    with pipeline.instance:
        yield Sensor(pipeline, new_training_data, "source")


def keys(sensor: Sensor, ticks: int = 4) -> list[str]:
    return [str(request.run_key) for _ in range(ticks) for request in sensor.tick()]


def test_the_first_data_is_asked_for_once_it_rests(training: Sensor) -> None:
    assert training.tick() == []
    assert "changing" in training.said
    (request,) = training.tick()
    assert request.asset_selection == [dg.AssetKey("raw_mnist_data")]
    assert keys(training) == []
    assert "nothing has changed" in training.said


def test_changed_content_is_asked_for_once_and_other_dates_are_not(training: Sensor, folder: Path) -> None:
    keys(training)
    write_idx(folder, idx_contents(digits(20), digits(10, 1)))  # the same bytes, written again
    assert keys(training) == []
    write_idx(folder, idx_contents(digits(20, 5), digits(10, 1)))
    assert len(keys(training)) == 1
    assert keys(training) == []


def test_content_that_returns_is_asked_for_again(training: Sensor, folder: Path) -> None:
    first = keys(training)
    write_idx(folder, idx_contents(digits(20, 5), digits(10, 1)))
    second = keys(training)
    write_idx(folder, idx_contents(digits(20), digits(10, 1)))
    third = keys(training)
    assert len({*first, *second, *third}) == 3


def test_data_that_is_still_written_waits(training: Sensor, folder: Path) -> None:
    keys(training)
    for seed in (5, 6, 7):
        write_idx(folder, idx_contents(digits(20, seed), digits(10, 1)))
        assert training.tick() == []
    assert len(keys(training)) == 1


def test_a_restart_with_a_kept_cursor_asks_for_nothing(training: Sensor) -> None:
    keys(training)
    again = Sensor(training.pipeline, new_training_data, "source")
    again.cursor = training.cursor
    assert keys(again) == []


def test_a_folder_that_is_gone_is_an_error_and_no_change(training: Sensor, folder: Path) -> None:
    keys(training)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(OSError, match="no folder that can be read: mount it, or mend MNIST_DATA_DIR"):
        training.tick()
    folder.with_name("elsewhere").rename(folder)
    assert keys(training) == []


FAILURE, CANCELED, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS


def run(sensor: Sensor, request: dg.RunRequest, minutes_ago: float, status: dg.DagsterRunStatus | None) -> None:
    """A run of what was asked for, that ended so, or still goes on."""
    instance = sensor.pipeline.instance
    with freeze_time(datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)):
        made = create_run_for_test(instance, "raw", tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
        if status == FAILURE:
            instance.report_run_failed(made)
        elif status == CANCELED:
            instance.report_run_canceled(made)
        elif status == SUCCESS:
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", "raw"), made.run_id)


def first_request(sensor: Sensor) -> dg.RunRequest:
    return next(request for _ in range(2) for request in sensor.tick())


def test_data_whose_run_failed_is_asked_for_again_with_growing_patience(training: Sensor) -> None:
    request, asked_with = first_request(training), set()
    for minutes in (10, 20, 40, 80, 160, 240, 240):
        asked_with.add(request.run_key)
        run(training, request, minutes - 1, FAILURE)
        assert training.tick() == []
        assert "its run failed, and it is asked for again at" in training.said
        newest = training.pipeline.instance.get_run_records(limit=1)[0]
        training.pipeline.instance.delete_run(newest.dagster_run.run_id)
        run(training, request, minutes + 1, FAILURE)
        (request,) = training.tick()
        assert request.asset_selection == [dg.AssetKey("raw_mnist_data")]
    assert len(asked_with) == 7
    run(training, request, 0, SUCCESS)
    assert keys(training) == []


def test_after_a_restart_what_failed_is_asked_for_again_too(training: Sensor) -> None:
    run(training, first_request(training), 11, FAILURE)
    again = Sensor(training.pipeline, new_training_data, "source")
    again.cursor = training.cursor
    assert len(again.tick()) == 1


@pytest.mark.parametrize("status", [None, CANCELED, SUCCESS])
def test_data_whose_run_goes_on_or_went_well_or_was_cancelled_is_left_alone(
    training: Sensor, status: dg.DagsterRunStatus | None
) -> None:
    request = first_request(training)
    run(training, request, 120, FAILURE)
    run(training, request, 60, status)
    assert keys(training) == []


def test_changed_data_is_asked_for_whatever_became_of_the_last(training: Sensor, folder: Path) -> None:
    run(training, first_request(training), 1, CANCELED)
    write_idx(folder, idx_contents(digits(20, 5), digits(10, 1)))
    assert len(keys(training)) == 1


def test_what_somebody_has_read_since_is_not_asked_for_again(training: Sensor) -> None:
    run(training, first_request(training), 60, FAILURE)
    training.pipeline.run("raw_mnist_data")
    assert keys(training) == []


def materialize(sensor: Sensor, request: dg.RunRequest, minutes_ago: float) -> bool:
    """What the daemon would launch for a request, really run."""
    job = sensor.pipeline.definitions.resolve_implicit_global_asset_job_def()
    with freeze_time(datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)):
        return job.execute_in_process(
            instance=sensor.pipeline.instance,
            asset_selection=list(request.asset_selection or []),
            tags=dict(request.tags),
            raise_on_error=False,
        ).success


def test_data_that_a_check_refuses_is_not_asked_for_again(training: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FULL_SIZE, "idx", 70_000)
    assert not materialize(training, first_request(training), 60)
    assert keys(training) == []


# --- both over S3 ---


@pytest.fixture
def bucket(finished: Pipeline, place: Place, tmp_path: Path) -> Sensor:
    """New images under a prefix."""
    env = {"MNIST_INBOX": f"s3://{place.bucket}/{place.prefix}", "S3_ENDPOINT_URL": place.endpoint}
    return Sensor(finished.copy(tmp_path / "state", **env), new_images, "mail", "models")


def test_each_new_image_in_s3_is_asked_for_once_and_answered_wherever_it_lies(bucket: Sensor, place: Place) -> None:
    for name, image in zip(("a.png", "b/ü.png", "gone.png"), strokes(3), strict=True):
        place.put(name, png(image))
    place.put("bad.png", b"no image")
    place.put("many.npy", b"left to the night")
    (request,) = bucket.tick()
    assert asked(request).keys() == {"a.png", "b/ü.png", "gone.png", "bad.png"}
    assert bucket.files() == []
    place.delete("gone.png")
    bucket.pipeline.mail.open().claim(NIGHT, over=True)  # the night was faster
    place.put("c.png", png(strokes(1, 5)[0]))
    assert bucket.files() == ["c.png"]
    bucket.pipeline.run("digit_predictions", digit_predictions={"inbox_files": asked(request)})
    rows = {row["image"]: row for row in bucket.pipeline.value("digit_predictions")}
    assert rows["a.png"]["label"]
    assert rows["b/ü.png"]["label"]
    assert "not a PNG" in rows["bad.png"]["reason"]
    assert "changed or taken back" in rows["gone.png"]["reason"]


def bmp(seed: int) -> bytes:
    """A picture as a camera may send it: always of the same size, which is more than one part of an upload."""
    buffer = BytesIO()
    Image.fromarray(strokes(1, seed)[0]).resize((2_400, 2_400)).save(buffer, "bmp")
    return buffer.getvalue()


@pytest.mark.parametrize("multipart_above", [1 << 30, 5 << 20])
def test_a_camera_that_overwrites_one_large_file_is_heard_every_time(
    bucket: Sensor, place: Place, multipart_above: int
) -> None:
    camera, requests = replace(place, multipart_above=multipart_above), []
    for seed in (1, 2):
        camera.put("frame.bmp", bmp(seed))
        requests += bucket.tick()
    bucket.pipeline.mail.open().claim(NIGHT, over=False)
    camera.put("frame.bmp", bmp(3))
    requests += bucket.tick()
    assert len({request.run_key for request in requests}) == 3
    assert bucket.files() == []


def test_the_same_bytes_dropped_on_another_day_are_asked_for_with_another_key(bucket: Sensor, place: Place) -> None:
    place.put("a.png", png(strokes(1)[0]))
    put_long_ago(place, 1, "a.png")
    first = bucket.tick()
    bucket.pipeline.mail.open().claim(NIGHT, over=False)
    place.put("a.png", png(strokes(1)[0]))
    assert len({request.run_key for request in [*first, *bucket.tick()]}) == 2


def test_a_restart_before_the_cursor_was_kept_asks_with_the_same_keys_in_s3(bucket: Sensor, place: Place) -> None:
    place.put("a.png", png(strokes(1)[0]))
    first = [request.run_key for request in bucket.tick()]
    bucket.cursor = None
    assert [request.run_key for request in bucket.tick()] == first


@pytest.fixture
def in_s3(place: Place, proxy: Proxy, tmp_path: Path) -> Iterator[Sensor]:
    """Training data under a prefix, behind a proxy that may answer wrongly."""
    write_idx(tmp_path / "idx", idx_contents(digits(20), digits(10, 1)))
    for path in (tmp_path / "idx").iterdir():
        place.put(path.name, path)
    data = f"s3://{place.bucket}/{place.prefix}"
    env = {"MNIST_DATASET": "idx", "MNIST_DATA_DIR": data, "S3_ENDPOINT_URL": proxy.endpoint}
    pipeline = Pipeline(tmp_path / "state", **env)
    with pipeline.instance:
        yield Sensor(pipeline, new_training_data, "source")


def test_training_data_in_s3_is_asked_for_once_and_when_it_changes(in_s3: Sensor, place: Place, tmp_path: Path) -> None:
    assert len(keys(in_s3)) == 1
    for path in (tmp_path / "idx").iterdir():
        place.put(path.name, path)  # the same, put again
    assert keys(in_s3) == []
    write_idx(tmp_path / "idx", idx_contents(digits(20, 5), digits(10, 1)))
    for path in (tmp_path / "idx").iterdir():
        place.put(path.name, path)
    assert len(keys(in_s3)) == 1


def test_data_that_s3_did_not_give_is_asked_for_until_it_does(in_s3: Sensor, proxy: Proxy) -> None:
    request = first_request(in_s3)
    proxy.fault = lambda request: Answer(403, "AccessDenied")
    assert not materialize(in_s3, request, 11)
    proxy.fault = lambda request: None
    (request,) = in_s3.tick()
    assert materialize(in_s3, request, 0)
    assert keys(in_s3) == []


def test_without_a_folder_dev_does_nothing_and_says_so(fresh: Pipeline) -> None:
    sensor = Sensor(fresh, new_training_data, "source")
    assert keys(sensor) == []
    assert "MNIST_DATA_DIR is not set: nothing to watch" in sensor.said


def test_without_a_folder_prod_asks_for_the_first_data(finished: Pipeline, tmp_path: Path) -> None:
    env = {**PROD, "MNIST_PIPELINE_ENV": "prod", "MNIST_DATASET": "mnist"}
    sensor = Sensor(Pipeline(tmp_path / "state", **env), new_training_data, "source")
    (request,) = sensor.tick()
    run(sensor, request, 9, FAILURE)
    assert keys(sensor) == []
    assert "the download was asked for; its run failed, and it is asked for again at" in sensor.said
    run(sensor, request, 0, None)
    assert keys(sensor) == []
    sensor.pipeline.instance = finished.instance  # where there is raw data
    sensor.cursor = None
    assert keys(sensor) == []
    assert "what is downloaded does not change" in sensor.said
