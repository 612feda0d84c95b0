"""Blobs: bytes under names, each written once. The ground that the model store stands on.

Here: the contract (`BlobStore`), its errors and names, and the store on a disk. The one in S3 (`s3.py`) keeps the
same contract and passes the same tests.
Not here: what the bytes mean (`store.py`, `ledger.py`).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

Keys = list[str]  # an alias, because inside the classes below `list` is the method

# S3 allows 1,024 bytes a key: the rest is left to a prefix. File systems allow 255 bytes a part.
LONGEST_KEY = 900
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
STALE_AFTER = 24 * 60 * 60  # seconds; no write takes a day, so an older temporary file has lost its writer


class BadKey(ValueError):
    """A name that the store does not accept; raised before it touches a path."""


class BlobExists(Exception):
    """The key is taken. What is under it is whole and durable, and was not changed."""

    def __str__(self) -> str:
        return f"{self.args[0]!r} is there already, and a blob is never overwritten"


class BlobMissing(KeyError):
    """There is nothing under the key."""

    def __str__(self) -> str:
        return f"there is no blob {self.args[0]!r} in the store"


class StoreUnavailable(OSError):
    """The storage cannot be read or written now; the message says what, where and what to do."""


class StoreUnreachable(StoreUnavailable):
    """The storage does not answer, or says that it is too busy: what may pass by itself, so trying again helps."""


class BlobStore(Protocol):
    """Bytes under keys: parts of ASCII letters, digits, '.', '_' and '-' joined by '/'.

    A blob is written once and whole: every reader, in any process, sees all of it or nothing. Make no blob another
    one's folder: a disk refuses it, S3 cannot. Every method raises BadKey for a key outside the pattern, and
    StoreUnavailable when the storage fails: a failure never looks like a missing blob or an empty list.
    """

    def read(self, key: str) -> bytes:
        """The bytes under `key`. Raises BlobMissing."""

    def create(self, key: str, data: bytes) -> None:
        """Write `data` durably under a new key; of several writers one wins, the others get BlobExists.

        BlobExists can also follow one's own write when a network lost the first answer: compare the bytes.
        """

    def list(self, prefix: str) -> Keys:
        """All keys that begin with `prefix` ("" is every key), sorted, however many there are."""

    def delete(self, key: str) -> None:
        """Remove a blob, for pruning only. Raises BlobMissing."""


def check_key(key: str) -> str:
    """Return `key` unchanged, or raise BadKey."""
    if len(key) <= LONGEST_KEY and all(PART.fullmatch(part) and ".." not in part for part in key.split("/")):
        return key
    raise BadKey(
        f"{key[:120]!r} is no name for the store: use ASCII letters, digits, '.', '_' and '-', beginning "
        f"with a letter or digit, without '..', at most 200 characters a part and {LONGEST_KEY} in all"
    )


def check_part(name: str) -> str:
    """Return `name` unchanged if it is a key of one part (a version, a file), or raise BadKey."""
    if "/" in name:
        raise BadKey(f"{name[:120]!r} is no name for the store: a name has no '/'")
    return check_key(name)


def check_prefix(prefix: str) -> str:
    """Return `prefix` unchanged if it is "", a key, or a key and a '/'; otherwise raise BadKey."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


@dataclass(frozen=True)
class DiskBlobs:
    """Blobs as files under `root`, on a file system that has hard links.

    A blob is staged under `.tmp`, synced, and hard-linked to its name, which fails if the name is taken: one
    step that is both atomic and exclusive, also over NFS. Nothing touches the disk before the first `create`.
    Durable means fsync: against a power cut on macOS, the drive's own cache is outside of its promise.
    """

    root: Path

    def read(self, key: str) -> bytes:
        path = self._path(key)
        with explained("read", path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise BlobMissing(key) from None

    def create(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with explained("write", path):
            with self._staged(data) as staged:
                self._make_way(key)
                won = _link(staged, path)
            # The loser syncs too: it may tell its caller that the blob is there before the winner has synced.
            for folder in self._folders(key):
                _sync(folder)
        if not won:
            raise BlobExists(key)

    def list(self, prefix: str) -> Keys:
        return keys_below(self.root, check_prefix(prefix))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with explained("delete", path):
            if not path.is_file():
                raise BlobMissing(key)
            path.unlink(missing_ok=True)
            _sync(path.parent)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _folders(self, key: str) -> tuple[Path, ...]:
        """The folders from `root` down to the blob's own."""
        parts = key.split("/")[:-1]
        return tuple(self.root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))

    def _make_way(self, key: str) -> None:
        try:
            _make_folder(self._folders(key)[-1])
        except (FileExistsError, NotADirectoryError):
            raise BadKey(f"{key!r} leads through another blob of the store: choose another name") from None

    @contextmanager
    def _staged(self, data: bytes) -> Iterator[Path]:
        """`data` in a synced temporary file, which is gone afterwards whatever happens, short of a kill."""
        folder = self.root / ".tmp"
        _make_folder(folder)
        sweep(folder, "*")
        staged = folder / uuid4().hex
        try:
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)


def keys_below(root: Path, prefix: str) -> Keys:
    """The keys of all files under `root` that begin with `prefix`, sorted. Raises StoreUnavailable."""
    return [name for name in names_below(root, prefix) if is_key(name)]


def names_below(root: Path, prefix: str) -> Keys:
    """The same of all files, whatever their names. Raises StoreUnavailable."""

    def unless_empty(error: OSError) -> None:
        """A folder that is not there holds no keys; any other error of a listing is one."""
        nothing = isinstance(error, NotADirectoryError) and root.is_dir()
        if not nothing and not isinstance(error, FileNotFoundError):
            raise error

    start = root / prefix.rpartition("/")[0]
    with explained("list", start):
        found = [
            Path(folder, name).relative_to(root).as_posix()
            for folder, _, names in os.walk(start, onerror=unless_empty)
            for name in names
        ]
    return sorted(name for name in found if name.startswith(prefix))


def is_key(key: str) -> bool:
    """Whether a file found in storage is a blob; what else lies there (.tmp, .DS_Store) is none."""
    try:
        return bool(check_key(key))
    except BadKey:
        return False


def is_misnamed(name: str) -> bool:
    """Whether a person has put this file there, under a name that none may have; hidden files are nobody's."""
    return not is_key(name) and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))


def _make_folder(folder: Path) -> None:
    """`mkdir -p` that survives a power cut: each new folder is synced into its parent."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(staged: Path, path: Path) -> bool:
    """Give the staged file its name; False if the name is taken.

    There is no fallback for file systems without hard links (exFAT, some network shares). O_EXCL on the final
    name leaves half a blob when the writer is killed; a rename overwrites the other racer's. A store that may
    do either is worth less than a clear error.
    """
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise StoreUnavailable(
                f"cannot write {path}: the file system refuses hard links ({error.strerror}), without which "
                "a write is not atomic; keep the store on a local disk (ext4, xfs, APFS), on NFS, or in S3"
            ) from error
        raise
    return True


def sweep(folder: Path, pattern: str) -> None:
    """Remove what killed writers left behind, which is what no writer has touched for a day."""
    for left in folder.glob(pattern):
        try:
            if time.time() - left.stat().st_mtime > STALE_AFTER:
                left.unlink()
        except FileNotFoundError:  # a writer finished with it, or another one swept it
            continue


_CURES = {
    errno.ENOSPC: "the disk is full: free some space, then try again",
    errno.EDQUOT: "the quota is used up: free some space or raise it, then try again",
    errno.EFBIG: "larger than the file system or `ulimit -f` allows: raise the limit, then try again",
    errno.EROFS: "the file system is read-only: mount it for writing, or put the store elsewhere",
    errno.EACCES: "permission denied: run as a user who may, or give this one access to the folder",
    errno.EPERM: "not permitted: run as a user who may, or look for an immutable flag on the folder",
    errno.EMFILE: "too many files are open: raise `ulimit -n`, then try again",
    errno.EIO: "the device failed: check the disk (dmesg) before trusting it with anything",
}


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn what the operating system says into what was wrong, where, and what to do. Raises StoreUnavailable."""
    try:
        yield
    except StoreUnavailable:
        raise
    except OSError as error:
        cure = _CURES.get(error.errno or 0, f"{error.strerror or error}: check that folder, then try again")
        culprit = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
        raise StoreUnavailable(f"cannot {action} {path}{culprit}: {cure}") from error
