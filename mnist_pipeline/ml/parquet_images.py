"""Images in a column of a Parquet file, as bytes of image files or as pixels: any run of rows of a file of any size.

Bytes are how Hugging Face's data sets, Ray Data and Spark keep images; pixels are lists of uint8, flat or by line,
tensors of Arrow, or binary of a fixed size. Not here: what the images show (`image_rows.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from mnist_pipeline.ml.array_files import BadArray, check_images

NAMES = ("image", "images", "pixels")  # of the column, where several could be it
BATCH = 256  # rows in memory at once
BUFFER = 1 << 20  # bytes of a column that are read ahead, however large a row group is
WANTED = "images are bytes of image files (binary, or a struct with them under bytes), or pixels (lists of uint8)"
Run = tuple[np.ndarray, list[bytes] | np.ndarray]


def extent_of(path: Path) -> tuple[int, int]:
    """(rows, bytes of one image where they are largest), by the table of contents. Raises BadArray."""
    with _opened(path) as file:
        column, groups = _column(file.schema_arrow), map(file.metadata.row_group, range(file.metadata.num_row_groups))
        sizes = [math.ceil(_bytes_of(column, group) / group.num_rows) for group in groups if group.num_rows]
        if not sizes:
            raise BadArray("it has no rows: nothing is in it to predict")
        return file.metadata.num_rows, max(1, *sizes)


def read_images(path: Path, begin: int, end: int) -> Iterator[Run]:
    """Some of the rows at a time: their numbers, int64 [N], and as many images, as bytes of image files or as pixels,
    uint8 [N, height, width]. Rows without an image are left out. Raises BadArray."""
    with _opened(path) as file:
        column = _column(file.schema_arrow)
        groups, at = _groups(file, begin, end)
        for batch in file.iter_batches(BATCH, groups, [column], use_threads=False):
            part = batch[column][max(0, begin - at) : max(0, end - at)]
            rows = np.arange(len(part)) + max(begin, at)
            at += len(batch)
            if len(part):
                images = pc.struct_field(part, "bytes") if pt.is_struct(part.type) else part
                yield rows[images.is_valid().to_numpy(zero_copy_only=False)], _images(images.drop_null())


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Whatever is wrong with the file, found now or while it is read, is told as BadArray."""
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise BadArray(f"it is not a whole Parquet file ({error}): write it again") from error


def _column(schema: pa.Schema) -> str:
    """The one with the images: by its name, else the only one that can be it."""
    possible = [field.name for field in schema if _can_be_images(field.type)]
    named = [name for name in NAMES if name in possible] or possible
    if len(named) == 1 or (named and named[0] in NAMES):
        return named[0]
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    found = f"{len(possible)} of its columns could be it" if possible else "none of its columns can be it"
    raise BadArray(f"it has to have a column image, and {found}: {there}. {WANTED}")


def _can_be_images(kind: pa.DataType) -> bool:
    if pt.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    listed = getattr(kind, "storage_type", kind)
    return _is_binary(kind) or pt.is_fixed_size_binary(kind) or (_is_list(listed) and _pixels_of(listed) == pa.uint8())


def _is_binary(kind: pa.DataType) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind)


def _pixels_of(kind: pa.DataType) -> pa.DataType:
    """What lists of lists hold."""
    return _pixels_of(kind.value_type) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _bytes_of(column: str, group: pq.RowGroupMetaData) -> int:
    """Of the images in a row group, unpacked."""
    chunks = map(group.column, range(group.num_columns))
    return sum(each.total_uncompressed_size for each in chunks if f"{each.path_in_schema}.".startswith(f"{column}."))


def _groups(file: pq.ParquetFile, begin: int, end: int) -> tuple[list[int], int]:
    """The row groups in which these rows lie, and the number of their first row."""
    lengths = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
    starts = np.cumsum([0, *lengths])
    groups = [at for at, rows in enumerate(lengths) if starts[at] < end and starts[at] + rows > begin]
    return groups, int(starts[groups[0]]) if groups else 0


def _images(column: pa.Array) -> list[bytes] | np.ndarray:
    """column: without nulls."""
    kind = column.type
    if _is_binary(kind):
        found: list[bytes] = column.to_pylist()
        return found
    if pt.is_fixed_size_binary(kind):
        pixels = np.frombuffer(b"".join(column.to_pylist()), np.uint8)
        return _shaped(pixels, len(column), _square(kind.byte_width))
    if isinstance(kind, pa.FixedShapeTensorType):
        pixels = column.to_numpy_ndarray()
        return _shaped(pixels, len(column), pixels.shape[1:])
    lengths, values = [], column
    while _is_list(values.type):
        lengths.append(_length(values))
        values = values.flatten()
    shape = _square(lengths[0]) if len(lengths) == 1 else tuple(lengths)
    return _shaped(values.to_numpy(zero_copy_only=False), len(column), shape)


def _shaped(pixels: np.ndarray, rows: int, shape: tuple[int, ...]) -> np.ndarray:
    check_images(pixels.dtype, (rows, *shape))
    return np.ascontiguousarray(pixels).reshape(rows, *shape)


def _length(lists: pa.Array) -> int:
    """Of every list. Raises BadArray where they differ."""
    found = pc.unique(pc.list_value_length(lists)).to_pylist() or [0]
    if len(found) > 1:
        raise BadArray(
            f"its images are lists of different length ({', '.join(map(str, found[:5]))}): let all have the same, or "
            "write the bytes of image files"
        )
    return int(found[0])


def _square(pixels: int) -> tuple[int, int]:
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise BadArray(f"{pixels} pixels in a row are no square image: write lists of lines, or bytes of image files")
    return side, side
