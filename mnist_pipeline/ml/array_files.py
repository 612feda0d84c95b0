"""Image arrays in files, .npy or IDX (gzipped or not): how many rows there are, and any run of them."""

import gzip
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mnist_pipeline.ml import idx

LONGEST_HEADER = 20  # bytes of an IDX header with four dimensions


class BadArray(ValueError):
    """A file that is not a whole array of grey images; the message says what is wrong and what to do."""


def is_array(name: str) -> bool:
    """Whether a file of this name is read as an array."""
    return name.endswith(".npy") or name.removesuffix(".gz").endswith("-ubyte")


def count_rows(path: Path) -> int:
    """How many images the file says that it holds. Raises BadArray."""
    if path.suffix == ".npy":
        return len(_npy(path))
    return _idx_shape(path)[0][0]


def read_rows(path: Path, begin: int, end: int) -> np.ndarray:
    """uint8 [end - begin, height, width]; the rest of the file stays on disk. Raises BadArray."""
    if path.suffix == ".npy":
        return np.array(_npy(path)[begin:end])
    shape, at = _idx_shape(path)
    size = prod(shape[1:])
    try:
        with _opened(path) as file:
            file.seek(at + begin * size)
            data = file.read((end - begin) * size)
    except (EOFError, OSError) as error:
        raise BadArray(f"it cannot be unpacked ({error}): drop it again") from error
    if len(data) != (end - begin) * size:
        raise BadArray(f"it states {shape[0]:,} images but ends before image {end:,}: drop it again, whole")
    return np.frombuffer(data, np.uint8).reshape(end - begin, *shape[1:])


def _npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadArray(f"it is not a whole .npy file ({error}): save it again with numpy.save") from error
    if array.dtype != np.uint8 or array.ndim != 3 or 0 in array.shape[1:]:
        raise BadArray(
            f"it holds {array.dtype} {list(array.shape)}; grey images are uint8 [N, height, width], 0 to 255"
        )
    return cast(np.ndarray, array)


def _idx_shape(path: Path) -> tuple[tuple[int, ...], int]:
    """The stated shape, and the offset of the values."""
    try:
        with _opened(path) as file:
            dtype, shape, at = idx.header(file.read(LONGEST_HEADER), "it")
    except (EOFError, OSError, idx.BadIdx) as error:
        raise BadArray(f"it is not a whole IDX file: {error}") from error
    if dtype != np.uint8 or len(shape) != 3 or 0 in shape[1:]:
        raise BadArray(f"it holds {dtype} {list(shape)}; grey images are uint8 [N, height, width]")
    return shape, at


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == idx.GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if gzipped else path.open("rb")
