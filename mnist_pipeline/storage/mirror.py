"""A folder that is kept as a prefix in S3 is: what changed is fetched, what is gone is removed, the rest stays.

Here: one direction only, from S3 to a folder that nobody else writes to.
Not here: what the files mean (`ml/sources.py`).
"""

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mnist_pipeline.storage.blobs import StoreUnavailable, explained
from mnist_pipeline.storage.s3_requests import THREADS, Entry, Place

Known = dict[str, list[str | int]]  # name -> etag and size of what was fetched


@contextmanager
def mirrored(place: Place, parent: Path, log: logging.Logger) -> Iterator[Path]:
    """The folder, up to date, and kept so by no other process while the block lasts. Raises StoreUnavailable.

    Objects with a hidden part in their name are left out.
    """
    name = hashlib.sha256(f"{place.endpoint} {place.where('')}".encode()).hexdigest()[:16]
    with explained("write", parent / name), _locked(parent, name):
        folder = parent / name
        folder.mkdir(exist_ok=True)
        _update(place, folder, parent / f".{name}.json", log)
        yield folder


def _update(place: Place, folder: Path, manifest: Path, log: logging.Logger) -> None:
    there = {entry.name: entry for entry in place.entries("") if _is_file(entry.name, place)}
    if not there:
        raise StoreUnavailable(f"there is nothing under {place.where('')}: put the data there, or set MNIST_DATA_DIR")
    known = _read(manifest)
    same = {name for name, entry in there.items() if known.get(name) == _facts(entry) and _is_whole(folder, entry)}
    # What is fetched anew is forgotten before it is touched: who is killed in between leaves nothing that looks whole.
    _write(manifest, {name: facts for name, facts in known.items() if name in same})
    _remove(folder, keep=same)
    changed = [entry for name, entry in there.items() if name not in same]
    if changed:
        log.info(f"fetching {len(changed):,} of {len(there):,} objects under {place.where('')}")
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda entry: _fetch(place, entry.name, folder), changed))
    _write(manifest, {name: _facts(entry) for name, entry in there.items()})


def _is_file(name: str, place: Place) -> bool:
    """Raises StoreUnavailable for an object that no file can be named after."""
    parts = name.split("/")
    if name.endswith("/") or not name or any(part.startswith(".") and part not in (".", "..") for part in parts):
        return False
    if {"", ".", ".."} & set(parts) or "\0" in name:
        raise StoreUnavailable(f"{place.where(name)} cannot be a file in a folder: rename that object")
    return True


def _fetch(place: Place, name: str, folder: Path) -> None:
    path = folder / name
    with explained(f"write {place.where(name)} to", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        place.fetch(name, path)


def _remove(folder: Path, keep: set[str]) -> None:
    """Files that are not kept, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in keep:
            path.unlink()


def _facts(entry: Entry) -> list[str | int]:
    return [entry.etag, entry.size]


def _is_whole(folder: Path, entry: Entry) -> bool:
    path = folder / entry.name
    return path.is_file() and path.stat().st_size == entry.size


def _read(manifest: Path) -> Known:
    """Nothing where there is none, or none that was written whole: then all is fetched anew."""
    try:
        known = json.loads(manifest.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return dict(known)


def _write(manifest: Path, known: Known) -> None:
    manifest.write_text(json.dumps(known))


@contextmanager
def _locked(parent: Path, name: str) -> Iterator[None]:
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
