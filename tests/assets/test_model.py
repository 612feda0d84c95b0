"""digit_classifier: settings reach the card, the same settings give the same version, and a bad run stores nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

import dagster as dg
import numpy as np
import pytest
from pipelines import BARELY, DATA, TINY, Pipeline, data_version, metadata, verdicts

from mnist_pipeline.assets.model import SHOWN, _augmentation
from mnist_pipeline.ml import idx, plots
from mnist_pipeline.ml.artifacts import load_network, torch_logits
from mnist_pipeline.ml.config import PRESETS, ModelConfig, configure
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.plots import contact_sheet
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.training import TrainingDiverged


def test_the_first_run_passed_every_check(result: dg.ExecuteInProcessResult) -> None:
    assert len(verdicts(result)) == 12
    assert all(verdicts(result).values())


def test_the_value_is_a_whole_version_in_the_store(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    name = finished.value("digit_classifier")
    assert finished.store.versions() == [name] == [metadata(result, "digit_classifier")["version"]]
    networks = ["conformal.json", "golden.safetensors", "model.onnx", "reference.safetensors", "weights.safetensors"]
    assert sorted(finished.store.load(name)) == networks


def test_the_card_says_how_the_version_came_about(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    card = finished.store.card(finished.value("digit_classifier"))
    said = metadata(result, "digit_classifier")
    assert card.config == configure("fast", **TINY).model_dump() == said["config"]
    assert card.data_version == data_version(result, "processed_mnist_data")
    assert card.metrics["validation_accuracy"] == said["validation_accuracy"] > 0.9
    assert card.run_id == result.run_id
    assert (card.dataset, card.preparation, card.class_names) == ("embedded", "ink", list("0123456789"))
    tags = result.asset_materializations_for_node("digit_classifier")[0].tags or {}
    assert card.code_version == tags["dagster/code_version"]
    assert card.digest == tags["dagster/data_version"]


def test_the_name_says_architecture_training_accuracy_and_digest(finished: Pipeline) -> None:
    name = finished.value("digit_classifier")
    card = finished.store.card(name)
    accuracy = f"{card.metrics['validation_accuracy'] * 1e4:.0f}"
    trained = f"{card.config['optimizer']}-b{card.config['batch_size']}-e{card.config['epochs']}"
    assert name == f"digitcnn-4x8x8-{trained}-acc{accuracy}-{card.digest[:12]}"


@pytest.mark.parametrize(("images", "columns"), [(5, 5), (40, SHOWN)])
def test_augmented_images_are_shown_below_those_that_they_were(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, images: int, columns: int
) -> None:
    sheets = []

    def drawn(pixels: np.ndarray, names: list[str], columns: int) -> bytes:
        sheets.append((pixels, len(names), columns))
        return contact_sheet(pixels, names, columns=columns)

    monkeypatch.setattr(plots, "contact_sheet", drawn)
    digits = finished.digits()
    train = digits["train"].take(np.arange(images))
    few = replace(digits, parts={**digits.parts, "train": train})
    shown = _augmentation(ModelConfig(rotation=10), few, finished.pictures)
    assert str(shown.value).startswith("![")
    ((pixels, names, wide),) = sheets
    assert (len(pixels), names, wide) == (4 * columns, 4 * columns, columns)
    assert np.array_equal(pixels[:columns], train.images[:columns])
    assert not np.array_equal(pixels[columns : 2 * columns], pixels[:columns])


def test_the_log_has_a_line_an_epoch(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    lines = [line for line in finished.messages(result) if line.startswith("epoch ")]
    epochs = metadata(result, "digit_classifier")["epochs"]
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/{epochs}" for i in range(1, epochs + 1)]
    line = r"epoch \d+/\d+: loss [\d.]+, validation loss [\d.]+, validation accuracy [\d.]+%( \(best\))?, "
    line += r"[\d,]+ images/s, \d+ s left"
    assert all(re.fullmatch(line, each) for each in lines)


def test_training_curves_are_shown(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    assert metadata(result, "digit_classifier")["training_curves"].startswith(
        "![training_curves](data:image/png;base64,"
    )
    assert (finished.state / "pictures" / "digit_classifier" / "training_curves.png").is_file()


def test_torch_and_onnx_give_the_same_logits(finished: Pipeline) -> None:
    name, images = finished.value("digit_classifier"), finished.digits()["test"].images
    files = finished.store.load(name)
    network = load_network(files, ModelConfig(**finished.store.card(name).config), 10)
    assert np.abs(torch_logits(network, images) - Predictor.load(files).logits(images)).max() < 1e-4


def own_files(folder: Path, data: DigitData) -> dict[str, str]:
    """What a pipeline needs to begin with these images as IDX files."""
    folder.mkdir()
    for part, prefix in (("train", "train"), ("test", "t10k")):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx.dump(data[part].images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.dump(data[part].labels))
    return {"MNIST_DATASET": "idx", "MNIST_DATA_DIR": str(folder)}


def test_the_test_set_has_no_part_in_a_training(finished: Pipeline, tmp_path: Path) -> None:
    """With noise and with other labels in its place, the same data to learn from gives the same files."""
    raw, chance = finished.digits("raw_mnist_data"), np.random.default_rng(0)
    test, trained = raw["test"], []
    noise = LabeledImages(chance.integers(0, 256, test.images.shape, np.uint8), test.labels)
    relabelled = LabeledImages(test.images, (test.labels + 1) % 10)
    for i, other in enumerate((test, noise, relabelled)):
        env = own_files(tmp_path / f"files {i}", DigitData({**raw.parts, "test": other}, raw.origin))
        pipeline = Pipeline(tmp_path / f"state {i}", **env)
        pipeline.run(*DATA, "digit_classifier", digit_classifier=BARELY)
        assert np.array_equal(pipeline.digits()["test"].images, other.images)
        assert np.array_equal(pipeline.digits()["test"].labels, other.labels)
        trained.append(pipeline.store.load(pipeline.value("digit_classifier")))
    assert trained[0]["weights.safetensors"]
    assert trained[1] == trained[2] == trained[0]


# --- the bar ---


@contextmanager
def a_terminal() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A pseudo-terminal to write to, and what was drawn on it so far."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    drawn: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # which is how Linux tells that nobody holds the other end any more
            while part := os.read(ours, 4096):
                drawn.append(part)

    reader = Thread(target=read)
    reader.start()

    def text() -> str:
        terminal.close()
        reader.join(10)
        return b"".join(drawn).decode()

    with os.fdopen(theirs, "w") as terminal:
        yield terminal, text
    reader.join(10)
    os.close(ours)


def test_on_a_terminal_a_bar_shows_how_far_a_training_is(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal() as (terminal, text):
        monkeypatch.setattr("sys.stderr", terminal)
        pipeline.run("digit_classifier", digit_classifier={**BARELY, "seed": 1})
        drawn = text()
    assert re.search(r"training:\s+\d+%\|.*\| \d+/48 \[", drawn), drawn


def test_where_there_is_no_terminal_there_is_no_bar(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr("sys.stderr", log)
        pipeline.run("digit_classifier", digit_classifier={**BARELY, "seed": 1})
    said = (tmp_path / "log").read_text()
    assert "epoch 3/3" in said
    assert "training:" not in said
    assert "step/s" not in said


# --- settings ---


def test_the_same_settings_give_the_same_version_and_leave_the_store_as_it_was(
    pipeline: Pipeline, result: dg.ExecuteInProcessResult
) -> None:
    name, stored = pipeline.value("digit_classifier"), pipeline.stored()
    again = pipeline.run("digit_classifier", digit_classifier=TINY)
    assert pipeline.value("digit_classifier") == name
    assert data_version(again, "digit_classifier") == data_version(result, "digit_classifier")
    assert pipeline.stored() == stored


def test_another_seed_gives_another_version_and_the_first_one_stays(pipeline: Pipeline) -> None:
    stored = pipeline.stored()
    pipeline.run("digit_classifier", digit_classifier={**TINY, "min_steps": 60, "seed": 1})
    assert len(pipeline.store.versions()) == 2
    assert stored.items() < pipeline.stored().items()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_and_what_is_set_beside_it_reach_the_card(pipeline: Pipeline, preset: str) -> None:
    beside = {
        **TINY,
        "width_3": 6,
        "embedding": 8,
        "depth": 1,
        "batch_size": 200,
        "epochs": 1,
        "min_steps": 20,
        "optimizer": "sgd",
        "schedule": "cosine",
        "seed": 3,
    }
    ran = pipeline.try_run("digit_classifier", digit_classifier={"preset": preset, **beside})
    card = pipeline.store.card(pipeline.value("digit_classifier"))
    assert card.config == {**ModelConfig().model_dump(), **PRESETS[preset], **beside}
    shape = {"resnet": "resnet-4x8x6-n1", "vit": "vit-p7-8x1-h4"}.get(preset, "digitcnn-4x8x6")
    assert card.name.startswith(f"{shape}-sgd-b200-e1-")
    assert metadata(ran, "digit_classifier")["epochs"] == 2  # 16 steps an epoch, and 20 were asked for


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"widht_1": 8}, "(?s)unexpected config entry.*widht_1"),
        ({"preset": "fats"}, "preset not in enum type Preset got fats"),
        ({"optimizer": "adagrad"}, "optimizer not in enum type optimizer got adagrad"),
        ({"epochs": "many"}, "(?s)epochs.*Int"),
        ({"epochs": 0}, "(?s)epochs.*greater than or equal to 1"),
        ({"dropout": 1.0}, "(?s)dropout.*less than 1"),
        ({"learning_rate": -0.1}, "(?s)learning_rate.*greater than 0"),
        ({"learning_rate": float("nan")}, "(?s)learning_rate.*finite"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_stored(pipeline: Pipeline, wrong: dict[str, Any], says: str) -> None:
    before, stored = pipeline.value("digit_classifier"), pipeline.stored()
    with pytest.raises((dg.DagsterInvalidConfigError, ValueError), match=says):
        pipeline.run("digit_classifier", digit_classifier={**BARELY, **wrong})
    assert (pipeline.value("digit_classifier"), pipeline.stored()) == (before, stored)


def test_a_run_that_diverges_says_so_and_stores_nothing(pipeline: Pipeline) -> None:
    before, stored = pipeline.value("digit_classifier"), pipeline.stored()
    with pytest.raises(TrainingDiverged, match=r"not finite.*nothing was stored.*learning rate below 1e\+30"):
        pipeline.run("digit_classifier", digit_classifier={**BARELY, "optimizer": "sgd", "learning_rate": 1e30})
    assert (pipeline.value("digit_classifier"), pipeline.stored()) == (before, stored)


def test_a_device_that_is_not_there_is_named(pipeline: Pipeline) -> None:
    import torch

    missing = next(name for name, there in (("mps", torch.backends.mps.is_available()), ("cuda", False)) if not there)
    if missing == "cuda" and torch.cuda.is_available():
        pytest.skip("every device is there")
    with pytest.raises(ValueError, match=f"device '{missing}' is not there"):
        pipeline.run("digit_classifier", digit_classifier={**BARELY, "device": missing})
