"""CSV files of one task: those in its folder or prefix, and one that a variable names. A dataset is its content.

Here: which files there are, their keys, their bytes.
Not here: what the bytes mean (`ml/tables/reading.py`), when a run is asked for (`sensors/tables.py`).
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
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
SETTLE_S = 1.0  # a file that was written so lately is looked at once more, whether it still grows


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
    """The files of one task. place: a folder, which need not be there, or a prefix in S3. named: one more file, and
    variable: what names it."""

    place: Path | Place
    named: Path | None = None
    variable: str = "the variable"

    def files(self) -> Files:
        """Name -> size and date, or etag; a named file under its whole path, also where it cannot be read. Raises
        StoreUnavailable."""
        found = {} if isinstance(self.place, Path) and not self.place.is_dir() else listing(self.place)
        found = {name: facts for name, facts in found.items() if name.lower().endswith(SUFFIX) and is_meant(name)}
        if self.named:
            found[str(self.named)] = _facts(self.named)
        return dict(sorted(found.items()))

    def read(self, name: str) -> Dataset:
        """One of `files()`, whole. Raises FileNotFoundError or Missing when it is gone, StoreUnavailable."""
        if name == str(self.named):
            path = Path(name)
            data, where = self._named_bytes(path), name
        elif isinstance(self.place, Place):
            data, where = self.place.get(name), self.place.where(name)
        else:
            path = self.place / name
            data, where = _bytes(path), str(path)
        return Dataset(key_of(name, data), name, where, data)

    def all(self, tell: Callable[[str], None] = log.error) -> Iterator[Dataset]:
        """Every file that can be read; `tell` is called with what is wrong with one that cannot."""
        return self._each(self.files(), tell)

    def whole(self, tell: Callable[[str], None] = log.error) -> Iterator[Dataset]:
        """The same without files that somebody is writing, which are told as well."""
        before = after = self.files()
        if any(map(_is_young, before.values())):
            time.sleep(SETTLE_S)
            after = self.files()
        for name in after:
            if before.get(name) != after[name]:
                tell(f"{name} is being written: try again when it is whole")
        return self._each([name for name, facts in after.items() if before.get(name) == facts], tell)

    def find(self, key: str) -> Dataset:
        """The file whose content `key` stands for. Raises UnknownDataset, StoreUnavailable."""
        there: list[str] = []
        faults: list[str] = []
        for dataset in self.all(faults.append):
            if dataset.key == key or content_of(dataset.key) == content_of(key):
                return dataset
            there.append(f"{dataset.key} ({dataset.where})")
        raise UnknownDataset(
            f"no file has the content of dataset {key!r} any more; there are {', '.join(there) or 'none'}. "
            + "".join(f"It may be one that cannot be read: {fault}. " for fault in faults)
            + "Put that file back, or materialize the partition of another one"
        )

    def gone(self, keys: Iterable[str]) -> Collection[str]:
        """Those of these keys whose content no file has any more; none while a file cannot be read, for it may be
        that one. Raises StoreUnavailable."""
        faults: list[str] = []
        there = {content_of(dataset.key) for dataset in self.all(faults.append)}
        return set() if faults else {key for key in keys if key != EMBEDDED and content_of(key) not in there}

    def _each(self, names: Iterable[str], tell: Callable[[str], None]) -> Iterator[Dataset]:
        for name in names:
            try:
                yield self.read(name)
            except (FileNotFoundError, Missing):
                continue
            except StoreUnreachable:
                raise
            except StoreUnavailable as error:  # of this file alone
                tell(str(error))

    def _named_bytes(self, path: Path) -> bytes:
        """Other files come and go; one that is named has to be there."""
        advice = f"name a CSV file, or unset {self.variable}"
        if path.is_dir():
            raise StoreUnavailable(f"{self.variable} names {path}, which is a folder: {advice}")
        try:
            return _bytes(path)
        except FileNotFoundError:
            raise StoreUnavailable(f"{self.variable} names {path}, which is not there: {advice}") from None
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.variable}: {error}") from error


def key_of(name: str, data: bytes) -> str:
    """The partition of a file: its name, made simple, and the first digits of its sha256."""
    simple = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:LONGEST] or "table"
    return f"{simple}-{hashlib.sha256(data).hexdigest()[:DIGITS]}"


def content_of(key: str) -> str:
    """The part of a key that stands for the content: files of other names with equal content are the same dataset."""
    return key.rpartition("-")[2]


def _bytes(path: Path) -> bytes:
    with explained("read", path):
        data = path.read_bytes() if path.exists() else None
    if data is None:
        raise FileNotFoundError(path)
    return data


def _facts(path: Path) -> tuple[int, int]:
    """Size and date; nothing of a file that is not there, which whoever reads it is told."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _is_young(facts: tuple[int, int | str]) -> bool:
    """Written a moment ago. An object in S3 is there whole or not at all."""
    return isinstance(facts[1], int) and 0 <= time.time_ns() - facts[1] < SETTLE_S * 1e9
