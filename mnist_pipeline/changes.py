"""Whether training data has changed: a cheap signature first, its content only when that differs.

Not here: what is done about it (`triggers.py`), and how the data is read (`acquire.py`).
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.inbox.dropped import is_meant
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.s3_requests import Place

Files = dict[str, tuple[int, int | str]]
CONTENT_LIMIT = 16 << 30  # bytes; beyond, a tick would take longer than a sensor may, so sizes and dates stand in
SIGNATURE, CONTENT = "mnist_pipeline/source_signature", "mnist_pipeline/source_content"  # tags of what was made


@dataclass(frozen=True)
class Snapshot:
    """What a source holds now. signature: changes whenever the content does, and is cheap; content: reads it all."""

    signature: str
    content: Callable[[], str]

    @classmethod
    def of(cls, place: Path | Place, settings: str = "") -> "Snapshot":
        """All files of a folder or under a prefix. settings: what else decides over what is read.

        Raises StoreUnavailable where there is no folder or bucket.
        """
        files = listing(place)
        return cls(_digest(settings, signature(files)), lambda: _digest(settings, content_digest(place, files)))

    @classmethod
    def of_settings(cls, settings: str) -> "Snapshot":
        """Where nothing but settings decides over what is read."""
        return cls(_digest(settings), lambda: _digest(settings))

    def tags(self) -> dict[str, str]:
        """For the materialization of what is read next. A change in between is then seen as one afterwards."""
        return {SIGNATURE: self.signature, CONTENT: self.content()}

    def compare(self, tags: Mapping[str, str]) -> str:
        """How the source differs from what was read when these tags were written; empty where it does not."""
        if self.signature == tags.get(SIGNATURE):
            return ""
        if CONTENT not in tags:
            return "nobody noted what it was read from"
        try:
            return "" if self.content() == tags[CONTENT] else "its source has changed"
        except FileNotFoundError as error:
            return f"its source is changing: {error.filename} went away"


def listing(place: Path | Place) -> Files:
    """Name -> size and date of every visible file in a folder; size and etag of every object under a prefix.

    The date is the later of content and status (nanoseconds): a copy that keeps old dates is a change too.
    Raises StoreUnavailable where there is no folder or bucket.
    """
    if isinstance(place, Place):
        return {entry.name: (entry.size, entry.etag) for entry in place.entries("") if is_meant(entry.name)}
    if not place.is_dir():
        raise StoreUnavailable(f"{place} is no folder that can be read: mount it, or mend MNIST_DATA_DIR")
    found: Files = {}
    for at, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(at, name) for name in names if is_meant(name)):
            with suppress(FileNotFoundError):  # gone meanwhile, or a link to nowhere
                status = path.stat()
                found[path.relative_to(place).as_posix()] = status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
    return found


def signature(files: Files) -> str:
    """A digest of names, sizes and dates: when it is the same, nobody has to read the files."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def content_digest(place: Path | Place, files: Files) -> str:
    """sha256 over the names and bytes of these files; in S3 over the etags, which are digests of the bytes.

    Raises FileNotFoundError when one is gone meanwhile.
    """
    if isinstance(place, Place) or sum(size for size, _ in files.values()) > CONTENT_LIMIT:
        return signature(files)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name][0]}\0".encode(errors="surrogateescape"))
        with (place / name).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    """Short enough for the value of a tag."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
