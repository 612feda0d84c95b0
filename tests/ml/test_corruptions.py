"""Corruptions: each does what its name says, by chance that can be repeated; the card finds the weakest spot."""

from __future__ import annotations

import numpy as np
import pytest
from digit_files import strokes

from mnist_pipeline.ml.corruptions import CORRUPTIONS, SEVERITIES, card, corrupted, sample, slices
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.predictor import Predictor

ALL = pytest.mark.parametrize("name", CORRUPTIONS)
IMAGES = strokes(12)


@ALL
@pytest.mark.parametrize("severity", SEVERITIES)
def test_images_stay_images(name: str, severity: int) -> None:
    worse = corrupted(IMAGES, name, severity)
    assert (worse.dtype, worse.shape) == (np.uint8, IMAGES.shape)
    assert (severity == 0) == np.array_equal(worse, IMAGES)


@ALL
def test_the_same_seed_gives_the_same_and_nothing_is_changed_in_place(name: str) -> None:
    before = IMAGES.copy()
    assert np.array_equal(corrupted(IMAGES, name, 3, seed=5), corrupted(IMAGES, name, 3, seed=5))
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("name", ["rotation", "noise", "occlusion"])
def test_another_seed_gives_another_chance(name: str) -> None:
    assert not np.array_equal(corrupted(IMAGES, name, 3, seed=5), corrupted(IMAGES, name, 3, seed=6))


@ALL
def test_a_higher_severity_changes_more(name: str) -> None:
    many = strokes(300)
    changes = [np.abs(corrupted(many, name, s).astype(float) - many).mean() for s in SEVERITIES]
    assert changes == sorted(changes)
    assert len(set(changes)) == len(changes)


@ALL
def test_none_and_one_image_are_corrupted_too(name: str) -> None:
    for count in (0, 1):
        assert corrupted(IMAGES[:count], name, 2).shape == (count, 28, 28)


def test_a_rotation_turns_by_so_many_degrees_to_either_side() -> None:
    bar = np.zeros((40, 28, 28), np.uint8)
    bar[:, 4:24, 13:15] = 255
    turned = corrupted(bar, "rotation", 4).astype(float)
    rows, columns = np.mgrid[:28, :28] - 13.5
    spread = [(turned * each).sum((1, 2)) for each in (rows * columns, columns**2 - rows**2)]
    angles = np.degrees(0.5 * np.arctan2(2 * spread[0], -spread[1]))
    assert np.abs(angles) == pytest.approx(45, abs=2)
    assert {round(each) > 0 for each in angles} == {True, False}


def test_contrast_and_inversion_are_shares() -> None:
    half = np.zeros((1, 28, 28), np.uint8)
    half[:, :, 14:] = 200
    assert set(np.unique(corrupted(half, "contrast", 4))) == {40, 160}  # 40 % nearer to the mean of 100
    assert set(np.unique(corrupted(half, "inversion", 4))) == {31, 183}  # 12 % of 255, and of 55 beside 200


def test_strokes_become_thicker_by_whole_pixels() -> None:
    line = np.zeros((1, 28, 28), np.uint8)
    line[:, :, 13] = 255
    widths = [int((corrupted(line, "thickness", severity)[0, 14] > 0).sum()) for severity in SEVERITIES]
    assert widths == [1, 2, 3, 4, 5]


def test_a_square_is_hidden() -> None:
    white = np.full((50, 28, 28), 255, np.uint8)
    hidden = corrupted(white, "occlusion", 2) == 0
    assert set(hidden.sum((1, 2))) == {36}
    assert not hidden[:, :4].any()
    assert not hidden[:, :, 24:].any()


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 4, not 5"):
        corrupted(IMAGES, "blur", 5)
    with pytest.raises(KeyError, match="fog"):
        corrupted(IMAGES, "fog", 1)


# --- the card ---


def test_the_card_of_a_model_that_sees_only_light(digits: DigitData) -> None:
    """It calls an image 1 where its left half is lighter: right on all as they are, and wrong where that is gone."""
    images = np.zeros((60, 28, 28), np.uint8)
    labels = np.arange(60) % 2
    images[labels == 0, 10:18, 18:24], images[labels == 1, 10:18, 4:10] = 255, 255
    found = card(images, labels, lambda seen: (seen[:, :, :14].sum((1, 2)) > seen[:, :, 14:].sum((1, 2))).astype(int))
    assert found["images"] == 60
    assert found["accuracy"].keys() == CORRUPTIONS.keys()
    assert all(len(shares) == 5 and shares[0] == 1.0 for shares in found["accuracy"].values())
    assert found["accuracy"]["contrast"] == found["accuracy"]["inversion"] == [1.0] * 5
    worst = found["worst_slice"]
    assert (
        worst["accuracy"]
        == found["accuracy"][worst["name"]][worst["severity"]]
        == min(map(min, found["accuracy"].values()))
    )


def test_a_sample_is_of_at_most_so_many_rows_and_always_the_same() -> None:
    assert sample(3).tolist() == [0, 1, 2]
    assert np.array_equal(sample(10_000), sample(10_000))
    assert len(set(sample(10_000).tolist())) == 300


def test_every_slice_is_there_once() -> None:
    assert [(name, severity) for name, severity, _ in slices(IMAGES)] == [
        (name, severity) for name in CORRUPTIONS for severity in (1, 2, 3, 4)
    ]


def test_a_trained_network_gets_worse_by_severity(digits: DigitData, predictor: Predictor) -> None:
    test = digits["test"]
    found = card(test.images, test.labels, lambda images: predictor.predict(images).labels)["accuracy"]
    assert all(shares[4] < shares[0] for shares in found.values())
    assert np.mean([shares[4] for shares in found.values()]) < np.mean([shares[2] for shares in found.values()])
