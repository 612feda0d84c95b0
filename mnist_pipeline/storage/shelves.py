"""Shelves: named files that may be replaced. For what is made anew each time: values, pictures, tables, spools.

Here: the contract (`Shelf`) and the shelf on a disk; the one in S3 is in `s3.py`.
Not here: what must never be replaced, which is a blob (`blobs.py`).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from mnist_pipeline.storage.blobs import check_key, check_prefix, explained, is_misnamed, keys_below, names_below, sweep

Names = list[str]  # an alias, because inside the classes below `list` is the method


class Missing(KeyError):
    """There is no file of that name on the shelf."""

    def __str__(self) -> str:
        return f"there is no {self.args[0]!r}"


class Shelf(Protocol):
    """Files under names of the form "part/part.suffix", as blobs have. A file is replaced whole or stays as it was.

    Every method raises BadKey for a name outside the pattern, and StoreUnavailable when the storage fails.
    """

    def put(self, name: str, data: bytes) -> None:
        """Write or replace a file."""

    def put_file(self, name: str, path: Path) -> None:
        """The same from a file on this disk, of any size; that file may be moved away by it."""

    def replacing(self, name: str) -> AbstractContextManager[Path]:
        """A file on this disk to write into, which is put when the block ends well and dropped when it does not."""

    def get(self, name: str) -> bytes:
        """The bytes of a file. Raises Missing."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """A file on this disk to read from while the block lasts, without holding it in memory. Raises Missing."""

    def list(self, prefix: str) -> Names:
        """All names that begin with `prefix`, sorted, however many there are."""

    def misnamed(self, prefix: str) -> Names:
        """The same of files that people put there, and whose names none may have here, such as "my labels.csv"."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def where(self, name: str) -> str:
        """For people: the path or URL of a file."""


@dataclass(frozen=True)
class DiskShelf:
    """Files below `root`. Hidden files (what a killed writer left) are not on the shelf, and are swept after a day."""

    root: Path

    def put(self, name: str, data: bytes) -> None:
        with self.replacing(name) as part, explained("write", part):
            part.write_bytes(data)

    def put_file(self, name: str, path: Path) -> None:
        with self.replacing(name) as part, explained("write", part):
            _move(path, part)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        target = self._path(name)
        part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        with explained("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent, ".*.part")
        try:
            yield part
            with explained("write", target):
                _sync(part)
                part.rename(target)
        finally:
            part.unlink(missing_ok=True)

    def get(self, name: str) -> bytes:
        with self.local(name) as path, explained("read", path):
            return path.read_bytes()

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self._path(name)
        with explained("read", path):
            if not path.is_file():
                raise Missing(self.where(name))
        yield path

    def list(self, prefix: str) -> Names:
        return keys_below(self.root, check_prefix(prefix))

    def misnamed(self, prefix: str) -> Names:
        return [name for name in names_below(self.root, check_prefix(prefix)) if is_misnamed(name)]

    def delete(self, name: str) -> None:
        path = self._path(name)
        with explained("delete", path):
            path.unlink(missing_ok=True)

    def where(self, name: str) -> str:
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self.root / check_key(name)


def _move(path: Path, target: Path) -> None:
    """Rename, or copy where the file comes from another file system."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(path, target)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
