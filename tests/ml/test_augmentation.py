"""Augmentation moves ink and adds none, by no more than asked for, and the same way for the same generator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from digit_files import strokes

from mnist_pipeline.ml.augmentation import augment, samples
from mnist_pipeline.ml.config import ModelConfig

STILL = {"shift": 0, "rotation": 0.0, "scale": 0.0, "shear": 0.0}
KNOBS = {"shift": 2, "rotation": 20.0, "scale": 0.2, "shear": 0.3}


def changed(images: torch.Tensor, seed: int = 0, **knobs: float) -> torch.Tensor:
    return augment(images, ModelConfig(**{**STILL, **knobs}), torch.Generator().manual_seed(seed))


def dot(down: int, right: int, count: int = 1) -> torch.Tensor:
    """A light spot of 3×3 pixels on black."""
    images = torch.zeros((count, 28, 28), dtype=torch.uint8)
    images[:, down - 1 : down + 2, right - 1 : right + 2] = 255
    return images


def centres(images: torch.Tensor) -> np.ndarray:
    """[N, 2]: rows and columns of the centre of mass, from the middle of the image."""
    ink, at = images.double(), torch.arange(28) - 13.5
    mass = ink.sum((1, 2))
    return torch.stack([(ink.sum(2) * at).sum(1) / mass, (ink.sum(1) * at).sum(1) / mass], 1).numpy()


def test_without_any_knob_the_batch_stays_as_it_is() -> None:
    images = torch.tensor(strokes(5))
    assert torch.equal(changed(images), images)


@pytest.mark.parametrize("knobs", [{name: value} for name, value in KNOBS.items()] + [KNOBS], ids=[*KNOBS, "all"])
def test_shape_and_range_stay_and_the_generator_decides(knobs: dict[str, float]) -> None:
    images = torch.tensor(strokes(6))
    before = images.clone()
    once, again, other = (changed(images, seed, **knobs) for seed in (1, 1, 2))
    assert once.shape == images.shape
    assert once.min() >= 0
    assert once.max() <= 255.001  # float32 sums of weights
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(images, before)


def test_a_batch_is_shifted_as_one_by_every_offset_up_to_the_limit() -> None:
    offsets = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        moved = augment(dot(13, 13, count=2), ModelConfig(**{**STILL, "shift": 2}), generator)
        (down, right), other = np.round(centres(moved) - centres(dot(13, 13)), 6)
        assert other.tolist() == [down, right]
        assert moved.dtype == torch.uint8
        offsets.add((down, right))
    assert offsets == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


@pytest.mark.parametrize("knobs", [{"shift": 13}, {"scale": 0.5}], ids=str)
def test_black_comes_in_from_outside(knobs: dict[str, float]) -> None:
    white = torch.full((40, 28, 28), 255, dtype=torch.uint8)
    moved = torch.cat([changed(white, seed, **knobs) for seed in range(5)])
    assert moved.min() == 0
    assert moved.max() == pytest.approx(255)


def test_images_are_turned_each_by_its_own_angle_within_the_limit() -> None:
    turned = centres(changed(dot(13, 22, count=200), rotation=20.0))
    start = math.degrees(math.atan2(*centres(dot(13, 22))[0]))
    angles = np.degrees(np.arctan2(turned[:, 0], turned[:, 1])) - start
    assert np.abs(angles).max() <= 21
    assert angles.min() < -15
    assert angles.max() > 15
    assert np.hypot(*turned.T) == pytest.approx(np.hypot(*centres(dot(13, 22))[0]), abs=0.3)


def test_images_are_scaled_on_each_axis_within_the_limit() -> None:
    scaled = centres(changed(dot(20, 20, count=200), scale=0.2)) / centres(dot(20, 20))
    assert scaled.min() >= 1 / 1.25
    assert scaled.max() <= 1 / 0.78
    assert np.ptp(scaled, axis=0).min() > 0.25
    assert np.abs(scaled[:, 0] - scaled[:, 1]).max() > 0.2


def test_images_are_sheared_along_one_axis_within_the_limit() -> None:
    sheared = centres(changed(dot(20, 13, count=200), shear=0.3)) - centres(dot(20, 13))
    assert sheared[:, 0] == pytest.approx(0, abs=0.1)
    assert np.abs(sheared[:, 1]).max() <= 0.3 * 6.5 + 0.2
    assert np.ptp(sheared[:, 1]) > 0.3 * 6.5


def test_elastic_bends_each_image_smoothly_and_little() -> None:
    bent = centres(changed(dot(13, 13, count=200), elastic=1.0)) - centres(dot(13, 13))
    assert 0.3 < bent.std() < 1.5
    assert np.abs(bent).max() < 5


def test_erasing_blackens_one_rectangle_in_so_many_of_the_images() -> None:
    white = torch.full((1_000, 28, 28), 255, dtype=torch.uint8)
    gone = changed(white, erasing=0.3) == 0
    touched = gone.flatten(1).any(1)
    assert touched.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert gone.flatten(1).float().mean(1).max() <= 0.25
    for mask in gone[touched]:
        assert torch.equal(mask, mask.any(1).unsqueeze(1) & mask.any(0).unsqueeze(0))


def test_what_is_switched_off_draws_nothing() -> None:
    """So the weights of configurations from before there was a switch stay as they were."""
    left = []
    for knobs in ({}, {"elastic": 0.0, "erasing": 0.0}):
        generator = torch.Generator().manual_seed(0)
        augment(dot(13, 13, count=3), ModelConfig(**{**STILL, "rotation": 5.0, **knobs}), generator)
        left.append(torch.rand(1, generator=generator).item())
    expected = torch.Generator().manual_seed(0)
    for _ in range(6):  # angle, two scales, shear, two shifts
        torch.rand(3, generator=expected)
    assert left == [torch.rand(1, generator=expected).item()] * 2


def test_samples_are_the_images_and_what_training_may_see_of_them() -> None:
    images = dot(13, 20, count=2).numpy()
    rows = samples(images, ModelConfig(rotation=20.0), draws=2)
    assert (rows.shape, rows.dtype) == ((3, 2, 28, 28), np.uint8)
    assert np.array_equal(rows[0], images)
    assert not np.array_equal(rows[1], rows[2])
