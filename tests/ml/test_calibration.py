"""The temperature: found again where it is known, defined where there is little to learn from, and of one value."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_pipeline.ml.calibration import (
    COLDEST,
    HOTTEST,
    calibration_error,
    fit_temperature,
    reliability,
    uncalibrated,
)
from mnist_pipeline.ml.predictor import softmax


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is how often each class is the true one."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 2, (count, 5)).astype(np.float32)
    return logits, np.array([chance.choice(5, p=shares) for shares in softmax(logits.astype(np.float64))])


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_the_temperature_that_was_divided_by_is_found_again(scale: float) -> None:
    logits, labels = honest(5_000)
    found = fit_temperature(logits * scale, labels)
    assert found == pytest.approx(scale, rel=0.05)
    after = calibration_error(labels, softmax(logits * scale / found))
    assert after < 0.02
    if scale != 1:
        assert calibration_error(labels, softmax(logits * scale)) > 3 * after


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = honest(500)

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logits * 3.0 / temperature)[np.arange(500), labels]).mean())

    found = fit_temperature(logits * 3, labels)
    assert loss(found) <= min(loss(found * 0.97), loss(found * 1.03))


def test_the_same_logits_give_the_same_temperature_and_so_do_those_of_another_machine() -> None:
    logits, labels = honest(300)
    noise = np.random.default_rng(1).normal(0, 1e-6, logits.shape)
    assert fit_temperature(logits, labels) == fit_temperature(logits, labels)
    assert fit_temperature(logits + noise, labels) == pytest.approx(fit_temperature(logits, labels), abs=1.1e-4)


def test_a_model_without_mistakes_claims_no_more_than_so_many_images_can_show() -> None:
    labels = np.arange(100) % 5
    found = fit_temperature(4.0 * np.eye(5)[labels], labels)
    sure = softmax(4.0 * np.eye(5)[labels] / found).max()
    assert found > COLDEST
    assert 1 - 2 / 100 < sure < 1 - 0.5 / 100


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_handful_of_images_give_a_temperature_too(count: int) -> None:
    assert COLDEST <= fit_temperature(*honest(count)) <= HOTTEST


def test_a_model_that_is_always_wrong_ends_at_the_bound() -> None:
    labels = np.arange(100) % 5
    assert fit_temperature(4.0 * np.eye(5)[(labels + 1) % 5], labels) == pytest.approx(HOTTEST, rel=0.01)


def test_huge_logits_do_not_overflow() -> None:
    logits, labels = honest(200)
    assert fit_temperature(logits * 1e30, labels) == pytest.approx(HOTTEST, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits, labels = honest(10)
    logits[3, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(logits, labels)


def test_without_images_there_is_no_temperature() -> None:
    with pytest.raises(ValueError, match="no images"):
        fit_temperature(np.zeros((0, 10)), np.zeros(0, int))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_what_it_was_before_can_be_told_afterwards(temperature: float) -> None:
    logits, _ = honest(50)
    after = softmax(logits / np.float32(temperature))
    assert uncalibrated(after, temperature) == pytest.approx(softmax(logits), abs=1e-5)


def test_a_probability_too_small_to_be_kept_stays_0() -> None:
    assert uncalibrated(np.array([[1.0, 0.0]], np.float32), 0.5).tolist() == [[1.0, 0.0]]


def test_bins_are_of_equal_width_and_hold_every_image_once() -> None:
    logits, labels = honest(400)
    probabilities = softmax(logits)
    bins = reliability(labels, probabilities)
    assert sum(each["images"] for each in bins) == 400
    assert all(each["bin"] / 15 <= each["confidence"] <= (each["bin"] + 1) / 15 for each in bins)
    error = sum(each["images"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / 400
    assert error == pytest.approx(calibration_error(labels, probabilities))
