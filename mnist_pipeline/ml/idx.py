"""The IDX format of MNIST: a magic number, the dimensions, the bytes. Gzipped or not.

Layout: two zero bytes, a type code, the number of dimensions, one big-endian uint32 each, then the values
(LeCun, Cortes, Burges: "The MNIST database of handwritten digits").
"""

import gzip
import zlib
from math import prod

import numpy as np

_TYPES: dict[int, np.dtype] = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
GZIP_MAGIC = b"\x1f\x8b"


class BadIdx(ValueError):
    """A file that is not a whole IDX file; the message says what is wrong and what to do."""


def unpack(data: bytes, name: str) -> bytes:
    """The bytes without gzip, if they are gzipped at all."""
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise BadIdx(f"{name} is a damaged gzip file ({error}): fetch it again") from error


def header(data: bytes, name: str) -> tuple[np.dtype, tuple[int, ...], int]:
    """Value type, shape, and the offset at which the values begin."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or not 1 <= data[3] <= 4:
        raise BadIdx(f"{name} is not an IDX file: it begins with {data[:4].hex(' ') or 'nothing (0 bytes)'}")
    begin = 4 + 4 * data[3]
    if len(data) < begin:
        raise BadIdx(f"{name} is cut inside its header ({len(data)} bytes): fetch it again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", data[3], 4))
    return _TYPES[data[2]], shape, begin


def parse(data: bytes, name: str) -> np.ndarray:
    """Unpacked IDX bytes -> read-only array of the shape that the header states. Raises BadIdx."""
    dtype, shape, begin = header(data, name)
    stated, there = prod(shape) * dtype.itemsize, len(data) - begin
    if stated != there:
        raise BadIdx(f"{name} states {stated:,} bytes of values in its header but holds {there:,}: fetch it again")
    try:
        return np.frombuffer(data, dtype, offset=begin).reshape(shape)
    except ValueError as error:  # no rows of 2**96 values each
        raise BadIdx(f"{name} states an impossible shape, {list(shape)}: fetch it again") from error


def dump(array: np.ndarray) -> bytes:
    """uint8 array -> IDX bytes, not gzipped."""
    return bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
