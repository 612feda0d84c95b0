"""CSV files of one task: those in its folder or prefix, and one that a variable names. A dataset is its content.

Here: which files there are, their keys, their bytes.
Not here: what the bytes mean (`ml/tables/reading.py`), when a run is asked for (`sensors/tables.py`).
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.changes import Files, listing
from mnist_pipeline.inbox.dropped import is_meant
from mnist_pipeline.storage.blobs import StoreUnavailable, StoreUnreachable, explained
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import Missing

EMBEDDED = "embedded"  # the key of the table that comes with the project
SUFFIX = ".csv"
DIGITS = 8  # of the digest in a key
log = logging.getLogger(__name__)
LONGEST = 60  # characters of the file's name in a key


class UnknownDataset(LookupError):
    """No file has the content that the key stands for; the message names those that there are."""


@dataclass(frozen=True)
class Dataset:
    """A file whose content was read."""

    key: str
    name: str
    where: str
    data: bytes

    @property
    def digest(self) -> str:
        """sha256 of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Datasets:
    """The files of one task. place: a folder, which need not be there, or a prefix in S3. named: one more file."""

    place: Path | Place
    named: Path | None = None

    def files(self) -> Files:
        """Name -> size and date, or etag; a named file under its whole path. Raises StoreUnavailable."""
        found = {} if isinstance(self.place, Path) and not self.place.is_dir() else listing(self.place)
        found = {name: facts for name, facts in found.items() if name.lower().endswith(SUFFIX) and is_meant(name)}
        if self.named:
            with explained("read", self.named):
                status = self.named.stat()
            found[str(self.named)] = status.st_size, status.st_mtime_ns
        return dict(sorted(found.items()))

    def read(self, name: str) -> Dataset:
        """One of `files()`, whole. Raises FileNotFoundError or Missing when it is gone, StoreUnavailable."""
        if isinstance(self.place, Place) and name != str(self.named):
            data, where = self.place.get(name), self.place.where(name)
        else:
            path = Path(name) if name == str(self.named) else Path(str(self.place), name)
            data, where = _bytes(path), str(path)
        return Dataset(key_of(name, data), name, where, data)

    def all(self) -> Iterator[Dataset]:
        """Every file that can be read; of one that cannot, the log says why."""
        for name in self.files():
            try:
                yield self.read(name)
            except (FileNotFoundError, Missing):
                continue
            except StoreUnreachable:
                raise
            except StoreUnavailable as error:  # of this file alone
                log.error("%s", error)

    def find(self, key: str) -> Dataset:
        """The file whose content `key` stands for. Raises UnknownDataset, StoreUnavailable."""
        there = []
        for dataset in self.all():
            if dataset.key == key or content_of(dataset.key) == content_of(key):
                return dataset
            there.append(f"{dataset.key} ({dataset.where})")
        raise UnknownDataset(
            f"no file has the content of dataset {key!r} any more; there are {', '.join(there) or 'none'}. "
            "Put that file back, or materialize the partition of another one"
        )


def key_of(name: str, data: bytes) -> str:
    """The partition of a file: its name, made simple, and the first digits of its sha256."""
    simple = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:LONGEST] or "table"
    return f"{simple}-{hashlib.sha256(data).hexdigest()[:DIGITS]}"


def content_of(key: str) -> str:
    """The part of a key that stands for the content: files of other names with equal content are the same dataset."""
    return key.rpartition("-")[2]


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(path)
    with explained("read", path):
        return path.read_bytes()
