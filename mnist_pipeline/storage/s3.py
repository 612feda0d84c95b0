"""Blobs and shelves in S3: the contracts of `blobs.py` and `shelves.py`, kept by conditional requests.

Works with AWS and with any server that speaks S3 and knows `If-None-Match: *` on writes.
Not here: requests and retries (`s3_requests.py`), what a fault means (`s3_errors.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.storage.blobs import BlobMissing, check_key, check_prefix, is_key, is_misnamed
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import Missing

Keys = list[str]  # an alias, because inside the classes below `list` is the method


@dataclass(frozen=True)
class S3Blobs:
    """Blobs as objects: an object appears whole, and is created on the condition that its key is free.

    S3 has no folders: a blob can lie below another one's name, which `DiskBlobs` refuses.
    """

    place: Place

    def read(self, key: str) -> bytes:
        return self.place.get(check_key(key))

    def create(self, key: str, data: bytes) -> None:
        self.place.put(check_key(key), data, new=True)

    def list(self, prefix: str) -> Keys:
        return _names(self.place, prefix)

    def delete(self, key: str) -> None:
        if not self.place.has(check_key(key)):
            raise BlobMissing(key)
        self.place.delete(key)


@dataclass(frozen=True)
class S3Shelf:
    """Files as objects, each replaced whole by S3 itself."""

    place: Place

    def put(self, name: str, data: bytes) -> None:
        self.place.put(check_key(name), data)

    def put_file(self, name: str, path: Path) -> None:
        self.place.put(check_key(name), path)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        check_key(name)
        with tempfile.TemporaryDirectory(prefix="to-s3-") as folder:
            path = Path(folder) / name.rpartition("/")[2]
            yield path
            self.put_file(name, path)

    def get(self, name: str) -> bytes:
        try:
            return self.place.get(check_key(name))
        except BlobMissing:
            raise Missing(self.where(name)) from None

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        check_key(name)
        with tempfile.TemporaryDirectory(prefix="from-s3-") as folder:
            path = Path(folder) / name.rpartition("/")[2]
            try:
                self.place.fetch(name, path)
            except BlobMissing:
                raise Missing(self.where(name)) from None
            yield path

    def list(self, prefix: str) -> Keys:
        return _names(self.place, prefix)

    def misnamed(self, prefix: str) -> Keys:
        return sorted(each.name for each in self.place.entries(check_prefix(prefix)) if is_misnamed(each.name))

    def delete(self, name: str) -> None:
        self.place.delete(check_key(name))

    def where(self, name: str) -> str:
        return self.place.where(check_key(name))


def _names(place: Place, prefix: str) -> Keys:
    """Sorted; what else lies in the bucket (the markers of a console's folders) is none of ours."""
    return sorted(each.name for each in place.entries(check_prefix(prefix)) if is_key(each.name))
