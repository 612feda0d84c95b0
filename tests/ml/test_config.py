"""Knobs: each is described and bounded, a misspelt or impossible one is named, presets are valid."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from mnist_pipeline.ml.config import PRESETS, ModelConfig, configure
from mnist_pipeline.model_versions import LABEL


def test_every_knob_is_described_for_the_launchpad() -> None:
    assert [name for name, field in ModelConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_defaults_with_its_own_values(preset: Any) -> None:
    config = configure(preset)
    assert config == ModelConfig(**PRESETS[preset])
    assert PRESETS[preset].items() <= config.model_dump().items()


def test_presets_differ() -> None:
    assert configure("fast") != configure("accurate")


def test_single_values_replace_those_of_a_preset() -> None:
    config = configure("accurate", epochs=3, seed=7)
    assert (config.epochs, config.seed, config.rotation) == (3, 7, PRESETS["accurate"]["rotation"])


IMPOSSIBLE = {
    **dict.fromkeys(("width_1", "width_2", "width_3", "kernel_1", "kernel_2", "kernel_3", "epochs"), 0),
    **dict.fromkeys(("dropout", "momentum", "label_smoothing", "ema_decay", "scale", "coverage"), 1.0),
    **dict.fromkeys(
        ("weight_decay", "min_steps", "shift", "rotation", "shear", "patience", "min_delta", "seed", "plain_epochs"), -1
    ),
    **dict.fromkeys(("optimizer", "schedule", "precision", "device", "padded", "five_views"), "best"),
    **dict.fromkeys(("blocks", "embedding", "depth", "heads", "trees", "leaf", "iterations", "penalty"), 0),
    **dict.fromkeys(("tree_depth", "elastic", "erasing"), -1),
    "architecture": "svm",
    "patch": 5,
    "neighbours": 1,
    "prototypes": 99,
    "learning_rate": 0.0,
    "batch_size": 1,
}


@pytest.mark.parametrize("knob", ModelConfig.model_fields)
def test_an_impossible_value_is_refused_naming_the_knob(knob: str) -> None:
    with pytest.raises(ValidationError, match=rf"(?m)^{knob}$"):
        configure("fast", **{knob: IMPOSSIBLE[knob]})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_must_be_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        configure("fast", learning_rate=value)


def test_an_unknown_knob_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"(?m)^learning_rte$\n  Extra inputs are not permitted"):
        configure("fast", learning_rte=0.1)


def test_a_configuration_does_not_change_once_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        configure("fast").epochs = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("accuracy", "ending"), [(0.9915, "acc9915"), (1.0, "acc10000"), (0.05, "acc0500"), (0.0, "acc0000")]
)
def test_a_label_says_what_was_trained_and_how_well(accuracy: float, ending: str) -> None:
    config = ModelConfig(width_1=4, width_2=8, width_3=12, optimizer="sgd", batch_size=64, epochs=3)
    assert config.label(accuracy) == f"digitcnn-4x8x12-sgd-b64-e3-{ending}"


@pytest.mark.parametrize(
    ("architecture", "begins"),
    [
        ("cnn", "digitcnn-16x32x64-adamw-b160-e1-"),
        ("resnet", "resnet-16x32x64-n1-adamw-b160-e1-"),
        ("vit", "vit-p4-64x4-h4-adamw-b160-e1-"),
        ("tree", "tree-leaf3-acc"),
        ("forest", "forest-60-leaf3-acc"),
        ("logistic", "logistic-l2-1e-05-acc"),
        ("knn", "knn-5-acc"),
    ],
)
def test_a_label_begins_with_the_architecture_and_may_be_the_name_of_a_version(architecture: Any, begins: str) -> None:
    label = configure("fast", architecture=architecture, penalty=1e-5).label(0.97)
    assert label.startswith(begins)
    assert LABEL.fullmatch(label)


def test_heads_share_the_embedding() -> None:
    with pytest.raises(ValidationError, match="embedding 64 is no multiple of heads 5"):
        configure("vit", heads=5)
