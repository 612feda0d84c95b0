"""Training data that has changed: told from a folder and from a bucket alike."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mnist_pipeline.changes import SIGNATURE, Snapshot, content_digest, listing, signature
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


def test_a_link_to_nowhere_hides_no_other_file(folder: Path) -> None:
    before = listing(folder)
    (folder / "link").symlink_to("nowhere")
    assert listing(folder) == before


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


# --- snapshots: whether a source holds what was read from it ---


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text("1")
    return tmp_path


def test_a_source_is_the_same_until_its_content_changes(source: Path) -> None:
    read = Snapshot.of(source).tags()
    assert Snapshot.of(source).compare(read) == ""
    (source / "rows.csv").write_text("1")  # another date
    assert Snapshot.of(source).signature != read[SIGNATURE]
    assert Snapshot.of(source).compare(read) == ""
    (source / "rows.csv").write_text("2")
    assert Snapshot.of(source).compare(read) == "its source has changed"


def test_content_is_read_only_where_the_signature_differs(source: Path) -> None:
    read = Snapshot.of(source).tags()
    again = Snapshot.of(source)
    (source / "rows.csv").unlink()  # reading would fail
    assert again.compare(read) == ""


def test_a_file_that_goes_away_meanwhile_is_a_change_that_is_named(source: Path) -> None:
    read = Snapshot.of(source).tags()
    (source / "more.csv").write_text("3")
    now = Snapshot.of(source)
    (source / "more.csv").unlink()
    assert re.search(r"its source is changing: .*more\.csv went away", now.compare(read))


def test_other_settings_are_another_source(source: Path) -> None:
    read = Snapshot.of(source, "mnist ink").tags()
    assert Snapshot.of(source, "mnist resize").compare(read) == "its source has changed"
    assert Snapshot.of_settings("mnist ink").compare(read) == "its source has changed"
    assert Snapshot.of_settings("a").compare(Snapshot.of_settings("a").tags()) == ""


def test_what_was_read_before_anybody_noted_it_is_read_again(source: Path) -> None:
    assert Snapshot.of(source).compare({}) == "nobody noted what it was read from"
