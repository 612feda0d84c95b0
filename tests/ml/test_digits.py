"""The values between data assets: what they refuse to hold, and a digest that sees every change of content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_files import digits
from safetensors.numpy import save_file

from mnist_pipeline.files import read_digits
from mnist_pipeline.ml.digits import DigitData, LabeledImages, Origin, to_tensors
from mnist_pipeline.ml.published import DIGIT_NAMES

ORIGIN = Origin("idx", "made up", DIGIT_NAMES)


def data() -> DigitData:
    return DigitData({"train": digits(6), "test": digits(4, seed=1)}, ORIGIN)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, np.uint8), r"images must be uint8 \[N, 28, 28\], got float32"),
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.uint8), r"got uint8 \[3, 28, 27\]"),
        (np.zeros((3, 1, 28, 28), np.uint8), np.zeros(3, np.uint8), r"got uint8 \[3, 1, 28, 28\]"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int64), r"labels must be uint8 \[N\], got int64"),
        (
            np.zeros((3, 28, 28), np.uint8),
            np.zeros((3, 1), np.uint8),
            r"labels must be uint8 \[N\], got uint8 \[3, 1\]",
        ),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8), "3 images but 4 labels: one of them is cut"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabeledImages(images, labels)


def test_rows_are_taken_with_their_labels() -> None:
    whole = digits(10)
    taken = whole.take(np.array([7, 2]))
    assert taken.labels.tolist() == [7, 2]
    assert np.array_equal(taken.images, whole.images[[7, 2]])


def test_the_length_of_data_is_that_of_all_parts() -> None:
    assert len(data()) == 10


def changed_pixel(whole: DigitData) -> DigitData:
    images = whole["test"].images.copy()
    images[3, 27, 27] ^= 1
    return replace(whole, parts={**whole.parts, "test": LabeledImages(images, whole["test"].labels)})


def changed_label(whole: DigitData) -> DigitData:
    labels = whole["train"].labels.copy()
    labels[0] = 9
    return replace(whole, parts={**whole.parts, "train": LabeledImages(whole["train"].images, labels)})


def moved_image(whole: DigitData) -> DigitData:
    """The first test image becomes the last of the training images: the same images in the same order."""
    train, test = whole["test"], whole["train"]
    joined = LabeledImages(np.concatenate([test.images, train.images]), np.concatenate([test.labels, train.labels]))
    return replace(whole, parts={"train": joined.take(np.arange(7)), "test": joined.take(np.arange(7, 10))})


@pytest.mark.parametrize(
    "change",
    [
        changed_pixel,
        changed_label,
        moved_image,
        lambda whole: replace(whole, parts={"train": whole["train"], "validation": whole["test"]}),
        lambda whole: replace(whole, origin=replace(whole.origin, class_names=tuple("abcdefghij"))),
        lambda whole: replace(whole, origin=replace(whole.origin, preparation="resize")),
    ],
    ids=["a pixel", "a label", "an image in another part", "name of a part", "class names", "preparation"],
)
def test_the_digest_sees_every_change_of_content(change) -> None:
    assert change(data()).digest() != data().digest()


def test_the_digest_does_not_see_where_the_content_came_from() -> None:
    elsewhere = replace(data(), origin=replace(ORIGIN, dataset="mnist", source="another folder", fallback=True))
    assert elsewhere.digest() == data().digest()


def test_the_digest_does_not_see_how_arrays_lie_in_memory() -> None:
    whole = data()
    strided = LabeledImages(np.asfortranarray(whole["train"].images), np.repeat(whole["train"].labels, 2)[::2])
    assert replace(whole, parts={**whole.parts, "train": strided}).digest() == whole.digest()


def test_data_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    whole = replace(data(), origin=replace(ORIGIN, preparation="resize", fallback=True, source="Fälle, 8×8"))
    arrays, metadata = to_tensors(whole)
    save_file(arrays, tmp_path / "data.safetensors", metadata)
    back = read_digits(tmp_path / "data.safetensors")
    assert back.origin == whole.origin
    assert set(back.parts) == {"train", "test"}
    assert back.digest() == whole.digest()
