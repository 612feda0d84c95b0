"""Locations: a folder or s3://bucket/prefix, and what is neither."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.storage.locations import BadLocation, blobs_at, shelf_at
from mnist_pipeline.storage.s3 import S3Blobs, S3Shelf
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import DiskShelf


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert blobs_at(str(tmp_path)) == DiskBlobs(tmp_path)
    assert shelf_at(str(tmp_path)) == DiskShelf(tmp_path)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("s3://bucket", Place("bucket")),
        ("s3://bucket/", Place("bucket")),
        ("s3://my.bucket-1/some/prefix/", Place("my.bucket-1", "some/prefix")),
        ("s3://bucket/prefix with ü", Place("bucket", "prefix with ü")),
    ],
)
def test_s3_is_bucket_and_prefix(location: str, place: Place) -> None:
    assert blobs_at(location) == S3Blobs(place)
    assert shelf_at(location) == S3Shelf(place)


def test_another_server_is_kept_and_all_of_it_can_go_to_another_process() -> None:
    blobs = blobs_at("s3://bucket/prefix", "https://s3.example")
    assert blobs == S3Blobs(Place("bucket", "prefix", "https://s3.example"))
    assert pickle.loads(pickle.dumps(blobs)) == blobs


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "is no location: write a folder, or s3://bucket/prefix"),
        ("s3:/bucket", "is no location"),
        ("s3://", "names no bucket: write it like s3://bucket/prefix"),
        ("s3:///prefix", "names no bucket"),
        ("s3://b", "names no bucket"),
        ("s3://buc ket/x", "names no bucket"),
        ("s3://bucket/a//b", "a prefix has no empty part"),
        ("s3://bucket/../b", "a prefix has no empty part"),
        ("s3://bucket/" + "ü" * 61, "the prefix is longer than 120 bytes"),
        ("gs://bucket/x", "only folders and s3://bucket/prefix"),
    ],
)
def test_what_leads_nowhere_is_refused_with_how_to_write_it(location: str, said: str) -> None:
    for opening in (blobs_at, shelf_at):
        with pytest.raises(BadLocation, match=said):
            opening(location)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://x", "http://"])
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    with pytest.raises(BadLocation, match=r"S3_ENDPOINT_URL=.* is no address: write it like http://"):
        shelf_at("s3://bucket", endpoint)
