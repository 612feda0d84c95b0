"""Training data that has changed: told from a folder and from a bucket alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_pipeline.changes import content_digest, listing, signature
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.s3_requests import Place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.png").write_bytes(b"one")
    (tmp_path / "labels").write_bytes(b"two")
    return tmp_path


def test_hidden_and_unfinished_files_do_not_count(folder: Path) -> None:
    before = listing(folder)
    for name in (".DS_Store", "labels.part"):
        (folder / name).touch()
    assert listing(folder) == before
    assert set(before) == {"labels", "train/1.png"}


def test_the_same_content_with_other_dates_has_another_signature_and_the_same_digest(folder: Path) -> None:
    before = listing(folder)
    digest = content_digest(folder, before)
    os.utime(folder / "labels", (1, 1))
    after = listing(folder)
    assert signature(after) != signature(before)
    assert content_digest(folder, after) == digest
    (folder / "labels").write_bytes(b"tow")
    assert content_digest(folder, listing(folder)) != digest


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no folder that can be read: mount it, or mend MNIST_DATA_DIR"):
        listing(tmp_path / "nowhere")


def test_objects_are_told_apart_by_their_content(place: Place) -> None:
    place.put("labels", b"two")
    place.put(".hidden", b"")
    before = listing(place)
    assert set(before) == {"labels"}
    place.put("labels", b"two")
    assert content_digest(place, listing(place)) == content_digest(place, before)
    place.put("labels", b"tow")
    assert content_digest(place, listing(place)) != content_digest(place, before)


def test_a_bucket_that_is_not_there_is_an_error(s3_endpoint: str) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere-at-all"):
        listing(Place("nowhere-at-all", "", s3_endpoint))
