"""Training: every knob turns something, the same seed gives the same weights, and the best ones are kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mnist_pipeline.ml.artifacts import to_onnx, torch_logits
from mnist_pipeline.ml.config import CLASSICAL, ModelConfig
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.learning import learn
from mnist_pipeline.ml.training import Trained, TrainingDiverged, choose_device, computes_in_bfloat16, train

TINY = {"width_1": 2, "width_2": 3, "width_3": 4, "epochs": 1, "device": "cpu", "precision": "float32"}
HOPELESS = 1e6  # nats: no epoch gains as much on the one before


@pytest.fixture(scope="module")
def few(digits: DigitData) -> LabeledImages:
    return digits["train"].take(np.arange(128))


@pytest.fixture(scope="module")
def judged(digits: DigitData) -> LabeledImages:
    return digits["validation"].take(np.arange(60))


def fit(training: LabeledImages, validation: LabeledImages, **knobs: Any) -> Trained:
    return learn(training, validation, 10, ModelConfig(**{**TINY, **knobs}))


def weights_digest(trained: Trained) -> str:
    """Of its weights; a classical model is its graph."""
    if trained.config.architecture in CLASSICAL:
        return hashlib.sha256(to_onnx(trained.network)).hexdigest()
    state = sorted(trained.network.state_dict().items())
    return hashlib.sha256(b"".join(name.encode() + value.numpy().tobytes() for name, value in state)).hexdigest()


def outcome(training: LabeledImages, validation: LabeledImages, **knobs: Any) -> Any:
    """Everything that is to be the same when nothing was turned: weights and history without its times."""
    try:
        trained = fit(training, validation, **knobs)
    except ValueError as error:
        return str(error)
    history = [replace(epoch, images_per_s=0, seconds=0, seconds_left=0) for epoch in trained.history]
    return weights_digest(trained), history


# --- knobs ---

NOT_HERE = "cuda" if torch.backends.mps.is_available() else "mps"
VIT: dict[str, Any] = {"architecture": "vit", "embedding": 8, "heads": 2, "depth": 1, "patch": 14}
TURNED: dict[str, dict[str, Any]] = {
    "architecture": {"to": "resnet"},
    "blocks": {"to": 2, "architecture": "resnet"},
    "patch": {**VIT, "to": 7},
    "embedding": {**VIT, "to": 4},
    "depth": {**VIT, "to": 2},
    "heads": {**VIT, "to": 1},
    "trees": {"to": 3, "architecture": "forest"},
    "tree_depth": {"to": 2, "architecture": "tree"},
    "leaf": {"to": 9, "architecture": "tree"},
    "penalty": {"to": 9.0, "architecture": "logistic"},
    "iterations": {"to": 3, "architecture": "logistic"},
    "neighbours": {"to": 3, "architecture": "knn"},
    "prototypes": {"to": 100, "architecture": "knn"},
    "width_1": {"to": 3},
    "width_2": {"to": 4},
    "width_3": {"to": 5},
    "kernel_1": {"to": 3},
    "kernel_2": {"to": 3},
    "kernel_3": {"to": 5},
    "padded": {"to": True},
    "dropout": {"to": 0.5},
    "optimizer": {"to": "sgd"},
    "learning_rate": {"to": 0.02},
    "schedule": {"to": "constant"},
    "momentum": {"to": 0.5, "optimizer": "sgd"},
    "weight_decay": {"to": 0.5},
    "batch_size": {"to": 4},
    "epochs": {"to": 2},
    "min_steps": {"to": 40},
    "label_smoothing": {"to": 0.2},
    "ema_decay": {"to": 0.5},
    "shift": {"to": 1},
    "rotation": {"to": 20.0},
    "scale": {"to": 0.2},
    "shear": {"to": 0.2},
    "elastic": {"to": 1.0},
    "erasing": {"to": 0.5},
    "plain_epochs": {"to": 1, "rotation": 20.0},
    "patience": {"to": 1, "epochs": 3, "min_delta": HOPELESS},
    "min_delta": {"to": HOPELESS, "epochs": 3, "patience": 1},
    "precision": {"to": "bfloat16"},
    "device": {"to": NOT_HERE},
    "seed": {"to": 1},
}


AFTER_TRAINING = {"coverage", "five_views"}  # turned in test_artifacts


@pytest.mark.parametrize("knob", [knob for knob in ModelConfig.model_fields if knob not in AFTER_TRAINING])
def test_every_knob_turns_something(few: LabeledImages, judged: LabeledImages, knob: str) -> None:
    rest = dict(TURNED[knob])
    turned = {knob: rest.pop("to")}
    assert outcome(few, judged, **{**rest, **turned}) != outcome(few, judged, **rest)


@pytest.mark.parametrize(
    ("knob", "choices"),
    [("optimizer", ("adamw", "adam", "sgd", "muon")), ("schedule", ("one_cycle", "cosine", "constant"))],
)
def test_every_choice_is_another_one(
    few: LabeledImages, judged: LabeledImages, knob: str, choices: tuple[str, ...]
) -> None:
    outcomes = [outcome(few, judged, weight_decay=0.1, **{knob: choice}) for choice in choices]
    assert all(one != other for one, other in combinations(outcomes, 2))


def test_small_data_is_passed_over_as_often_as_it_takes_to_make_the_steps(
    few: LabeledImages, judged: LabeledImages
) -> None:
    steps: list[tuple[int, int]] = []
    config = ModelConfig(**{**TINY, "min_steps": 40})
    trained = train(few, judged, 10, config, on_step=lambda step, of: steps.append((step, of)))
    assert [epoch.number for epoch in trained.history] == [1, 2, 3]
    assert steps == [(step, 48) for step in range(1, 49)]


def test_patience_ends_training_early(few: LabeledImages, judged: LabeledImages) -> None:
    trained = fit(few, judged, epochs=5, patience=2, min_delta=HOPELESS)
    assert [(epoch.number, epoch.of, epoch.best) for epoch in trained.history] == [
        (1, 5, True),
        (2, 5, False),
        (3, 5, False),
    ]


# --- the same again ---


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(
    few: LabeledImages, judged: LabeledImages
) -> None:
    everything = {"rotation": 10.0, "dropout": 0.3, "ema_decay": 0.9, "precision": "bfloat16"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = outcome(few, judged, **everything)
        torch.manual_seed(2)
        np.random.default_rng().random()
        assert outcome(few, judged, **everything) == one


def test_training_leaves_the_generator_of_others_and_the_data_as_they_were(
    few: LabeledImages, judged: LabeledImages
) -> None:
    state, images = torch.get_rng_state(), few.images.copy()
    settings = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    fit(few, judged)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == settings
    assert np.array_equal(few.images, images)


def test_arrays_that_cannot_be_written_to_can_be_trained_on(few: LabeledImages, judged: LabeledImages) -> None:
    frozen = LabeledImages(few.images.copy(), few.labels.copy())
    frozen.images.flags.writeable = frozen.labels.flags.writeable = False
    assert outcome(frozen, judged) == outcome(few, judged)


# --- what is kept, and what is not ---


def validation_loss(trained: Trained, part: LabeledImages) -> float:
    logits, labels = torch.tensor(torch_logits(trained.network, part.images)), torch.tensor(part.labels)
    return F.cross_entropy(logits, labels.long(), label_smoothing=trained.config.label_smoothing).item()


@pytest.mark.parametrize("knobs", [{}, {"ema_decay": 0.5}, {"precision": "bfloat16"}], ids=str)
def test_the_best_weights_are_kept_and_not_the_last(
    few: LabeledImages, judged: LabeledImages, knobs: dict[str, Any]
) -> None:
    trained = fit(few, judged, epochs=3, min_delta=HOPELESS, **knobs)  # so that the first epoch stays the best
    assert (trained.best.number, len(trained.history)) == (1, 3)
    assert validation_loss(trained, judged) == pytest.approx(trained.best.validation_loss, rel=1e-4)
    assert validation_loss(trained, judged) != pytest.approx(trained.history[-1].validation_loss, rel=1e-3)


def test_the_best_epoch_is_that_of_the_lowest_validation_loss(trained: Trained, digits: DigitData) -> None:
    losses = [epoch.validation_loss for epoch in trained.history]
    assert trained.best.validation_loss == min(losses)
    assert [epoch.best for epoch in trained.history] == [
        loss < min(losses[:i], default=np.inf) for i, loss in enumerate(losses)
    ]
    assert validation_loss(trained, digits["validation"]) == pytest.approx(min(losses), rel=1e-4)


def test_a_trained_network_is_on_the_cpu_and_ready_to_answer(trained: Trained) -> None:
    assert not trained.network.training
    assert {value.device.type for value in trained.network.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
def test_a_loss_that_is_not_finite_ends_training(few: LabeledImages, judged: LabeledImages, optimizer: str) -> None:
    seen = []
    config = ModelConfig(**{**TINY, "epochs": 3, "learning_rate": 1e38, "optimizer": optimizer})
    with pytest.raises(TrainingDiverged, match=r"loss in epoch 1 is not finite \(training (nan|inf).* below 1e\+38"):
        train(few, judged, 10, config, on_epoch=seen.append)
    assert seen == []


def test_a_device_that_is_missing_is_an_error_that_lists_those_there() -> None:
    with pytest.raises(ValueError, match=rf"device '{NOT_HERE}' is not there; this machine has: \[.*'cpu'.*\]"):
        choose_device(NOT_HERE)


def test_a_device_is_chosen_where_none_is_named() -> None:
    found = choose_device("auto").type
    assert choose_device(found).type == found
    assert found != "cpu" or not torch.cuda.is_available()


def test_bfloat16_is_chosen_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for able in ({"avx512_bf16": True}, {"amx_bf16": True}, {"avx2": True}, {}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert computes_in_bfloat16(cpu) == bool(able and "avx2" not in able)
    assert not computes_in_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("able", [True, False])
def test_automatic_precision_trains_as_the_one_that_it_stands_for(
    few: LabeledImages, judged: LabeledImages, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    named = outcome(few, judged, precision="bfloat16" if able else "float32")
    assert outcome(few, judged, precision="auto") == named


# --- progress ---


def test_every_epoch_is_told_once_with_what_a_person_wants_to_know(few: LabeledImages, judged: LabeledImages) -> None:
    told = []
    trained = train(few, judged, 10, ModelConfig(**{**TINY, "epochs": 2}), on_epoch=told.append)
    assert told == trained.history
    first, last = told
    assert (first.number, first.of, last.number, last.of) == (1, 2, 2, 2)
    assert first.seconds_left > 0
    assert last.seconds_left == 0
    assert last.seconds > first.seconds > 0
    assert first.images_per_s > 0
    assert first.line().startswith(
        f"epoch 1/2: loss {first.train_loss:.4f}, validation loss {first.validation_loss:.4f}, validation accuracy "
    )
    assert "(best)" in first.line()
    assert first.line().endswith(" s left")


# --- learning ---


def test_a_network_can_learn_20_images_by_heart(digits: DigitData) -> None:
    twenty = digits["train"].take(np.arange(20))
    by_heart = {"width_1": 8, "width_2": 8, "width_3": 8, "shift": 0, "dropout": 0.0, "epochs": 30}
    trained = fit(twenty, twenty, **by_heart)
    assert trained.best.validation_accuracy == 1
    assert torch_logits(trained.network, twenty.images).argmax(1).tolist() == twenty.labels.tolist()


@pytest.mark.parametrize("count", [2, 20])
def test_fewer_images_than_a_batch_are_enough_to_train(digits: DigitData, judged: LabeledImages, count: int) -> None:
    trained = fit(digits["train"].take(np.arange(count)), judged, batch_size=256)
    assert np.isfinite(trained.best.train_loss)


def test_a_trained_network_answers_digits_it_has_not_seen(trained: Trained, digits: DigitData) -> None:
    answers = torch_logits(trained.network, digits["test"].images).argmax(1)
    assert (answers == digits["test"].labels).mean() > 0.93


@pytest.mark.parametrize(("down", "right"), [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_a_shift_by_one_pixel_rarely_changes_the_answer(
    trained: Trained, digits: DigitData, down: int, right: int
) -> None:
    images = digits["test"].images
    shifted = np.roll(images, (down, right), (1, 2))
    before, after = (torch_logits(trained.network, each).argmax(1) for each in (images, shifted))
    assert (before == after).mean() > 0.9


def test_a_trained_network_is_less_sure_of_a_digit_half_covered(trained: Trained, digits: DigitData) -> None:
    images = digits["test"].images
    covered = images.copy()
    covered[:, 14:] = 0
    sure, unsure = (
        torch.softmax(torch.tensor(torch_logits(trained.network, each)), 1).max(1).values.mean()
        for each in (images, covered)
    )
    assert sure > unsure


def test_a_long_average_of_a_short_training_has_left_the_weights_it_began_with(digits: DigitData) -> None:
    config = ModelConfig(width_1=4, width_2=8, width_3=8, min_steps=60, batch_size=64, shift=0, ema_decay=0.999)
    trained = train(digits["train"], digits["validation"], 10, config)
    assert trained.best.validation_accuracy > 0.8
