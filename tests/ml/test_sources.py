"""Reading labelled images: what is whole is read the same under every name, everything else is named and refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_files import NAMES, ROLES, digits, idx_contents, png, strokes, write_idx, write_published

from mnist_pipeline.ml import sources
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.idx import BadIdx, dump
from mnist_pipeline.ml.network import MEAN, STD
from mnist_pipeline.ml.published import DIGIT_NAMES, PUBLISHED
from mnist_pipeline.ml.sources import BadSource, read_idx_directory, read_image_folder, read_published
from mnist_pipeline.ml.split import count_duplicates

TRAIN, TEST = digits(40), digits(20, seed=1)
CONTENTS = idx_contents(TRAIN, TEST)
MNIST = os.environ.get("MNIST_DATA_DIR")
needs_mnist = pytest.mark.skipif(not MNIST, reason="MNIST_DATA_DIR is not set")


def read(folder: Path) -> DigitData:
    return read_idx_directory(folder, "ink")


# --- IDX directories ---


@pytest.mark.parametrize("rename", [str, lambda name: name.replace("-idx", ".idx")], ids=["dashed", "dotted"])
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx_files_are_read_gzipped_or_not_under_either_name(tmp_path: Path, suffix: str, rename) -> None:
    write_idx(tmp_path, CONTENTS, suffix)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / rename(path.name))
    data = read(tmp_path)
    assert np.array_equal(data["train"].images, TRAIN.images)
    assert np.array_equal(data["train"].labels, TRAIN.labels)
    assert np.array_equal(data["test"].images, TEST.images)
    assert np.array_equal(data["test"].labels, TEST.labels)


def test_own_idx_files_say_that_nobody_verified_them(tmp_path: Path) -> None:
    origin = read(write_idx(tmp_path, CONTENTS)).origin
    assert (origin.dataset, origin.class_names, origin.preparation) == ("idx", DIGIT_NAMES, "ink")
    assert f"own IDX files in {tmp_path}, not verified" in origin.source


def test_own_idx_files_bring_their_class_names_in_a_text_file(tmp_path: Path) -> None:
    train, test = digits(9, classes=3), digits(6, classes=3)
    write_idx(tmp_path, idx_contents(train, test))
    (tmp_path / "classes.txt").write_text("cat\ndog \n\nold goat\n")
    assert read_idx_directory(tmp_path, "resize").origin.class_names == ("cat", "dog", "old goat")


def with_content(role: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{NAMES[ROLES.index(role)]}.gz").write_bytes(gzip.compress(content))


def cut_gzip(folder: Path) -> None:
    path = folder / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-100])


def cut_plain(folder: Path) -> None:
    (folder / f"{NAMES[2]}.gz").unlink()
    (folder / NAMES[2]).write_bytes(CONTENTS["test images"][:-1])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut gzip": (cut_gzip, rf"{NAMES[0]}\.gz is a damaged gzip file .*: fetch it again"),
    "cut plain file": (cut_plain, rf"{NAMES[2]} states 15,680 bytes of values .* holds 15,679: fetch it again"),
    "count above the bytes": (
        with_content("test labels", CONTENTS["test labels"][:-2]),
        rf"{NAMES[3]}\.gz states 20 bytes of values in its header but holds 18: fetch it again",
    ),
    "label 10": (
        with_content("train labels", dump(np.where(np.arange(40) == 33, 10, TRAIN.labels).astype(np.uint8))),
        r"train set in .*: label 10 at position 33 \(1 such labels\); there are 10 classes, so labels are 0 to 9",
    ),
    "fewer labels than images": (
        with_content("test labels", dump(TEST.labels[:-1])),
        "test set in .*: 20 images but 19 labels; fetch both files again",
    ),
    "one class only": (
        with_content("train labels", dump(np.full(40, 7, np.uint8))),
        r"train set in .* holds one class only \(7\): a classifier needs at least two",
    ),
    "images of another size": (
        with_content("train images", dump(np.zeros((40, 28, 27), np.uint8))),
        r"train set in .*: images of shape \(28, 27\), expected \(28, 28\)",
    ),
    "images in the place of labels": (
        with_content("train labels", CONTENTS["train images"]),
        "train set in .*, expected .* one label each",
    ),
    "no images at all": (
        lambda folder: (
            with_content("test images", dump(np.zeros((0, 28, 28), np.uint8)))(folder),
            with_content("test labels", dump(np.zeros(0, np.uint8)))(folder),
        ),
        "test set in .* holds no images: check the path",
    ),
    "something else": (with_content("test labels", b"<html>not found</html>"), rf"{NAMES[3]}\.gz is not an IDX file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_idx_files_are_refused_naming_file_and_fault(tmp_path: Path, damage: str) -> None:
    harm, message = DAMAGES[damage]
    harm(write_idx(tmp_path, CONTENTS))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((BadSource, BadIdx), match=message) as refused:
        read(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("missing", NAMES)
def test_each_of_the_four_files_is_missed_by_name(tmp_path: Path, missing: str) -> None:
    (write_idx(tmp_path, CONTENTS) / f"{missing}.gz").unlink()
    with pytest.raises(BadSource, match=rf"{tmp_path} has no {missing}\.gz \(nor {missing}\): all four"):
        read(tmp_path)


def test_an_empty_folder_is_refused_with_what_must_be_in_it(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"has no .*images-idx3-ubyte.*all four IDX files.*MNIST_DATASET=images"):
        read(tmp_path)


def test_a_missing_folder_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"there is no folder .*nowhere: set MNIST_DATA_DIR"):
        read(tmp_path / "nowhere")


# --- published data sets ---


@pytest.fixture(params=PUBLISHED)
def kin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each published data set in tiny: its own file names, class names and preparation, other digits."""
    name, contents = request.param, CONTENTS
    if name == "qmnist":
        contents = {**contents, **{role: qmnist_labels(contents[role]) for role in ROLES if "labels" in role}}
    monkeypatch.setitem(PUBLISHED, name, write_published(tmp_path, PUBLISHED[name], contents))
    return name


def qmnist_labels(plain: bytes) -> bytes:
    """Eight big-endian int32 an image: the class, then who wrote it and where it stood."""
    columns = np.full((len(plain) - 8, 8), 70_000, ">i4")
    columns[:, 0] = np.frombuffer(plain, np.uint8, offset=8)
    return bytes([0, 0, 0x0C, 2]) + np.array(columns.shape, ">u4").tobytes() + columns.tobytes()


def test_the_kin_of_mnist_come_with_class_names_and_preparation_of_their_own(tmp_path: Path, kin: str) -> None:
    data = read_published(tmp_path, kin)
    assert np.array_equal(data["train"].images, TRAIN.images)
    assert np.array_equal(data["test"].labels, TEST.labels)
    origin = data.origin
    assert origin.dataset == kin
    assert f"IDX files in {tmp_path}, verified against the published digests" in origin.source
    last, preparation = {"fashion_mnist": ("Ankle boot", "resize"), "kmnist": ("wo", "ink")}.get(kin, ("9", "ink"))
    assert (len(origin.class_names), origin.class_names[9], origin.preparation) == (10, last, preparation)


def test_whole_files_with_other_content_are_not_the_published_ones(tmp_path: Path, kin: str) -> None:
    _, archive, _ = PUBLISHED[kin].files[2]
    changed = TEST.images.copy()
    changed[19, 27, 27] ^= 1
    (tmp_path / archive).write_bytes(gzip.compress(dump(changed)))
    with pytest.raises(BadSource, match=rf"{archive} is a whole IDX file, but its md5 is not .* for {kin}.*=idx"):
        read_published(tmp_path, kin)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnist_verifies_by_content_however_it_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    published = write_published(tmp_path / "archives", PUBLISHED["mnist"], CONTENTS)
    otherwise = replace(published, files=tuple((role, archive, "another md5") for role, archive, _ in published.files))
    monkeypatch.setitem(PUBLISHED, "mnist", otherwise)
    folder = write_idx(tmp_path / "packed anew", CONTENTS, suffix)
    assert len(read_published(folder, "mnist")) == 60


@needs_mnist
def test_real_mnist_is_read_and_verified() -> None:
    data = read_published(Path(str(MNIST)), "mnist")
    assert data["train"].images.shape == (60_000, 28, 28)
    assert data["test"].images.shape == (10_000, 28, 28)
    assert np.bincount(data["train"].labels).tolist() == [
        *(5923, 6742, 5958, 6131, 5842),
        *(5421, 5918, 6265, 5851, 5949),
    ]
    pixels = data["train"].images / np.float32(255)
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (MEAN, STD)


@needs_mnist
@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_in_real_mnist_is_found(tmp_path: Path, name: str) -> None:
    for each in NAMES:
        (tmp_path / f"{each}.gz").symlink_to(Path(str(MNIST)) / f"{each}.gz")
    content = bytearray(gzip.decompress((tmp_path / f"{name}.gz").read_bytes()))
    content[-1] ^= 1
    (tmp_path / f"{name}.gz").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSource, match=rf"{name} is a whole IDX file, but its md5 is not the one published for mnist"):
        read_published(tmp_path, "mnist")


# --- image folders ---


def write_classes(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """A folder of PNG files a class, with so many images."""
    for i, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for j, image in enumerate(strokes(count, seed + i)):
            (root / name / f"{j:03d}.png").write_bytes(png(image))
    return root


def test_an_image_folder_without_parts_puts_a_stratified_fifth_aside(tmp_path: Path) -> None:
    data = read_image_folder(write_classes(tmp_path, {"moon": 10, "star": 20}), "ink")
    assert data.origin.class_names == ("moon", "star")
    assert (data.origin.dataset, data.origin.source) == ("images", f"image folder {tmp_path}")
    assert np.bincount(data["train"].labels).tolist() == [8, 16]
    assert np.bincount(data["test"].labels).tolist() == [2, 4]
    assert count_duplicates(data) == {"train": 0}
    assert read_image_folder(tmp_path, "ink").digest() == data.digest()


def test_an_image_folder_with_parts_keeps_them(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"moon": 3, "star": 4})
    write_classes(tmp_path / "test", {"moon": 1, "star": 2}, seed=9)
    data = read_image_folder(tmp_path, "ink")
    assert np.array_equal(data["train"].images, np.concatenate([strokes(3, 0), strokes(4, 1)]))
    assert data["train"].labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data["test"].labels.tolist() == [0, 1, 1]


def test_images_go_through_the_front_door_as_prepared(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"moon": 2, "star": 2})
    write_classes(tmp_path / "test", {"moon": 2, "star": 2})
    (tmp_path / "train" / "moon" / "000.png").write_bytes(png(255 - strokes(1)[0]))
    inks, kept = (read_image_folder(tmp_path, how) for how in ("ink", "resize"))
    assert np.array_equal(inks["train"].images[0], strokes(1)[0])
    assert np.array_equal(kept["train"].images[0], 255 - strokes(1)[0])


def test_what_is_no_image_file_in_an_image_folder_is_not_one(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 10, "star": 10})
    (tmp_path / "moon" / "notes.txt").write_text("half of them from 2019")
    (tmp_path / ".git").mkdir()
    data = read_image_folder(tmp_path, "ink")
    assert (len(data), data.origin.class_names) == (20, ("moon", "star"))


def test_all_images_that_cannot_be_used_are_listed_at_once(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 10, "star": 10})
    (tmp_path / "moon" / "003.png").write_bytes(b"not a picture")
    (tmp_path / "star" / "004.png").write_bytes(png(np.full((28, 28), 255, np.uint8)))
    (tmp_path / "star" / "005.png").write_bytes(b"")
    with pytest.raises(BadSource, match="3 images cannot be used; repair or remove them") as refused:
        read_image_folder(tmp_path, "ink")
    _, *faults = str(refused.value).splitlines()
    assert [fault.split(": ")[0] for fault in faults] == [
        str(tmp_path / name) for name in ("moon/003.png", "star/004.png", "star/005.png")
    ]
    assert faults[1].endswith("the image is blank")


def test_a_missing_image_folder_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"there is no folder .*nowhere: set MNIST_DATA_DIR to the image folder"):
        read_image_folder(tmp_path / "nowhere", "ink")


def test_an_empty_image_folder_is_refused_with_what_must_be_in_it(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=f"{tmp_path} has no sub-folders: put the images of each class into one"):
        read_image_folder(tmp_path, "ink")


def test_class_folders_without_any_image_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 0, "star": 0})
    with pytest.raises(BadSource, match=rf"{tmp_path} holds no images \(.*\.png.*\) in its class folders"):
        read_image_folder(tmp_path, "ink")


def test_one_class_folder_without_images_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 10, "star": 10, "sun": 0})
    with pytest.raises(BadSource, match=f"{tmp_path} has class folders without images: sun; fill or remove them"):
        read_image_folder(tmp_path, "ink")


def test_a_class_that_only_the_test_part_has_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"moon": 3, "star": 3})
    write_classes(tmp_path / "test", {"moon": 3, "sun": 3})
    with pytest.raises(BadSource, match=r"test has classes that .*train has not: sun"):
        read_image_folder(tmp_path, "ink")


def test_one_class_teaches_nothing(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 10})
    with pytest.raises(BadSource, match=rf"{tmp_path} \(train\) holds one class only \(0\)"):
        read_image_folder(tmp_path, "ink")


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_classes(tmp_path, {"moon": 10, "star": 1})
    with pytest.raises(ValueError, match=r"cannot split 11 images 80%/20% .*images a class: \[10, 1\]"):
        read_image_folder(tmp_path, "ink")


def test_more_classes_than_a_byte_can_number_are_refused(tmp_path: Path) -> None:
    for i in range(257):
        (tmp_path / f"{i:03d}").mkdir()
    with pytest.raises(BadSource, match=f"{tmp_path} has 257 classes; labels are one byte, so 256 at most"):
        read_image_folder(tmp_path, "ink")


# --- embedded digits ---


def test_the_embedded_digits_look_like_mnist(embedded: DigitData) -> None:
    assert (len(embedded["train"]), len(embedded["test"])) == (1437, 360)
    assert embedded.origin.class_names == DIGIT_NAMES
    assert "not the full MNIST" in embedded.origin.source
    assert np.unique(embedded["test"].labels).tolist() == list(range(10))
    images = np.concatenate([embedded["train"].images, embedded["test"].images]).astype(float)
    inked = images > 0
    for axis in (1, 2):
        ink = images.sum(3 - axis)
        centre = (ink * np.arange(28)).sum(1) / ink.sum(1)
        assert np.abs(centre - 14).max() <= 1
        assert (inked.any(3 - axis).sum(1) <= 20).all()


def test_the_embedded_digits_are_the_same_every_time(embedded: DigitData) -> None:
    assert sources.read_embedded().digest() == embedded.digest()


# --- labels ---


@pytest.mark.parametrize("wrong", [10, 255, -1])
def test_a_label_outside_the_classes_is_named_with_its_position(wrong: int) -> None:
    labels = np.array([3, 4, wrong, wrong])
    with pytest.raises(BadSource, match=rf"here: label {wrong} at position 2 \(2 such labels\)"):
        sources.check_labels(labels, 10, "here")
