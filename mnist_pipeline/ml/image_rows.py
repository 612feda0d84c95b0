"""Files that hold many images, an array or a Parquet file: any run of their rows, through the front door.

Not here: the formats (`array_files.py`, `parquet_images.py`), and what becomes of an image (`images.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.ml.array_files import ArrayRows, BadArray, is_array, shape_of
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.ml.images import UnreadableImage, prepare_all, read_image

if TYPE_CHECKING:
    from mnist_pipeline.ml.parquet_images import ParquetImages

RUN = 4_096  # rows of an array at a time, of which some are wanted
NO_PIXELS = np.empty((0, SIDE, SIDE), np.uint8)


@dataclass(frozen=True)
class Rows:
    """A run of rows. numbers: int64 [N], of those that could be read, and seen: bool [N], which of these show a digit;
    pixels: uint8 [M, 28, 28], the digits. faults: number of each other row, and why it could not be read."""

    numbers: np.ndarray
    seen: np.ndarray
    pixels: np.ndarray
    faults: list[tuple[int, str]]

    def images(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """Number and image of each that could be read, None where there is no digit."""
        digits = iter(self.pixels)
        for number, is_digit in zip(self.numbers.tolist(), self.seen, strict=True):
            yield number, next(digits) if is_digit else None


def holds_many(name: str) -> bool:
    """Whether a file of this name holds an image a row, and is not one itself."""
    return is_array(name) or is_parquet(name)


def is_parquet(name: str) -> bool:
    """Whether a file of this name is read as Parquet."""
    return name.endswith(".parquet")


def extent_of(path: Path) -> tuple[int, int]:
    """(rows, bytes of one of them) of a file that is whole, as far as can be told without its rows. Raises BadArray."""
    if is_parquet(path.name):
        from mnist_pipeline.ml import parquet_images

        return parquet_images.extent_of(path)
    count, *image = shape_of(path)
    return count, prod(image)


class RowReader:
    """Reads runs of rows, of one file after the other; those of Parquet and gzipped files cost least in their order.

    Not for several threads. A file stays open until its last row was read, or until `close`.
    """

    def __init__(self) -> None:
        self._open: ArrayRows | ParquetImages | None = None
        self._identity = ""

    def read(self, path: Path, begin: int, end: int, preparation: Preparation) -> Rows:
        """Rows begin to end. Raises BadArray; of an array whose rows cannot be read there are none."""
        try:
            images = self._opened(path)
            if isinstance(images, ArrayRows):
                pixels, seen = prepare_all(images.read(begin, end), preparation)
                found = Rows(np.arange(begin, end), seen, pixels, [])
            else:
                parts = [_prepared(numbers, run, preparation) for numbers, run in images.runs(begin, end)]
                found = _together(parts, begin, end)
        except BadArray:
            self.close()
            raise
        if end == images.rows:
            self.close()
        return found

    def close(self) -> None:
        """Let go of what is open."""
        if self._open:
            self._open.close()
        self._open = None

    def _opened(self, path: Path) -> ArrayRows | ParquetImages:
        identity = f"{path} {identity_of(path)}"
        if self._open is None or identity != self._identity:
            self.close()
            self._open, self._identity = _open(path), identity
        return self._open


def read(path: Path, begin: int, end: int, preparation: Preparation) -> Rows:
    """One run of rows. Raises BadArray."""
    with closing(RowReader()) as reader:
        return reader.read(path, begin, end, preparation)


def read_some(path: Path, rows: Sequence[int], preparation: Preparation) -> Iterator[tuple[int, np.ndarray | None]]:
    """Number and image of these rows, None where there is no digit; without those that cannot be read. However many
    they are, the file is read once, and no other image is decoded. Raises BadArray."""
    wanted = np.unique(np.asarray(rows, np.int64))
    for numbers, images in _runs(path, wanted):
        at = np.flatnonzero(np.isin(numbers, wanted))
        if len(at):
            chosen = images[at] if isinstance(images, np.ndarray) else [images[i] for i in at.tolist()]
            yield from _prepared(numbers[at], chosen, preparation).images()


def _runs(path: Path, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, list[bytes] | np.ndarray]]:
    """Numbers and images of runs of rows that hold all that are wanted, int64 [N], ascending."""
    with closing(_open(path)) as images:
        if not isinstance(images, ArrayRows):
            yield from images.runs(int(wanted[0]), int(wanted[-1]) + 1)
            return
        for begin in (np.unique(wanted // RUN) * RUN).tolist():
            first, last = max(begin, int(wanted[0])), min(begin + RUN, int(wanted[-1]) + 1)
            yield np.arange(first, last), images.read(first, last)


def _open(path: Path) -> ArrayRows | ParquetImages:
    if not is_parquet(path.name):
        return ArrayRows(path)
    from mnist_pipeline.ml.parquet_images import ParquetImages

    return ParquetImages(path)


def identity_of(path: Path) -> str:
    """What changes when a file is written or replaced; "" for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _together(parts: Sequence[Rows], begin: int, end: int) -> Rows:
    there = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)])
    faults = [fault for part in parts for fault in part.faults]
    empty = np.setdiff1d(np.arange(begin, end), [*there, *(number for number, _ in faults)])
    return Rows(
        there,
        np.concatenate([np.zeros(0, bool), *(part.seen for part in parts)]),
        np.concatenate([NO_PIXELS, *(part.pixels for part in parts)]),
        sorted([*faults, *((number, "there is no image in it") for number in empty.tolist())]),
    )


def _prepared(numbers: np.ndarray, images: list[bytes] | np.ndarray, preparation: Preparation) -> Rows:
    if isinstance(images, np.ndarray):
        pixels, seen = prepare_all(images, preparation)
        return Rows(numbers, seen, pixels, [])
    kept, found, faults = [], list[np.ndarray | None](), list[tuple[int, str]]()
    for number, data in zip(numbers.tolist(), images, strict=True):
        try:
            found.append(read_image(data, preparation))
            kept.append(number)
        except UnreadableImage as error:
            faults.append((number, str(error)))
    digits = [image for image in found if image is not None]
    seen = np.array([image is not None for image in found], bool)
    return Rows(np.array(kept, np.int64), seen, np.stack(digits) if digits else NO_PIXELS, faults)
