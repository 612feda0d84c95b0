"""The shelf: one contract, run against disk and S3, and what only a disk can do wrong."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline.storage.blobs import STALE_AFTER, BadKey, StoreUnavailable
from mnist_pipeline.storage.s3 import S3Shelf
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import DiskShelf, Missing, Shelf

BAD_NAMES = ["", "/a", "a/", "a//b", "../x", "a/../b", ".hidden", "a b", "a\\b", "a\0b", "é"]


@pytest.fixture
def disk_shelf(tmp_path: Path) -> Shelf:
    return DiskShelf(tmp_path / "shelf")


@pytest.fixture
def s3_shelf(place: Place) -> Shelf:
    return S3Shelf(place)


@pytest.fixture(params=["disk_shelf", "s3_shelf"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("data", [b"", b"\0\xff\r\n", b"x" * 3_000_000], ids=["empty", "binary", "3 MB"])
def test_what_is_put_comes_back_and_is_replaced(shelf: Shelf, data: bytes) -> None:
    shelf.put("a/b.bin", b"before, which is longer than nothing")
    shelf.put("a/b.bin", data)
    assert shelf.get("a/b.bin") == data
    with shelf.local("a/b.bin") as path:
        assert (path.read_bytes(), path.suffix) == (data, ".bin")


def test_a_file_is_put_as_it_is(shelf: Shelf, tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "mine").write_bytes(content)
        shelf.put_file("night/table.parquet", tmp_path / "mine")
        assert shelf.get("night/table.parquet") == content
    assert shelf.list("") == ["night/table.parquet"]


def test_what_is_written_in_place_is_put_when_it_is_whole(shelf: Shelf) -> None:
    shelf.put("a.txt", b"before")
    with shelf.replacing("a.txt") as path:
        path.write_bytes(b"after")
        assert shelf.get("a.txt") == b"before"
    assert shelf.get("a.txt") == b"after"
    assert not path.exists()


@pytest.mark.parametrize("interruption", [OSError("No space left"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_is_interrupted_changes_nothing_and_leaves_nothing(shelf: Shelf, interruption: BaseException) -> None:
    shelf.put("a.txt", b"before")

    def half(name: str) -> None:
        with shelf.replacing(name) as path:
            path.write_bytes(b"half")
            left.append(path)
            raise interruption

    left: list[Path] = []
    for name in ("a.txt", "new/b.txt"):
        with pytest.raises(type(interruption)):
            half(name)
    assert shelf.list("") == ["a.txt"]
    assert shelf.get("a.txt") == b"before"
    assert [path for path in left if path.exists()] == []


def test_a_missing_file_is_said_to_be_missing_and_where(shelf: Shelf) -> None:
    shelf.put("a/b", b"")
    for name in ("nothing", "a", "a/b/c"):
        with pytest.raises(Missing) as caught:
            shelf.get(name)
        assert str(caught.value) == f"there is no {shelf.where(name)!r}"
        with pytest.raises(Missing), shelf.local(name):
            pass


def test_list_gives_the_names_under_a_prefix_sorted(shelf: Shelf) -> None:
    assert shelf.list("") == shelf.list("b/") == []
    for name in ["b/2", "b/10", "a", "b/2.x/y", "bb/1"]:
        shelf.put(name, b"")
    assert shelf.list("") == ["a", "b/10", "b/2", "b/2.x/y", "bb/1"]
    assert shelf.list("b/") == ["b/10", "b/2", "b/2.x/y"]
    assert shelf.list("b/2") == ["b/2", "b/2.x/y"]
    assert shelf.list("a/") == []


def test_deleting_is_no_error_twice(shelf: Shelf) -> None:
    shelf.put("a/b", b"")
    shelf.delete("a/b")
    shelf.delete("a/b")
    assert shelf.list("") == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_pattern_is_refused_everywhere(shelf: Shelf, tmp_path: Path, name: str) -> None:
    attempts: list[Callable[[str], object]] = [shelf.get, shelf.delete, shelf.where]
    attempts += [lambda bad: shelf.put(bad, b""), lambda bad: shelf.put_file(bad, tmp_path / "x")]
    attempts += [lambda bad: shelf.local(bad).__enter__(), lambda bad: shelf.replacing(bad).__enter__()]
    for attempt in attempts:
        with pytest.raises(BadKey):
            attempt(name)


# --- the disk ---


def test_what_a_killed_writer_left_is_no_file_and_is_swept_after_a_day(tmp_path: Path) -> None:
    shelf = DiskShelf(tmp_path)
    shelf.put("a.txt", b"")
    killed, at_work, foreign = (tmp_path / f".{name}" for name in ("a.txt.0.part", "a.txt.1.part", "DS_Store"))
    for path in (killed, at_work, foreign):
        path.write_bytes(b"half")
    long_ago = time.time() - STALE_AFTER - 60
    for path in (killed, foreign):
        os.utime(path, (long_ago, long_ago))
    assert shelf.list("") == ["a.txt"]
    shelf.put("b.txt", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", ".a.txt.1.part", "a.txt", "b.txt"]


def test_a_file_from_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, mine, renamed = DiskShelf(tmp_path / "shelf"), tmp_path / "mine", Path.rename

    def rename(path: Path, target: Path) -> Path:  # as rename(2) answers between file systems
        if path == mine:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    mine.write_bytes(b"content")
    shelf.put_file("a", mine)
    assert shelf.get("a") == b"content"
    assert shelf.list("") == ["a"]


def test_a_root_that_is_a_file_is_an_error_and_no_empty_shelf(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("I was here first")
    shelf = DiskShelf(tmp_path / "shelf")
    for attempt in (lambda: shelf.list(""), lambda: shelf.put("a", b"")):
        with pytest.raises(StoreUnavailable, match="shelf"):
            attempt()


def test_what_people_put_there_under_names_that_none_may_have_is_listed_by_itself(
    disk_shelf: Shelf, s3_shelf: Shelf, place: Place, tmp_path: Path
) -> None:
    (tmp_path / "shelf" / "labels" / ".hidden").mkdir(parents=True)
    for name in (
        "labels/my labels (1).csv",
        "labels/Müller.csv",
        "labels/.DS_Store",
        "labels/.hidden/a",
        "labels/a.csv",
    ):
        (tmp_path / "shelf" / name).write_bytes(b"x")
        place.put(name, b"x")
    place.put("labels/folder/", b"")  # as a console makes one
    place.put("other/my file.csv", b"")
    for shelf in (disk_shelf, s3_shelf):
        assert shelf.misnamed("labels/") == ["labels/Müller.csv", "labels/my labels (1).csv"]
        assert shelf.list("labels/") == ["labels/a.csv"]
