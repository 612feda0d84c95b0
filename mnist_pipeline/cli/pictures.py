"""From what is named on the command line to 28×28 images, through the same front door as batch and service."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mnist_pipeline.inbox.mailbox import LARGEST_FILE
from mnist_pipeline.ml.array_files import BadArray
from mnist_pipeline.ml.digits import Preparation
from mnist_pipeline.ml.image_rows import RowReader, extent_of, holds_many
from mnist_pipeline.ml.images import UnreadableImage, read_image

STDIN = "-"
BYTES_AT_ONCE = 1 << 26


def images_in(name: str, preparation: Preparation) -> Iterator[tuple[int, np.ndarray | None]]:
    """Row and uint8 [28, 28] of each image, None where there is no digit: one of an image file, many of an array or a
    Parquet file.

    Raises UnreadableImage, BadArray, OSError.
    """
    if name == STDIN:
        yield 0, read_image(_bytes_of(sys.stdin.buffer), preparation)
        return
    with Path(name).open("rb") as file:  # so that a file that is not there is called so, whatever its name ends with
        if not holds_many(name):
            yield 0, read_image(_bytes_of(file), preparation)
            return
    yield from _rows_of(Path(name), preparation)


def _bytes_of(file: BinaryIO) -> bytes:
    """Bounded, for a pipe or a device has no size that could be asked for."""
    data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise UnreadableImage(f"it has more than {LARGEST_FILE:,} bytes: make the picture smaller")
    return data


def _rows_of(path: Path, preparation: Preparation) -> Iterator[tuple[int, np.ndarray | None]]:
    """Read in parts of 64 MiB."""
    count, size = extent_of(path)
    step = max(1, BYTES_AT_ONCE // size)
    with closing(RowReader()) as reader:
        for begin in range(0, count, step):
            found = reader.read(path, begin, min(begin + step, count), preparation)
            if found.faults:
                raise BadArray("; ".join(f"row {number}: {reason}" for number, reason in found.faults[:5]))
            yield from found.images()
