"""Shards: a night cut into parts of bounded size, in an order that is always the same.

Not here: how one is scored (`scoring.py`), and where its files come from (`mailbox.py`, `bucket.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.inbox.mailbox import Mailbox, Opened
from mnist_pipeline.ml.array_files import BadArray
from mnist_pipeline.ml.image_rows import extent_of, holds_many, identity_of
from mnist_pipeline.storage.sealed import sha256_of

FILES_A_SHARD, ROWS_A_SHARD, BYTES_A_SHARD = 1_000, 10_000, 1 << 26


@dataclass(frozen=True)
class Shard:
    """A bounded part of a night: up to 1,000 image files, or up to 10,000 rows and 64 MiB of an array or Parquet file.

    files: names that the night has them under. sha256: of a file with rows, which is read once for it and not once a
    shard; identity: by which such a file shows that it was not written since. fault: why it cannot be read; it is one
    shard then, so that none of its rows is taken for good.
    """

    files: tuple[str, ...]
    begin: int = 0
    end: int = 0
    sha256: str = ""
    fault: str = ""
    identity: str = ""

    @property
    def has_rows(self) -> bool:
        """Whether it is a part of a file with rows, or such a file that cannot be read."""
        return bool(self.fault or self.end)


class Fetched:
    """A night's files on this disk, a shard's at a time: what was asked for last stays, for it is asked for again."""

    def __init__(self, inbox: Mailbox, night: str) -> None:
        self._inbox, self._night = inbox, night
        self._names: tuple[str, ...] = ()
        self._kept = ExitStack()
        self._opened: Opened | None = None

    def files(self, names: tuple[str, ...]) -> Opened:
        """These files; those from before are given up. Raises StoreUnavailable."""
        if self._opened is None or names != self._names:
            self.close()
            self._opened = self._kept.enter_context(self._inbox.opened(self._night, names))
            self._names = names
        return self._opened

    def close(self) -> None:
        """Give up what is there."""
        self._opened = None
        self._kept.close()


def plan(files: Sequence[str], fetched: Fetched) -> Iterator[Shard]:
    """First the images, then every file with rows, which is read through for its digest."""
    images = [name for name in files if not holds_many(name)]
    for at in range(0, len(images), FILES_A_SHARD):
        yield Shard(tuple(images[at : at + FILES_A_SHARD]))
    for name in files:
        if holds_many(name):
            opened = fetched.files((name,))
            yield from _plan_rows(name, opened.folder / opened.files[0])


def _plan_rows(name: str, path: Path) -> Iterator[Shard]:
    """At least one shard, so that a file which cannot be read still comes to somebody's notice."""
    identity, digest = identity_of(path), sha256_if_readable(path)
    try:
        count, size = extent_of(path)
    except BadArray as error:
        yield Shard((name,), sha256=digest, fault=str(error))
        return
    rows = min(ROWS_A_SHARD, max(1, BYTES_A_SHARD // size))
    for begin in range(0, count, rows):
        yield Shard((name,), begin, min(begin + rows, count), digest, identity=identity)


def sha256_if_readable(path: Path) -> str:
    """Of a file of any size; empty for one that cannot be read, which is then refused for that."""
    try:
        return sha256_of(path)
    except OSError:
        return ""
