"""Whether training data has changed: a cheap signature first, its content only when that differs.

Not here: what is done about it (`triggers.py`), and how the data is read (`acquire.py`).
"""

import hashlib
import os
from pathlib import Path

from mnist_pipeline.inbox.dropped import is_meant
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.s3_requests import Place

Files = dict[str, tuple[int, int | str]]
CONTENT_LIMIT = 16 << 30  # bytes; beyond, a tick would take longer than a sensor may, so sizes and dates stand in


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
