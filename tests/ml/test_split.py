"""Cutting into parts: by class, nothing lost, nothing twice; and images that stand in two parts are counted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from digit_files import digits
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_pipeline.ml.digits import DigitData, LabeledImages, Origin
from mnist_pipeline.ml.published import DIGIT_NAMES
from mnist_pipeline.ml.split import count_duplicates, split_digits, split_off


def numbered(counts: list[int], seed: int) -> LabeledImages:
    """So many images of each class in a random order; the first two pixels of each are its row number."""
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    np.random.default_rng(seed).shuffle(labels)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = divmod(np.arange(len(labels)), 256)
    return LabeledImages(images, labels)


def rows(part: LabeledImages) -> list[int]:
    return (part.images[:, 0, 0].astype(int) * 256 + part.images[:, 0, 1]).tolist()


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=10).filter(any),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_is_stratified_disjoint_and_complete_or_says_why_it_cannot_be(
    counts: list[int], share: float, seed: int
) -> None:
    whole = numbered(counts, seed)
    there = [count for count in counts if count]
    try:
        rest, off = split_off(whole, share, seed)
    except ValueError as error:
        refusal, too_small = str(error), min(share, 1 - share) * sum(counts) < len(there)
        assert "images a class: [" in refusal
        assert min(there) < 2 or too_small
        return
    assert sorted(rows(rest) + rows(off)) == list(range(len(whole)))
    for part in (rest, off):
        assert rows(part) == sorted(rows(part))
        assert np.array_equal(part.labels, whole.labels[rows(part)])
    taken = np.bincount(off.labels, minlength=len(counts))
    assert np.abs(taken - len(off) / len(whole) * np.array(counts)).max() <= 1
    assert abs(len(off) - share * len(whole)) < 1


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    whole = numbered([40] * 10, seed=0)
    assert rows(split_off(whole, 0.2, seed=3)[1]) == rows(split_off(whole, 0.2, seed=3)[1])
    assert rows(split_off(whole, 0.2, seed=3)[1]) != rows(split_off(whole, 0.2, seed=4)[1])


def test_training_images_are_cut_80_to_20_and_the_test_part_is_handed_on_untouched() -> None:
    raw = DigitData({"train": digits(100), "test": digits(20, seed=1)}, Origin("idx", "made up", DIGIT_NAMES))
    cut = split_digits(raw, 0.2, seed=0)
    assert {name: len(part) for name, part in cut.parts.items()} == {"train": 80, "validation": 20, "test": 20}
    assert np.bincount(cut["validation"].labels).tolist() == [2] * 10
    assert cut["test"] is raw["test"]
    assert cut.origin == raw.origin


@pytest.mark.parametrize("counts", [[10, 1], [1], [2, 2, 2, 2, 2, 2]])
def test_too_few_images_of_a_class_are_counted_in_the_error(counts: list[int]) -> None:
    message = rf"cannot split {sum(counts)} images 80%/20% by class .* images a class: {re.escape(str(counts))}"
    with pytest.raises(ValueError, match=message):
        split_off(numbered(counts, seed=0), 0.2, seed=0)


def test_images_of_the_test_part_that_stand_elsewhere_too_are_counted() -> None:
    train, validation, test = digits(10), digits(5, seed=1), digits(6, seed=2)
    leaking = LabeledImages(
        np.concatenate([test.images, train.images[[4, 4]], validation.images[[0]]]),
        np.zeros(9, np.uint8),  # another label makes it no other image
    )
    parts = {"train": train, "validation": validation, "test": leaking}
    assert count_duplicates(DigitData(parts, Origin("idx", "made up", DIGIT_NAMES))) == {"train": 2, "validation": 1}


def test_one_pixel_of_difference_is_another_image() -> None:
    train = digits(10)
    other = train.images.copy()
    other[:, 0, 0] = 1
    parts = {"train": train, "test": LabeledImages(other, train.labels)}
    assert count_duplicates(DigitData(parts, Origin("idx", "made up", DIGIT_NAMES))) == {"train": 0}
