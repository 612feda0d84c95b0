"""Image arrays in files, .npy or IDX (gzipped or not): how many rows there are, and any run of them."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.decoding import MAX_PIXELS, MAX_SIDE

LONGEST_HEADER = 20  # bytes of an IDX header with four dimensions
CHUNK = 1 << 20
Shape = tuple[int, int, int]


class BadArray(ValueError):
    """A file that is not a whole array or table of images; the message says what is wrong and what to do."""


def is_array(name: str) -> bool:
    """Whether a file of this name is read as an array."""
    return name.endswith(".npy") or name.removesuffix(".gz").endswith("-ubyte")


def shape_of(path: Path) -> Shape:
    """(rows, height, width) of a file that is whole, neither cut nor too long. Raises BadArray."""
    if path.suffix == ".npy":
        array = _npy(path)
        return check_images(array.dtype, array.shape)
    shape, at = _idx_shape(path)
    stated, there = prod(shape), _length(path, at + prod(shape) + 1) - at
    if stated != there:
        raise BadArray(
            f"it states {stated:,} bytes of images but holds {'more' if there > stated else f'{there:,}'}: "
            f"drop it again, whole"
        )
    return shape


class ArrayRows:
    """The rows of one array, a run after the other. Raises BadArray. rows: how many the file states.

    A gzipped file stays open where the last run ended: for an earlier place all before it has to be unpacked.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, cast(BinaryIO | None, None)
        self._shape, self._at = (_npy(path).shape, 0) if path.suffix == ".npy" else _idx_shape(path)
        self.rows = int(self._shape[0])

    def read(self, begin: int, end: int) -> np.ndarray:
        """uint8 [end - begin, height, width]; the rest of the file stays on disk."""
        if self._path.suffix == ".npy":
            return np.array(_npy(self._path)[begin:end])
        size = prod(self._shape[1:])
        try:
            self._file = self._file or _opened(self._path)
            self._file.seek(self._at + begin * size)
            data = self._file.read((end - begin) * size)
        except (EOFError, OSError, zlib.error) as error:
            raise BadArray(f"it cannot be unpacked ({error}): drop it again") from error
        if len(data) != (end - begin) * size:
            raise BadArray(f"it states {self.rows:,} images but ends before image {end:,}: drop it again, whole")
        return np.frombuffer(data, np.uint8).reshape(end - begin, *self._shape[1:])

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()


def _npy(path: Path) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a header that is no header gives a dozen kinds of them, from TokenError to MemoryError
        raise BadArray(f"it is not a whole .npy file ({error}): save it again with numpy.save") from error
    check_images(array.dtype, array.shape)
    return cast(np.ndarray, array)


def _idx_shape(path: Path) -> tuple[Shape, int]:
    """The stated shape, and the offset of the values."""
    try:
        with _opened(path) as file:
            dtype, shape, at = idx.header(file.read(LONGEST_HEADER), "it")
    except (EOFError, OSError, zlib.error, idx.BadIdx) as error:
        raise BadArray(f"it is not a whole IDX file: {error}") from error
    return check_images(dtype, shape), at


def check_images(dtype: np.dtype, shape: tuple[int, ...]) -> Shape:
    """(rows, height, width) of what can be grey images. Raises BadArray."""
    if dtype != np.uint8 or len(shape) != 3 or 0 in shape:
        raise BadArray(f"it holds {dtype} {list(shape)}; grey images are uint8 [N, height, width], 0 to 255")
    if prod(shape[1:]) > MAX_PIXELS or max(shape[1:]) > MAX_SIDE:
        raise BadArray(
            f"its images are {shape[1]:,}×{shape[2]:,} pixels; at most {MAX_PIXELS:,} are read, {MAX_SIDE:,} a side"
        )
    rows, height, width = shape
    return rows, height, width


def _length(path: Path, enough: int) -> int:
    """Bytes in the file once unpacked, counted up to `enough`; unpacking to its end also checks its checksum."""
    length = 0
    try:
        with _opened(path) as file:
            while length < enough and (chunk := file.read(CHUNK)):
                length += len(chunk)
    except (EOFError, OSError, zlib.error) as error:
        raise BadArray(f"it cannot be unpacked ({error}): drop it again") from error
    return length


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == idx.GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if gzipped else path.open("rb")
