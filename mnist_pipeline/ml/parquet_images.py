"""Images in a column of a Parquet file, as bytes of image files or as pixels: any run of rows of a file of any size.

Bytes are how Hugging Face's data sets, Ray Data and Spark keep images; pixels are lists of uint8, flat or by line,
tensors of Arrow, or binary of a fixed size. Not here: what the images show (`image_rows.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from mnist_pipeline.ml.array_files import BadArray, check_images

NAMES = ("image", "images", "pixels")  # of the column, where several could be it
ROWS_AT_ONCE, BYTES_AT_ONCE = 256, 1 << 24  # in memory; pixels in lists take ten times their bytes while they are read
BUFFER = 1 << 20  # bytes of a column that are read ahead, however large a row group is
WANTED = "images are bytes of image files (binary, or a struct with them under bytes), or pixels (lists of uint8)"
NULL_OF_FIXED_SIZE = "Expected all lists to be of size"
Run = tuple[np.ndarray, list[bytes] | np.ndarray]


class ParquetImages:
    """The images of one file, a run of rows after the other. Raises BadArray for whatever is wrong with the file.

    A run that begins where the last one ended goes on from there: a row group has no places to jump to, and often a
    million rows. rows: of the file; size: bytes of one image where they are largest, by the table of contents.
    """

    def __init__(self, path: Path) -> None:
        with _told_as_bad():
            self._file = pq.ParquetFile(path, buffer_size=BUFFER, page_checksum_verification=True)
            try:
                self._column = _column(self._file.schema_arrow)
                groups = [self._file.metadata.row_group(at) for at in range(self._file.metadata.num_row_groups)]
                self._starts = _starts([group.num_rows for group in groups], self._file.metadata.num_rows)
                self.rows = self._starts[-1]
                kind = self._file.schema_arrow.field(self._column).type
                self.size = max(1, *(_bytes_of_one(self._column, kind, group) for group in groups if group.num_rows))
                self._entry = max(_bytes_of_dictionary(self._column, group) for group in groups)
            except BaseException:
                self.close()
                raise
        self._more: Iterator[pa.RecordBatch] = iter(())
        self._batch, self._first = pa.nulls(0), -1  # the rows in hand, and the number of the first of them

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def runs(self, begin: int, end: int) -> Iterator[Run]:
        """These rows, some at a time: their numbers, int64 [N], and as many images, as bytes of image files or as
        pixels, uint8 [N, height, width]. Rows without an image are left out."""
        shapes = set[str]()
        with _told_as_bad():
            for first, part in self._parts(begin, end):
                column = pc.struct_field(part, "bytes") if pt.is_struct(part.type) else part
                there = column.is_valid().to_numpy(zero_copy_only=False)
                if not there.any():
                    continue
                images = _images(column.drop_null())
                if isinstance(images, np.ndarray):  # by the run, for where batches end is nobody's business
                    shapes.add("×".join(map(str, images.shape[1:])))
                    _check_alike(sorted(shapes))
                yield (np.arange(len(part)) + first)[there], images

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, pa.Array]]:
        """The column of these rows, some at a time, and the number of the first of each."""
        if begin < self._first or self._group(begin) > self._group(self._first + len(self._batch)):
            self._go_to(self._group(begin))
        while begin < end:
            ends = self._first + len(self._batch)
            if begin < ends:
                yield begin, self._batch[begin - self._first : end - self._first]
                begin = min(end, ends)
            else:
                self._first, self._batch = ends, self._next()

    def _group(self, row: int) -> int:
        """The row group that a row lies in; -1 for none."""
        return int(np.searchsorted(self._starts, row, side="right")) - 1 if row >= 0 else -1

    def _go_to(self, group: int) -> None:
        groups = list(range(group, len(self._starts) - 1))
        at_once = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // max(self.size, self._entry)))
        self._more = self._file.iter_batches(at_once, groups, [self._column], use_threads=False)
        self._batch, self._first = pa.nulls(0), self._starts[group]

    def _next(self) -> pa.Array:
        if (batch := next(self._more, None)) is None:
            raise BadArray(f"it states {self.rows:,} rows but ends before: write it again")
        return batch[self._column]


def extent_of(path: Path) -> tuple[int, int]:
    """(rows, bytes of one image where they are largest), by the table of contents. Raises BadArray."""
    images = ParquetImages(path)
    images.close()
    return images.rows, images.size


@contextmanager
def _told_as_bad() -> Iterator[None]:
    """Whatever is wrong with the file, found now or while it is read, is told as BadArray."""
    try:
        yield
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        if NULL_OF_FIXED_SIZE in str(error):
            raise BadArray(
                "an image of it is null, which pyarrow cannot read in lists of a fixed size: leave it out, "
                "or write lists of any size"
            ) from error
        raise BadArray(f"it is not a whole Parquet file ({error}): write it again") from error


def _starts(lengths: list[int], stated: int) -> list[int]:
    """The number of the first row of each row group, and of the row after the last."""
    if min(lengths, default=0) < 0 or sum(lengths) != stated:
        raise BadArray(f"it states {stated:,} rows, its row groups {sum(lengths):,}: write it again")
    if not stated:
        raise BadArray("it has no rows: nothing is in it to predict")
    return [0, *np.cumsum(lengths).tolist()]


def _column(schema: pa.Schema) -> str:
    """The one with the images: by its name, else the only one that can be it."""
    possible = [field.name for field in schema if _can_be_images(field.type)]
    named = [name for name in NAMES if name in possible][:1] or possible
    if len(named) == 1 and schema.names.count(named[0]) == 1:
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
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind)


def _pixels_of(kind: pa.DataType) -> pa.DataType:
    """What lists of lists hold."""
    return _pixels_of(kind.value_type) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _bytes_of_one(column: str, kind: pa.DataType, group: pq.RowGroupMetaData) -> int:
    """Of the images in a row group, unpacked: pixels have one each, however few bytes they are kept in."""
    own = _chunks(column, group)
    if any(each.num_values < group.num_rows for each in own):
        raise BadArray(f"it states {group.num_rows:,} rows of images and has fewer: write it again")
    pixels = own[0].num_values * kind.byte_width if pt.is_fixed_size_binary(kind) else 0
    pixels = pixels or (0 if _is_binary(kind) or pt.is_struct(kind) else own[0].num_values)
    return math.ceil(max(pixels, sum(each.total_uncompressed_size for each in own)) / group.num_rows)


def _bytes_of_dictionary(column: str, group: pq.RowGroupMetaData) -> int:
    """As large may an image be that stands there once, and in many rows."""
    starts = [(each.dictionary_page_offset, each.data_page_offset) for each in _chunks(column, group)]
    return max(ends - begins if begins else 0 for begins, ends in starts)


def _chunks(column: str, group: pq.RowGroupMetaData) -> list[pq.ColumnChunkMetaData]:
    chunks = [group.column(at) for at in range(group.num_columns)]
    return [each for each in chunks if each.path_in_schema == column or each.path_in_schema.startswith(f"{column}.")]


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
    if None in found:
        raise BadArray("an image of it lacks a line: let all be there, or write the bytes of image files")
    _check_alike(found)
    return int(found[0])


def _check_alike(found: Sequence[object]) -> None:
    if len(found) > 1:
        raise BadArray(
            f"its images are lists of different length ({', '.join(map(str, found[:5]))}): let all have the same, or "
            "write the bytes of image files"
        )


def _square(pixels: int) -> tuple[int, int]:
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise BadArray(f"{pixels} pixels in a row are no square image: write lists of lines, or bytes of image files")
    return side, side
