"""Training data in S3: the copy on disk is what is there, and only what changed is fetched."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from digit_files import digits, idx_contents, png, strokes, write_idx
from s3_server import Answer, Proxy

from mnist_pipeline.acquire import DigitSource
from mnist_pipeline.ml.sources import BadSource
from mnist_pipeline.storage.blobs import StoreUnavailable, StoreUnreachable
from mnist_pipeline.storage.mirror import mirrored
from mnist_pipeline.storage.s3_requests import Place

LOG = logging.getLogger("mirror")


def put(place: Place, **files: bytes) -> None:
    for name, data in files.items():
        place.put(name.replace("__", "/"), data)


def seen(place: Place, parent: Path) -> dict[str, bytes]:
    """What the folder holds."""
    with mirrored(place, parent, LOG) as folder:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(proxy: Proxy) -> list[str]:
    """Names of the objects that were read since the last call."""
    asked = [request.path.rpartition("/")[2] for request in proxy.asked if request.method == "GET"]
    proxy.asked.clear()
    return sorted(name for name in asked if "list-type" not in name)


@pytest.fixture
def far(place: Place, proxy: Proxy) -> Place:
    return replace(place, endpoint=proxy.endpoint, attempts=2)


def test_what_is_there_is_fetched_once(place: Place, far: Place, proxy: Proxy, tmp_path: Path) -> None:
    put(place, a=b"1", train__0__x=b"2", train__0__y=b"")
    for expected in (["a", "x", "y"], []):
        assert seen(far, tmp_path) == {"a": b"1", "train/0/x": b"2", "train/0/y": b""}
        assert fetched(proxy) == expected


def test_what_changed_is_fetched_and_what_is_gone_is_removed(
    place: Place, far: Place, proxy: Proxy, tmp_path: Path
) -> None:
    put(place, a=b"1", b=b"2", c__d=b"3")
    seen(far, tmp_path)
    fetched(proxy)
    put(place, a=b"!", e=b"4")
    place.delete("c/d")
    assert seen(far, tmp_path) == {"a": b"!", "b": b"2", "e": b"4"}
    assert fetched(proxy) == ["a", "e"]
    with mirrored(far, tmp_path, LOG) as folder:
        assert [path.name for path in folder.iterdir() if path.is_dir()] == []


def test_a_file_may_become_a_folder(place: Place, tmp_path: Path) -> None:
    put(place, a=b"1")
    seen(place, tmp_path)
    place.delete("a")
    put(place, a__b=b"2")
    assert seen(place, tmp_path) == {"a/b": b"2"}


def test_a_copy_that_was_cut_or_lost_is_fetched_again(place: Place, tmp_path: Path) -> None:
    put(place, a=b"123", b=b"456")
    with mirrored(place, tmp_path, LOG) as folder:
        os.truncate(folder / "a", 1)
        (folder / "b").unlink()
    assert seen(place, tmp_path) == {"a": b"123", "b": b"456"}


def test_a_fetch_that_fails_leaves_nothing_that_looks_whole(
    place: Place, far: Place, proxy: Proxy, tmp_path: Path
) -> None:
    put(place, a=b"1", b=b"2")
    seen(far, tmp_path)
    put(place, a=b"!")
    proxy.fault = lambda request: Answer(503) if request.path.endswith("/a") else None
    with pytest.raises(StoreUnreachable, match=r"cannot read s3://.*/a"):
        seen(far, tmp_path)
    put(place, a=b"1")  # as before, but what lies on disk now is anybody's guess
    proxy.fault = lambda request: None
    fetched(proxy)
    assert seen(far, tmp_path) == {"a": b"1", "b": b"2"}
    assert fetched(proxy) == ["a"]


def test_hidden_objects_and_folder_markers_are_left_out(place: Place, tmp_path: Path) -> None:
    for name in ("a", ".DS_Store", "x/.hidden/b", "x/"):
        place.put(name, b"")
    assert seen(place, tmp_path) == {"a": b""}


@pytest.mark.parametrize("name", ["../x", "a//b", "/a", "a/../../b"])
def test_a_name_that_leads_elsewhere_is_refused(place: Place, tmp_path: Path, name: str) -> None:
    place.put(name, b"")
    with pytest.raises(StoreUnavailable, match=r"cannot be a file in a folder: rename that object"):
        seen(place, tmp_path / "copies")
    assert [path.name for path in tmp_path.iterdir()] == ["copies"]


def test_an_empty_prefix_is_said_so(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is nothing under s3://bucket-\w+/some/prefix/: put the data"):
        seen(place, tmp_path)


def source(place: Place, downloads: Path, dataset: str) -> DigitSource:
    return DigitSource(dataset, place, downloads, allow_embedded=True)


def test_idx_files_in_s3_are_read_as_in_a_folder(place: Place, tmp_path: Path) -> None:
    for path in write_idx(tmp_path / "idx", idx_contents(digits(40), digits(10, seed=1))).iterdir():
        place.put(path.name, path)
    data = source(place, tmp_path / "downloads", "idx").load(LOG)
    assert len(data) == 50
    assert data.origin.source == f"own IDX files in s3://{place.bucket}/some/prefix, not verified"


def test_an_image_folder_in_s3_is_read_as_one_on_disk(place: Place, tmp_path: Path) -> None:
    for number, image in enumerate(strokes(20)):
        place.put(f"{'ab'[number % 2]}/{number}.png", png(image))
    data = source(place, tmp_path, "images").load(LOG)
    assert (len(data), data.origin.class_names) == (20, ("a", "b"))


@pytest.mark.parametrize("dataset", ["idx", "auto"])
def test_what_is_wrong_is_said_with_bucket_and_key_and_is_no_reason_to_fall_back(
    place: Place, tmp_path: Path, dataset: str
) -> None:
    place.put("train-images-idx3-ubyte.gz", b"\x1f\x8bno")
    url = f"s3://{place.bucket}/some/prefix"
    with pytest.raises(ValueError, match=rf"{url}(/train-images-idx3-ubyte.gz is a damaged|.* has no)") as caught:
        source(place, tmp_path, dataset).load(LOG)
    assert str(tmp_path) not in str(caught.value)
    place.delete("train-images-idx3-ubyte.gz")
    place.put("x", b"")
    with pytest.raises(BadSource, match=f"{url} has no train-images"):
        source(place, tmp_path, dataset).load(LOG)
