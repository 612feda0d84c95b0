"""Accuracy without labels: right where confidence means the same as it did, and honest about its error."""

from __future__ import annotations

import numpy as np

from mnist_pipeline.ml.label_free import estimate_accuracy


def world(count: int, seed: int, *, unsure: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, right) of images, a share of which the model is unsure of; calibrated."""
    draw = np.random.default_rng(seed)
    confidence = np.where(draw.random(count) < unsure, draw.uniform(0.4, 0.9, count), draw.uniform(0.98, 1, count))
    return confidence.astype(np.float32), draw.random(count) < confidence


def test_it_is_right_where_nothing_changed_as_often_as_it_says() -> None:
    within = 0
    for seed in range(40):
        (confidence, right), (observed, truth) = world(1_000, 2 * seed), world(500, 2 * seed + 1)
        found = estimate_accuracy(confidence, right, observed)
        assert found is not None
        within += found.low <= truth.mean() <= found.high
    assert within >= 36


def test_it_falls_with_harder_images_and_so_does_the_second_opinion() -> None:
    (confidence, right), (observed, truth) = world(2_000, 0), world(2_000, 1, unsure=0.5)
    found = estimate_accuracy(confidence, right, observed)
    assert found is not None
    assert found.high < right.mean()
    assert abs(found.mean_confidence - truth.mean()) < 0.03


def test_fewer_images_have_a_wider_interval() -> None:
    confidence, right = world(2_000, 0)
    few, many = (estimate_accuracy(confidence, right, world(count, 1)[0]) for count in (40, 4_000))
    assert few is not None
    assert many is not None
    assert few.estimate - few.low > 3 * (many.estimate - many.low)


def test_a_model_that_was_always_right_or_never_is_no_trouble() -> None:
    confidence, _ = world(100, 0)
    always = estimate_accuracy(confidence, np.ones(100, bool), confidence)
    never = estimate_accuracy(confidence, np.zeros(100, bool), confidence)
    assert always is not None
    assert never is not None
    assert (always.estimate, never.estimate) == (1.0, 0.0)
    assert always.low < 1.0


def test_there_is_none_without_images() -> None:
    confidence, right = world(100, 0)
    assert estimate_accuracy(confidence, right, confidence[:0]) is None
    assert estimate_accuracy(confidence[:0], right[:0], confidence) is None
