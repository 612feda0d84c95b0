"""Whether a folder of training data has changed: a cheap signature first, its content only when that differs.

Not here: what is done about it (`triggers.py`), and how the data is read (`acquire.py`).
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from mnist_pipeline.blobs import StoreUnavailable

UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".swp")
CONTENT_LIMIT = 16 << 30  # bytes; beyond, a tick would take longer than a sensor may, so sizes and dates stand in


def listing(location: str) -> dict[str, tuple[int, int]]:
    """Name -> size and date of every visible file at a location. Raises StoreUnavailable where there is no folder.

    The date is the later of content and status (nanoseconds): a copy that keeps old dates is a change too.
    """
    folder, found = Path(location).expanduser(), {}
    if not folder.is_dir():
        raise StoreUnavailable(f"{folder} is no folder that can be read: mount it, or mend MNIST_DATA_DIR")
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith(UNFINISHED):
                path = Path(at, name)
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (
                    status.st_size,
                    max(status.st_mtime_ns, status.st_ctime_ns),
                )
    return found


def signature(files: Mapping[str, tuple[int, int]]) -> str:
    """A digest of names, sizes and dates: when it is the same, nobody has to read the files."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def content_digest(location: str, files: Mapping[str, tuple[int, int]]) -> str:
    """sha256 over the names and bytes of these files. Raises FileNotFoundError when one is gone meanwhile."""
    if sum(size for size, _ in files.values()) > CONTENT_LIMIT:
        return signature(files)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name][0]}\0".encode(errors="surrogateescape"))
        with (Path(location).expanduser() / name).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
