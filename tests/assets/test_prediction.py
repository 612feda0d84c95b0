"""Batch and single predictions: every image is answered once or refused with a reason, by a named model."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
import time
import zlib
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dagster._core.test_utils import create_run_for_test
from PIL import Image
from pipelines import DATA, NIGHT, TINY, UP_TO_DEPLOYMENT, Pipeline, data_version, flip_a_bit, metadata

from mnist_pipeline.assets.attempts import PARTITION
from mnist_pipeline.assets.prediction import Unpredictable
from mnist_pipeline.ml import idx
from mnist_pipeline.ml.images import read_image
from mnist_pipeline.ml.predictor import Predictor, softmax
from mnist_pipeline.production import NothingDeployed
from mnist_pipeline.store import CorruptVersion

NEXT_NIGHT = "2026-01-06"
FORMATS = {"png": {}, "gif": {}, "bmp": {}, "tiff": {}, "webp": {"lossless": True}, "jpeg": {"quality": 95}}


def encoded(image: np.ndarray, kind: str = "png", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """A few bytes, whole by every checksum, that claim to be side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def drop(pipeline: Pipeline, files: dict[str, bytes], night: str = NIGHT) -> None:
    """Files into the inbox, dated on the day of a night."""
    noon = datetime.fromisoformat(f"{night}T12:00+00:00").timestamp()
    for name, data in files.items():
        path = pipeline.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (noon, noon))


def table(pipeline: Pipeline, night: str = NIGHT) -> list[dict[str, Any]]:
    return pq.ParquetFile(pipeline.state / "predictions" / f"{night}.parquet").read().to_pylist()


def quarantine(pipeline: Pipeline, night: str = NIGHT) -> dict[str, str]:
    rows = pq.ParquetFile(pipeline.state / "predictions" / "quarantine" / f"{night}.parquet").read().to_pylist()
    return {row["file"]: row["reason"] for row in rows}


def probabilities(row: dict[str, Any]) -> list[float]:
    return [row[f"p_{digit}"] for digit in range(10)]


@pytest.fixture
def test_images(finished: Pipeline) -> np.ndarray:
    return finished.digits()["test"].images


@pytest.fixture
def predictor(finished: Pipeline) -> Predictor:
    return Predictor.load(finished.store.load(finished.value("digit_classifier")))


@pytest.fixture
def undeployed(pipeline: Pipeline) -> Pipeline:
    pipeline.store.blobs.delete("decisions/00000001.json")
    return pipeline


# --- batch ---


def test_every_image_of_the_night_is_answered_once(
    pipeline: Pipeline, test_images: np.ndarray, predictor: Predictor
) -> None:
    array, packed = BytesIO(), test_images[4:6]
    np.save(array, test_images[1:4])
    files = {
        "digit.png": encoded(test_images[0]),
        "sub/folder/digit.png": encoded(test_images[0]),
        "three.npy": array.getvalue(),
        "two-ubyte": idx.dump(packed),
    }
    drop(pipeline, files)
    ran = pipeline.run("batch_digit_predictions", night=NIGHT)
    rows = {(row["file"], row["row"]): row for row in table(pipeline)}
    expected = {("digit.png", 0): 0, ("sub/folder/digit.png", 0): 0}
    expected |= {("three.npy", i): i + 1 for i in range(3)} | {("two-ubyte", i): i + 4 for i in range(2)}
    assert len(table(pipeline)) == len(expected)
    assert rows.keys() == expected.keys()
    answers = softmax(predictor.logits(test_images[:6]))
    for key, image in expected.items():
        row = rows[key]
        np.testing.assert_allclose(probabilities(row), answers[image], atol=1e-5)
        assert (row["label"], row["confidence"]) == (str(answers[image].argmax()), max(probabilities(row)))
        assert row["sha256"] == hashlib.sha256(files[key[0]]).hexdigest()
        assert (row["model_version"], row["decision"]) == (pipeline.value("digit_classifier"), 1)
    assert quarantine(pipeline) == {}
    said = metadata(ran, "batch_digit_predictions")
    assert (said["files"], said["predictions"], said["quarantined"], said["empty_inbox"]) == (4, 7, 0, False)
    assert (said["model_version"], said["decision"]) == (pipeline.value("digit_classifier"), 1)
    assert sum(said["labels"].values()) == 7
    assert Path(said["table"]).is_file()


@pytest.mark.parametrize("abstain", [False, True])
def test_a_night_may_abstain_and_says_how_often_it_was_unsure(
    pipeline: Pipeline, test_images: np.ndarray, abstain: bool
) -> None:
    version = pipeline.four_or_nine()
    pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "manual", "version": version})
    drop(pipeline, {"digit.png": encoded(test_images[0]), "blank.png": encoded(np.zeros((28, 28), np.uint8))})
    said = metadata(
        pipeline.run("batch_digit_predictions", night=NIGHT, batch_digit_predictions={"abstain": abstain}),
        "batch_digit_predictions",
    )
    rows = {row["file"]: (row["label"], row["prediction_set"]) for row in table(pipeline)}
    assert rows == {"digit.png": (None if abstain else "4", ["4", "9"]), "blank.png": (None, None)}
    assert said["uncertain"] == 1
    assert said["labels"] == {"no digit": 1, "abstained" if abstain else "4": 1}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_answer_of_the_pixels_in_it(
    pipeline: Pipeline, test_images: np.ndarray, predictor: Predictor, kind: str
) -> None:
    drop(pipeline, {f"digit.{kind}": encoded(test_images[0], kind, **FORMATS[kind])})
    pipeline.run("batch_digit_predictions", night=NIGHT)
    (row,) = table(pipeline)
    answer = softmax(predictor.logits(test_images[:1]))[0]
    assert row["label"] == str(answer.argmax())
    np.testing.assert_allclose(probabilities(row), answer, atol=0.2 if kind == "jpeg" else 1e-6)


def test_what_cannot_be_read_is_quarantined_with_the_reason_and_the_rest_is_answered(
    pipeline: Pipeline, test_images: np.ndarray
) -> None:
    good, noise = encoded(test_images[0]), np.random.default_rng(0).bytes(2_000)
    whole = np.lib.format.magic(1, 0)
    drop(
        pipeline,
        {
            "good.png": good,
            "zero.png": b"",
            "text.png": b"this is not an image at all",
            "truncated.png": good[:-20],
            "flipped.png": good[:60] + bytes([good[60] ^ 1]) + good[61:],
            "noise.jpg": b"\xff\xd8\xff" + noise,
            "huge.png": huge_png(13_000),
            "larger.png": huge_png(100_000),
            "notes.txt": b"buy milk",
            "broken.npy": whole + noise,
            "cut-ubyte": idx.dump(test_images[:3])[:-100],
        },
    )
    ran = pipeline.run("batch_digit_predictions", night=NIGHT)
    assert [row["file"] for row in table(pipeline)] == ["good.png"]
    reasons = quarantine(pipeline)
    said = {
        "zero.png": r"empty \(0 bytes\)",
        "text.png": r"not a PNG.*begins with 'this is not an i'",
        "truncated.png": "cut short or damaged",
        "flipped.png": "cut short or damaged",
        "noise.jpg": "JPEG file is",
        "huge.png": r"13,000 × 13,000 pixels; at most 50,000,000",
        "larger.png": "far over 50,000,000 pixels",
        "notes.txt": r"file type \.txt is not read",
        "broken.npy": r"not a whole \.npy file",
        "cut-ubyte": "drop it again",
    }
    assert reasons.keys() == said.keys()
    assert {name: reasons[name] for name in said if not re.search(said[name], reasons[name])} == {}
    shown = metadata(ran, "batch_digit_predictions")
    assert (shown["files"], shown["predictions"], shown["quarantined"]) == (11, 1, 10)
    assert shown["quarantine_reasons"].items() <= reasons.items()


def test_a_blank_image_is_no_digit_and_not_a_guess(pipeline: Pipeline) -> None:
    drop(pipeline, {"blank.png": encoded(np.full((40, 40), 255, np.uint8))})
    ran = pipeline.run("batch_digit_predictions", night=NIGHT)
    (row,) = table(pipeline)
    assert (row["label"], row["confidence"], row["p_0"]) == (None, None, None)
    assert metadata(ran, "batch_digit_predictions")["labels"] == {"no digit": 1}


def test_a_rerun_gives_the_same_rows(pipeline: Pipeline, test_images: np.ndarray) -> None:
    drop(pipeline, {f"{i}.png": encoded(image) for i, image in enumerate(test_images[:5])} | {"bad.png": b"x"})
    first = pipeline.run("batch_digit_predictions", night=NIGHT)
    rows, refused = table(pipeline), quarantine(pipeline)
    drop(pipeline, {"0.png": encoded(test_images[7]), "late.png": encoded(test_images[8])})
    second = pipeline.run("batch_digit_predictions", night=NIGHT)
    assert (table(pipeline), quarantine(pipeline)) == (rows, refused)
    assert data_version(second, "batch_digit_predictions") == data_version(first, "batch_digit_predictions")
    pipeline.run("batch_digit_predictions", night=NEXT_NIGHT)  # what came late belongs to the next night
    assert [row["file"] for row in table(pipeline, NEXT_NIGHT)] == ["0.png", "late.png"]
    assert table(pipeline) == rows


def test_an_empty_inbox_is_an_empty_table_and_said_so(pipeline: Pipeline) -> None:
    ran = pipeline.run("batch_digit_predictions", night=NIGHT)
    assert (table(pipeline), quarantine(pipeline)) == ([], {})
    said = metadata(ran, "batch_digit_predictions")
    assert (said["empty_inbox"], said["files"], said["predictions"]) == (True, 0, 0)
    assert any(f"nothing in the inbox {pipeline.inbox} was for it" in line for line in pipeline.messages(ran))


def test_a_file_that_is_still_written_waits(finished: Pipeline, tmp_path: Path, test_images: np.ndarray) -> None:
    patient, tonight = finished.copy(tmp_path / "state", MNIST_INBOX_SETTLE_S="600"), days_ago(0)
    drop(patient, {name: encoded(test_images[0]) for name in ("growing.png", "settled.png", "upload.png.part")})
    (patient.inbox / "growing.png").touch()
    ran = patient.run("batch_digit_predictions", night=tonight)
    assert [row["file"] for row in table(patient, tonight)] == ["settled.png"]
    assert metadata(ran, "batch_digit_predictions")["still_waiting"] == 1
    os.utime(patient.inbox / "growing.png", (time.time() - 700,) * 2)
    patient.run("batch_digit_predictions", night=tonight)
    assert [row["file"] for row in table(patient, tonight)] == ["growing.png", "settled.png"]
    assert (patient.inbox / "upload.png.part").is_file()


# --- a night holds the files of its day ---


def days_ago(days: int) -> str:
    """A night, by its date."""
    return (datetime.now(timezone.utc).date() - timedelta(days=days)).isoformat()


def files(pipeline: Pipeline, night: str) -> list[str]:
    """Predict a night -> the files in its table."""
    pipeline.run("batch_digit_predictions", night=night)
    return sorted(row["file"] for row in table(pipeline, night))


def test_a_night_that_is_over_leaves_what_came_later_and_takes_what_was_left(
    pipeline: Pipeline, test_images: np.ndarray
) -> None:
    image = encoded(test_images[0])
    for night in ("2026-01-04", NIGHT, NEXT_NIGHT):
        drop(pipeline, {f"of {night}.png": image}, night)
    drop(pipeline, {"today.png": image}, days_ago(0))
    assert files(pipeline, NIGHT) == ["of 2026-01-04.png", f"of {NIGHT}.png"]
    assert files(pipeline, NEXT_NIGHT) == [f"of {NEXT_NIGHT}.png"]
    assert files(pipeline, "2026-01-07") == []


@pytest.mark.parametrize(("zone", "night"), [("Pacific/Kiritimati", NEXT_NIGHT), ("Pacific/Pago_Pago", NIGHT)])
def test_a_day_ends_in_the_configured_timezone(
    finished: Pipeline, tmp_path: Path, test_images: np.ndarray, zone: str, night: str
) -> None:
    """Noon of the 5th in UTC is the 6th at Kiritimati, and still the 5th on Samoa."""
    there = finished.copy(tmp_path / "state", MNIST_PIPELINE_TIMEZONE=zone)
    drop(there, {"noon.png": encoded(test_images[0])})
    nights = {each: files(there, each) for each in (NIGHT, NEXT_NIGHT)}
    assert nights == {NIGHT: [], NEXT_NIGHT: [], night: ["noon.png"]}


@pytest.mark.parametrize("order", [(3, 2, 1), (1, 2, 3), (2, 3, 1)])
def test_nights_that_are_caught_up_take_each_its_own_in_any_order(
    pipeline: Pipeline, test_images: np.ndarray, order: tuple[int, ...]
) -> None:
    image = encoded(test_images[0])
    for days in (3, 2, 1):
        drop(pipeline, {f"{days}.png": image}, days_ago(days))
        create_run_for_test(pipeline.instance, "batch_inference", tags={PARTITION: days_ago(days)})
    drop(pipeline, {"older.png": image})
    found = {days: files(pipeline, days_ago(days)) for days in order}
    assert found == {3: ["3.png", "older.png"], 2: ["2.png"], 1: ["1.png"]}


def test_a_night_that_is_not_over_takes_everything_that_waits(pipeline: Pipeline, test_images: np.ndarray) -> None:
    """A person has asked for it, who dropped files now, or moved there with the dates that they had."""
    image = encoded(test_images[0])
    create_run_for_test(pipeline.instance, "batch_inference", tags={PARTITION: days_ago(2)})
    for name, night in (("now.png", days_ago(0)), ("missed.png", days_ago(2)), ("old.png", NIGHT)):
        drop(pipeline, {name: image}, night)
    (pipeline.inbox / "now.png").touch()
    drop(pipeline, {"wrong clock.png": image}, days_ago(-400))
    assert files(pipeline, days_ago(0)) == ["missed.png", "now.png", "old.png", "wrong clock.png"]


def test_rows_name_the_decision_that_was_in_force(pipeline: Pipeline, test_images: np.ndarray) -> None:
    drop(pipeline, {"one.png": encoded(test_images[0])})
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "manual", "version": other})
    pipeline.run("batch_digit_predictions", night=NIGHT)
    assert [(row["model_version"], row["decision"]) for row in table(pipeline)] == [(other, 2)]


# --- no model that can be trusted ---


def test_without_a_deployed_model_the_batch_says_what_to_do_and_claims_nothing(
    undeployed: Pipeline, test_images: np.ndarray
) -> None:
    drop(undeployed, {"one.png": encoded(test_images[0])})
    with pytest.raises(NothingDeployed, match=r"no model is in production: run `make run`"):
        undeployed.run("batch_digit_predictions", night=NIGHT)
    assert (undeployed.inbox / "one.png").is_file()
    assert not (undeployed.state / "predictions").exists()


def test_without_a_deployed_model_single_prediction_says_what_to_do(undeployed: Pipeline) -> None:
    with pytest.raises(NothingDeployed, match=r"materialize '\+key:production_digit_classifier'"):
        undeployed.run("digit_predictions")


@pytest.mark.parametrize("file", ["model.onnx", "weights.safetensors", "golden.safetensors", "card.json"])
def test_a_model_with_a_flipped_bit_answers_nothing(pipeline: Pipeline, test_images: np.ndarray, file: str) -> None:
    drop(pipeline, {"one.png": encoded(test_images[0])})
    name = pipeline.value("digit_classifier")
    flip_a_bit(pipeline.state / "models" / "versions" / name / file)
    for asset, night in (("batch_digit_predictions", NIGHT), ("digit_predictions", None)):
        with pytest.raises(CorruptVersion, match=f"{name}, {file}"):
            pipeline.run(asset, night=night)
    assert (pipeline.inbox / "one.png").is_file()
    assert not (pipeline.state / "predictions").exists()


# --- single ---


def test_without_configuration_it_predicts_images_of_the_test_set(
    pipeline: Pipeline, test_images: np.ndarray, predictor: Predictor
) -> None:
    ran = pipeline.run("digit_predictions")
    rows = pipeline.value("digit_predictions")
    answers = softmax(predictor.logits(test_images[:10]))
    assert [row["image"] for row in rows] == [f"test image {i}" for i in range(10)]
    assert [row["label"] for row in rows] == [str(label) for label in answers.argmax(1)]
    np.testing.assert_allclose([list(row["probabilities"].values()) for row in rows], answers, atol=1e-6)
    said = metadata(ran, "digit_predictions")
    assert said["source"] == "first images of the test set"
    assert said["what_the_network_saw"].startswith("![answers](data:image/png;base64,")
    assert (said["model_version"], said["decision"]) == (pipeline.value("digit_classifier"), 1)


@pytest.mark.parametrize(
    ("images", "drawn"), [(10, "10 of 10 images"), (11, "11 of 11 images"), (131, "130 of 131 images")]
)
def test_more_images_than_ten_are_drawn_as_a_sheet_and_what_is_left_out_is_said(
    pipeline: Pipeline, test_images: np.ndarray, images: int, drawn: str
) -> None:
    texts = [base64.b64encode(encoded(image)).decode() for image in test_images[:images]]
    said = metadata(pipeline.run("digit_predictions", digit_predictions={"images": texts}), "digit_predictions")
    assert (said["drawn"], len(said["answers"].records)) == (drawn, images)
    sheet = pipeline.state / "pictures" / "digit_predictions" / "more_answers.png"
    assert ("what_it_saw_further" in said) == sheet.exists() == (images > 10)
    if sheet.exists():
        assert said["what_it_saw_further"].startswith("![more_answers](data:image/png;base64,")


def test_paths_and_base64_are_answered_with_label_confidence_and_probabilities(
    pipeline: Pipeline, test_images: np.ndarray, predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(encoded(test_images[0]))
    config = {"paths": [str(path)], "images": [base64.b64encode(encoded(test_images[1])).decode()]}
    ran = pipeline.run("digit_predictions", digit_predictions=config)
    first, second = pipeline.value("digit_predictions")
    assert (first["image"], second["image"]) == (str(path), "image 1")
    for row, answer in zip((first, second), softmax(predictor.logits(test_images[:2])), strict=True):
        assert row["label"] == str(answer.argmax())
        assert row["confidence"] == row["probabilities"][row["label"]] == pytest.approx(float(answer.max()), abs=1e-6)
        assert (row["model_version"], row["decision"]) == (pipeline.value("digit_classifier"), 1)
    assert metadata(ran, "digit_predictions")["source"] == "run configuration"


def test_every_image_that_cannot_be_read_is_named_in_one_error(
    pipeline: Pipeline, test_images: np.ndarray, tmp_path: Path
) -> None:
    good, text = tmp_path / "good.png", tmp_path / "text.png"
    good.write_bytes(encoded(test_images[0]))
    text.write_bytes(b"hello")
    config = {
        "paths": [str(good), str(text), str(tmp_path / "missing.png"), "nul\0.png", "~no-such-person/7.png"],
        "images": ["not base64!", "ümlaut", base64.b64encode(huge_png(13_000)).decode()],
    }
    with pytest.raises(Unpredictable) as error:
        pipeline.run("digit_predictions", digit_predictions=config)
    _, *faults = str(error.value).splitlines()
    named = [
        str(text),
        f"{tmp_path}/missing.png",
        "nul\0.png",
        "~no-such-person/7.png",
        "image 1",
        "image 2",
        "image 3",
    ]
    assert [fault.split(": ")[0] for fault in faults] == named
    assert "begins with 'hello'" in faults[0]
    assert "No such file" in faults[1]
    assert "13,000 × 13,000" in faults[6]
    assert not (pipeline.state / "assets" / "digit_predictions.json").exists()


def test_a_blank_image_among_others_has_no_label(pipeline: Pipeline, test_images: np.ndarray) -> None:
    blank = np.zeros((28, 28), np.uint8)
    images = [base64.b64encode(encoded(image)).decode() for image in (blank, test_images[0])]
    pipeline.run("digit_predictions", digit_predictions={"images": images})
    nothing, digit = pipeline.value("digit_predictions")
    assert (nothing["label"], nothing["confidence"], nothing["probabilities"]) == (None, None, None)
    assert digit["label"] is not None


def test_only_blank_images_are_no_reason_to_fail(pipeline: Pipeline) -> None:
    blank = base64.b64encode(encoded(np.zeros((28, 28), np.uint8))).decode()
    pipeline.run("digit_predictions", digit_predictions={"images": [blank]})
    assert [row["label"] for row in pipeline.value("digit_predictions")] == [None]


# --- one front door, one predictor ---


def test_batch_and_single_give_the_same_answer_for_the_same_file(
    pipeline: Pipeline, test_images: np.ndarray, tmp_path: Path
) -> None:
    enlarged = [np.asarray(Image.fromarray(255 - image).resize((90, 110))) for image in test_images[:5]]
    files = {f"{i}.png": encoded(image) for i, image in enumerate([*test_images[:5], *enlarged])}
    drop(pipeline, files)
    pipeline.run("batch_digit_predictions", night=NIGHT)
    claimed = [str(pipeline.inbox / ".claimed" / NIGHT / name) for name in files]
    pipeline.run("digit_predictions", digit_predictions={"paths": claimed})
    batch = {row["file"]: row for row in table(pipeline)}
    for single in pipeline.value("digit_predictions"):
        row = batch[Path(single["image"]).name]
        assert row["label"] == single["label"]
        np.testing.assert_allclose(probabilities(row), list(single["probabilities"].values()), atol=1e-6)


def test_a_png_of_a_test_image_gives_exactly_the_logits_of_the_array(
    test_images: np.ndarray, predictor: Predictor
) -> None:
    read = [read_image(encoded(image)) for image in test_images]
    assert all(image is not None for image in read)
    np.testing.assert_array_equal(predictor.logits(np.stack(read)), predictor.logits(test_images))


def test_images_and_class_names_of_ones_own_go_all_the_way(tmp_path: Path) -> None:
    """A folder of pictures, one sub-folder a class: bars across and bars down."""
    chance = np.random.default_rng(0)
    for name in ("across", "down"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(60):
            picture = chance.integers(0, 40, (32, 32)).astype(np.uint8)
            at = int(chance.integers(6, 22))
            picture[(slice(at, at + 4), slice(4, 28)) if name == "across" else (slice(4, 28), slice(at, at + 4))] = 250
            Image.fromarray(picture).save(tmp_path / "own" / name / f"{i}.png")
    own = Pipeline(
        tmp_path / "state", MNIST_DATASET="images", MNIST_DATA_DIR=str(tmp_path / "own"), MNIST_PREPARATION="resize"
    )
    own.run(
        *UP_TO_DEPLOYMENT, digit_classifier={**TINY, "min_steps": 60}, production_digit_classifier={"min_accuracy": 0.6}
    )
    drop(own, {"a.png": (tmp_path / "own" / "down" / "0.png").read_bytes()})
    own.run("batch_digit_predictions", night=NIGHT)
    (row,) = table(own)
    assert row["label"] == "down"
    assert row["p_across"] + row["p_down"] == pytest.approx(1)
    assert set(DATA) < {path.stem for path in (own.state / "assets").iterdir()}
