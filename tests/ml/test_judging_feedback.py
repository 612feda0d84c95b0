"""Which feedback counts, and how much of it becomes training data: never more than stated, never what is tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from digit_files import digits, strokes

from mnist_pipeline.ml.digits import DigitData, FromFeedback, LabeledImages, Origin, from_tensors, to_tensors
from mnist_pipeline.ml.feedback import PART, judge, none, with_feedback, without_feedback
from mnist_pipeline.ml.split import count_duplicates, split_digits

NAMES = tuple("0123456789")
ORIGIN = Origin("some", "a source", NAMES)
NO_TEST = np.empty((0, 28, 28), np.uint8)


@pytest.fixture
def split() -> DigitData:
    return split_digits(DigitData({"train": digits(200), "test": digits(40, seed=1)}, ORIGIN), 0.25, 0)


def feedback(images: np.ndarray, labels: list[int], **origin: object) -> DigitData:
    said = LabeledImages(images, np.array(labels, np.uint8))
    return DigitData({PART: said}, replace(ORIGIN, **origin))  # type: ignore[arg-type]


def test_of_a_picture_with_two_labels_the_newer_counts_and_the_same_counts_once() -> None:
    one, other = strokes(2)
    judged = judge([one, other, one, other], ["7", "3", "1", "3"], NAMES, NO_TEST)
    assert judged.data.labels.tolist() == [7, 3]
    assert judged.rows == [0, 1]
    assert "'7'" in judged.left_out[2]
    assert "same label" in judged.left_out[3]


def test_what_is_tested_on_and_what_is_no_class_is_left_out() -> None:
    images = strokes(3)
    judged = judge(list(images), ["7", "seven", "3"], NAMES, images[:1])
    assert judged.data.labels.tolist() == [3]
    assert "test part" in judged.left_out[0]
    assert "'seven' is no class" in judged.left_out[1]
    assert len(judge([], [], NAMES, images).data) == 0


def test_it_is_added_to_the_training_part_and_to_no_other(split: DigitData) -> None:
    added = with_feedback(split, feedback(strokes(5, seed=9), [1, 2, 3, 4, 5]), 0.5)
    assert len(added["train"]) == len(split["train"]) + 5
    for part in ("validation", "test"):
        assert added[part] is split[part]
    assert added.origin.feedback.rows == 5
    assert added.digest() != split.digest()
    assert sorted(added["train"].labels[-5:].tolist()) == [1, 2, 3, 4, 5]
    assert without_feedback(added).labels.tolist() == split["train"].labels.tolist()
    assert added.origin.called == f"some + 5 of feedback {added.origin.feedback.digest[:12]}"


def test_without_any_the_data_is_what_it_was(split: DigitData) -> None:
    assert with_feedback(split, none(ORIGIN), 0.5) is split
    assert split.origin.called == "some"


@pytest.mark.parametrize(("share", "most"), [(0.0, 0), (0.1, 16), (0.25, 50)])
def test_a_flood_is_cut_to_its_share_and_the_newest_stay(split: DigitData, share: float, most: int) -> None:
    images = strokes(300, seed=9)
    added = with_feedback(split, feedback(images, [1] * 300), share)
    rows = added.origin.feedback.rows
    assert rows == most
    assert rows <= share * len(added["train"])
    assert {each.tobytes() for each in added["train"].images[150:]} == {each.tobytes() for each in images[:most]}


def test_what_stands_in_any_part_is_not_added(split: DigitData) -> None:
    known = np.concatenate([split[part].images[:3] for part in ("train", "validation", "test")])
    assert with_feedback(split, feedback(known, [9] * 9), 0.5) is split
    added = with_feedback(split, feedback(np.concatenate([known, strokes(1, seed=9)]), [9] * 10), 0.5)
    assert added.origin.feedback.rows == 1
    assert count_duplicates(added)["train"] == count_duplicates(split)["train"]


def test_the_same_said_in_another_order_is_the_same_data(split: DigitData) -> None:
    images = strokes(4, seed=9)
    one = with_feedback(split, feedback(images, [1, 2, 3, 4]), 0.5)
    other = with_feedback(split, feedback(images[::-1], [4, 3, 2, 1]), 0.5)
    assert one.digest() == other.digest()
    assert one.origin == other.origin


def test_classes_are_known_by_their_names(split: DigitData) -> None:
    other = feedback(strokes(3, seed=9), [0, 1, 2], class_names=("nine", "5", "3"))
    added = with_feedback(split, other, 0.5)
    assert sorted(added["train"].labels[150:].tolist()) == [3, 5]


def test_pictures_that_were_prepared_otherwise_are_refused(split: DigitData) -> None:
    with pytest.raises(ValueError, match="materialize feedback_digits again"):
        with_feedback(split, feedback(strokes(1, seed=9), [1], preparation="resize"), 0.5)


def test_it_is_kept_with_the_data_and_older_data_has_none(split: DigitData) -> None:
    added = with_feedback(split, feedback(strokes(1, seed=9), [1]), 0.5)
    assert from_tensors(*to_tensors(added)).origin == added.origin
    arrays, told = to_tensors(split)
    old = told["origin"].replace(', "feedback": {"rows": 0, "digest": ""}', "")
    assert "feedback" not in old
    assert from_tensors(arrays, {"origin": old}).origin.feedback == FromFeedback()
