"""Shelves: named files that may be replaced. For what is made anew each time: values, pictures, tables, spools.

Here: the contract (`Shelf`) and the shelf on a disk; the one in S3 is in `s3.py`.
Not here: what must never be replaced, which is a blob (`blobs.py`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

Names = list[str]  # an alias, because inside the classes below `list` is the method


class Missing(KeyError):
    """There is no file of that name on the shelf."""

    def __str__(self) -> str:
        return f"there is no {self.args[0]!r}"


class Shelf(Protocol):
    """Files under names of the form "part/part.suffix". A file is replaced whole or stays as it was."""

    def put(self, name: str, data: bytes) -> None:
        """Write or replace a file. Raises StoreUnavailable."""

    def put_file(self, name: str, path: Path) -> None:
        """The same from a file on this disk, of any size; that file may be moved away by it."""

    def get(self, name: str) -> bytes:
        """The bytes of a file. Raises Missing, StoreUnavailable."""

    def list(self, prefix: str) -> Names:
        """All names that begin with `prefix`, sorted, however many there are."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def where(self, name: str) -> str:
        """For people: the path or URL of a file."""


@dataclass(frozen=True)
class DiskShelf:
    """Files below `root`. Hidden files (what a killed writer left) are not on the shelf."""

    root: Path

    def put(self, name: str, data: bytes) -> None:
        part = self._part(name)
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.root / name)
        finally:
            part.unlink(missing_ok=True)

    def put_file(self, name: str, path: Path) -> None:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)

    def get(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            raise Missing(self.where(name)) from None

    def list(self, prefix: str) -> Names:
        start = self.root / prefix.rpartition("/")[0]
        found = (path for path in start.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(name for path in found if (name := path.relative_to(self.root).as_posix()).startswith(prefix))

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def where(self, name: str) -> str:
        return str(self.root / name)

    def _part(self, name: str) -> Path:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
