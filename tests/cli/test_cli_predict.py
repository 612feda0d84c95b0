"""`mnist-pipeline predict`: the same answers as production gives, whatever the images come in."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from commands import document, rows, told
from digit_files import hugging_face, parquet, png
from pipelines import Pipeline, flip_a_bit

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.images import read_image
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.ml.predictor import ONNX
from mnist_pipeline.production import load_production


@pytest.fixture
def image(finished: Pipeline) -> np.ndarray:
    """One that shows a digit."""
    return finished.digits()["test"].images[0]


@pytest.fixture
def photo(image: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png(np.kron(255 - image, np.ones((5, 5), np.uint8))))
    return path


def label_of(pipeline: Pipeline, image: np.ndarray | None) -> str:
    assert image is not None
    production = load_production(pipeline.store)
    return production.card.class_names[int(production.predictor.predict(image[None]).labels[0])]


def all_ones(network: DigitCNN) -> None:
    """Sees a 1 in everything."""
    network.classifier.bias[1] += 50


def test_a_photo_is_answered_as_production_answers(finished: Pipeline, photo: Path) -> None:
    label = label_of(finished, read_image(photo.read_bytes()))
    result = told(finished, "predict", str(photo))
    assert (result.exit_code, result.stderr) == (0, "")
    head, row = rows(result)
    assert head == ["file", "label", "confidence", "set", "version", "decision"]
    assert row[:2] == [str(photo), label]
    assert row[4:] == [finished.value("digit_classifier"), "1"]
    assert row[2].endswith(" %")


def test_scripts_get_one_document(finished: Pipeline, photo: Path) -> None:
    said = document(finished, "predict", str(photo), str(photo))
    assert said["model_version"] == finished.value("digit_classifier")
    assert (said["decision"], said["unreadable"]) == (1, [])
    one, two = said["predictions"]
    assert one == two
    assert (one["file"], one["row"]) == (str(photo), 0)
    assert one["label"] == max(one["probabilities"], key=one["probabilities"].get)
    assert one["confidence"] == one["probabilities"][one["label"]]
    assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert list(one["probabilities"]) == [str(number) for number in range(10)]


def test_stdin_is_read_where_a_dash_stands(finished: Pipeline, photo: Path) -> None:
    named, piped = document(finished, "predict", str(photo), "-", stdin=photo.read_bytes())["predictions"]
    assert piped == {**named, "file": "-"}


@pytest.mark.parametrize("name", ["some.npy", "some-images-idx3-ubyte", "some-images-idx3-ubyte.gz", "some.parquet"])
def test_arrays_are_answered_row_by_row(finished: Pipeline, tmp_path: Path, name: str) -> None:
    images = finished.digits()["test"].images[:4].copy()
    images[2] = 0  # nothing on it
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, images)
    elif name.endswith(".parquet"):
        path.write_bytes(parquet(image=hugging_face([png(image) for image in images])))
    else:
        path.write_bytes(gzip.compress(idx.dump(images)) if name.endswith(".gz") else idx.dump(images))
    answers = document(finished, "predict", str(path))["predictions"]
    assert [answer["row"] for answer in answers] == [0, 1, 2, 3]
    labels = [label_of(finished, images[row]) if row != 2 else None for row in range(4)]
    assert [answer["label"] for answer in answers] == labels
    assert answers[2]["reason"] == "no digit on the image"
    shown = rows(told(finished, "predict", str(path)))
    assert [row[0] for row in shown[1:]] == [f"{path}[{row}]" for row in range(4)]
    assert shown[3][1:3] == ["no digit on the image", "–"]


def test_an_array_larger_than_is_read_at_once_keeps_its_order(
    finished: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.npy"
    np.save(path, finished.digits()["test"].images[:7])
    whole = document(finished, "predict", str(path))
    monkeypatch.setattr("mnist_pipeline.cli.pictures.BYTES_AT_ONCE", 2 * 784)
    assert document(finished, "predict", str(path)) == whole


def test_what_cannot_be_read_is_told_and_the_rest_is_answered(finished: Pipeline, photo: Path, tmp_path: Path) -> None:
    text, cut, gone = tmp_path / "notes.txt", tmp_path / "cut.npy", tmp_path / "gone.npy"
    text.write_text("seven")
    cut.write_bytes(b"\x93NUMPY")
    asked = [str(each) for each in (text, photo, cut, gone, tmp_path)]
    result = told(finished, "predict", *asked)
    assert result.exit_code == 1
    assert [row[0] for row in rows(result)[1:]] == [str(photo)]
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"error: {text}: not a PNG, JPEG")
    assert lines[1].startswith(f"error: {cut}: it is not a whole .npy file")
    assert lines[2] == f"error: {gone}: the file cannot be read: No such file or directory"
    assert lines[3] == f"error: {tmp_path}: the file cannot be read: Is a directory"
    said = document(finished, "predict", *asked, code=1)
    assert [each["file"] for each in said["unreadable"]] == [asked[0], asked[2], asked[3], asked[4]]
    assert len(said["predictions"]) == 1


def test_a_table_with_a_row_that_cannot_be_read_is_told_with_its_number(finished: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    path.write_bytes(parquet(image=hugging_face([png(finished.digits()["test"].images[0]), b"seven", None])))
    (fault,) = document(finished, "predict", str(path), code=1)["unreadable"]
    assert fault["reason"].startswith("row 1: not a PNG, JPEG")
    assert fault["reason"].endswith("row 2: there is no image in it")


def test_a_file_without_end_is_not_read_to_its_end(finished: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_pipeline.cli.pictures.LARGEST_FILE", 1000)
    (fault,) = document(finished, "predict", "/dev/zero", code=1)["unreadable"]
    assert fault["reason"] == "it has more than 1,000 bytes: make the picture smaller"


def test_a_name_cannot_command_the_terminal(finished: Pipeline, photo: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a\x1b[31mb\nc[red].png"
    odd.write_bytes(photo.read_bytes())
    odder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    odder.write_bytes(photo.read_bytes())
    result = told(finished, "predict", str(odd), str(odder))
    assert "\x1b" not in result.output
    assert [row[0] for row in rows(result)[1:]] == [rf"{tmp_path}/a\x1b[31mb\nc[red].png", rf"{tmp_path}/\udcff.png"]
    names = [each["file"] for each in document(finished, "predict", str(odd), str(odder))["predictions"]]
    assert names == [str(odd), str(odder)]


def test_another_version_can_be_asked(pipeline: Pipeline, photo: Path) -> None:
    other = pipeline.variant(all_ones)
    said = document(pipeline, "predict", "--version", other, str(photo))
    assert (said["model_version"], said["decision"]) == (other, None)
    assert rows(told(pipeline, "predict", "--version", other, str(photo)))[1][3:] == ["–", other, "–"]
    assert said["predictions"][0]["label"] == "1"
    assert document(pipeline, "predict", str(photo))["predictions"] != said["predictions"]


def test_without_a_model_it_says_what_to_do(fresh: Pipeline, photo: Path) -> None:
    result = told(fresh, "predict", str(photo))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("error: no model is in production: run `make run`")
    assert told(fresh, "predict", "--json", str(photo)).exit_code == 3


def test_an_unknown_version_is_told_apart_from_a_bad_name(finished: Pipeline, photo: Path) -> None:
    unknown = told(finished, "predict", "--version", "digitcnn-9", str(photo))
    assert (unknown.exit_code, unknown.stdout) == (4, "")
    assert finished.value("digit_classifier") in unknown.stderr
    bad = told(finished, "predict", "--version", "../../x", str(photo))
    assert bad.exit_code == 2
    assert "is no name for the store" in bad.stderr


@pytest.mark.parametrize("named", [True, False])
def test_a_damaged_version_answers_nothing(pipeline: Pipeline, photo: Path, named: bool) -> None:
    version = pipeline.value("digit_classifier")
    flip_a_bit(pipeline.state / "models" / "versions" / version / ONNX)
    result = told(pipeline, "predict", *(["--version", version] if named else []), str(photo))
    assert (result.exit_code, result.stdout) == (7, "")
    assert f"version {version}, {ONNX}: its sha256 is not the one on the card. Do not serve it" in result.stderr


def test_no_file_is_wrong_usage(finished: Pipeline) -> None:
    result = told(finished, "predict")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing argument" in result.stderr


def test_what_it_may_be_is_told_and_abstained_from_where_that_is_wanted(pipeline: Pipeline, photo: Path) -> None:
    version = pipeline.four_or_nine()
    (plain,) = document(pipeline, "predict", "--version", version, str(photo))["predictions"]
    assert (plain["label"], plain["set"]) == ("4", ["4", "9"])
    (unsure,) = document(pipeline, "predict", "--version", version, "--abstain", str(photo))["predictions"]
    assert (unsure["label"], unsure["set"]) == (None, ["4", "9"])
    assert unsure["confidence"] == plain["confidence"]
    shown = rows(told(pipeline, "predict", "--version", version, "--abstain", str(photo)))[1]
    assert shown[1:4:2] == ["4 or 9: not sure enough to say which", "4, 9"]
