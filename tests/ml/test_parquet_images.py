"""Images in Parquet files: every usual way to keep them gives the same rows; all else is a BadArray that says why."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from digit_files import hugging_face, parquet, png, strokes
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.ml import parquet_images
from mnist_pipeline.ml.array_files import BadArray
from mnist_pipeline.ml.image_rows import RowReader, extent_of, holds_many, read
from mnist_pipeline.ml.parquet_images import ROWS_AT_ONCE, ParquetImages

IMAGES = strokes(23)
PNGS = [png(image) for image in IMAGES]
FLAT = IMAGES.reshape(len(IMAGES), -1)
LINES = pa.list_(pa.list_(pa.uint8()))


LABELS = pa.array(np.arange(23) % 10)


def twice(column: pa.Array) -> bytes:
    """A file with two columns of that name."""
    pq.write_table(pa.Table.from_arrays([column, column], names=["image", "image"]), buffer := BytesIO())
    return buffer.getvalue()


WHOLE = {
    "Hugging Face": parquet(image=hugging_face(PNGS), label=LABELS),
    "bytes": parquet(label=LABELS, image=pa.array(PNGS)),
    "large bytes": parquet(image=pa.array(PNGS, pa.large_binary())),
    "views of bytes": parquet(image=pa.array(PNGS).cast(pa.binary_view())),
    "lists": parquet(image=pa.array(list(FLAT), pa.list_(pa.uint8())), label=LABELS),
    "lists of a fixed size": parquet(image=pa.array(list(FLAT), pa.list_(pa.uint8(), 784))),
    "lists of lines": parquet(image=pa.array(IMAGES.tolist(), LINES)),
    "tensors": parquet(image=pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)),
    "raw bytes": parquet(image=pa.array([image.tobytes() for image in IMAGES], pa.binary(784))),
    "small row groups": parquet(5, image=hugging_face(PNGS)),
    "small row groups of lists": parquet(4, image=pa.array(list(FLAT), pa.list_(pa.uint8()))),
    "another name": parquet(label=LABELS, digit=pa.array(PNGS)),
    "several that could be it": parquet(mask=pa.array(PNGS[::-1]), image=pa.array(PNGS)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("begin", "end"), [(0, 23), (0, 1), (22, 23), (7, 15), (5, 5)])
def test_any_run_of_rows_can_be_read(tmp_path: Path, name: str, begin: int, end: int) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(WHOLE[name])
    assert holds_many(path.name)
    assert extent_of(path)[0] == 23
    found = read(path, begin, end, "ink")
    assert found.numbers.tolist() == list(range(begin, end))
    assert found.seen.all()
    assert np.array_equal(found.pixels, IMAGES[begin:end])
    assert not found.faults


def test_the_size_of_a_row_is_that_of_its_images_where_they_are_largest(tmp_path: Path) -> None:
    path, random = tmp_path / "a.parquet", np.random.default_rng(0)
    large, other = ([random.bytes(length) for _ in range(2)] for length in (9_000, 50_000))
    path.write_bytes(parquet(2, image=pa.array([b"", b"", *large]), other=pa.array([*other, *other])))
    rows, size = extent_of(path)
    assert rows == 4
    assert 9_000 <= size < 10_000


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    blank = png(np.zeros((28, 28), np.uint8))
    images = [PNGS[0], None, b"no image", blank, PNGS[4][:-20], PNGS[5]]
    (tmp_path / "a.parquet").write_bytes(parquet(image=hugging_face(images)))
    found = read(tmp_path / "a.parquet", 0, 6, "ink")
    assert [number for number, _ in found.faults] == [1, 2, 4]
    assert found.faults[0] == (1, "there is no image in it")
    assert found.numbers.tolist() == [0, 3, 5]
    assert found.seen.tolist() == [True, False, True]
    assert np.array_equal(found.pixels, IMAGES[[0, 5]])
    assert [image is None for _, image in found.images()] == [False, True, False]


def test_pixels_of_any_size_go_through_the_front_door(tmp_path: Path) -> None:
    large = np.kron(IMAGES[:3], np.ones((2, 2), np.uint8))
    (tmp_path / "a.parquet").write_bytes(parquet(image=pa.FixedShapeTensorArray.from_numpy_ndarray(255 - large)))
    found = read(tmp_path / "a.parquet", 0, 3, "ink")
    assert found.seen.all()
    assert found.pixels.shape == (3, 28, 28)


@pytest.mark.parametrize("name", WHOLE)
def test_runs_in_any_order_are_the_rows_that_they_name(tmp_path: Path, name: str) -> None:
    path, reader = tmp_path / "a.parquet", RowReader()
    path.write_bytes(WHOLE[name])
    for begin, end in [(0, 7), (7, 15), (17, 21), (3, 6), (6, 6), (20, 23), (0, 23), (22, 23)]:
        found = reader.read(path, begin, end, "ink")
        assert found.numbers.tolist() == list(range(begin, end))
        assert np.array_equal(found.pixels, IMAGES[begin:end])
    reader.close()


class Counting(ParquetImages):
    """Knows how many rows were read."""

    read = 0

    def _next(self) -> pa.Array:
        found = super()._next()
        self.read += len(found)
        return found


@pytest.mark.parametrize("rows_a_group", [1_000, 6])
def test_rows_that_are_read_in_their_order_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_group: int
) -> None:
    monkeypatch.setattr(parquet_images, "ROWS_AT_ONCE", 4)
    (tmp_path / "a.parquet").write_bytes(parquet(rows_a_group, image=pa.array(PNGS)))
    images = Counting(tmp_path / "a.parquet")
    numbers = [n for begin in range(0, 23, 3) for run, _ in images.runs(begin, min(begin + 3, 23)) for n in run]
    assert numbers == list(range(23))
    assert images.read == 23
    images.close()


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path, reader = tmp_path / "a.parquet", RowReader()
    path.write_bytes(parquet(image=pa.array(PNGS)))
    assert np.array_equal(reader.read(path, 0, 5, "ink").pixels, IMAGES[:5])
    (tmp_path / "other").write_bytes(parquet(image=pa.array(PNGS[::-1])))
    (tmp_path / "other").replace(path)
    assert np.array_equal(reader.read(path, 5, 10, "ink").pixels, IMAGES[::-1][5:10])
    reader.close()


@pytest.mark.parametrize("name", ["large bytes", "lists", "raw bytes", "tensors"])
def test_large_images_are_few_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "a.parquet").write_bytes(WHOLE[name])
    images = ParquetImages(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_images, "BYTES_AT_ONCE", 2 * images.size)
    assert max(len(numbers) for numbers, _ in images.runs(0, 23)) == 2
    images.close()


def test_an_image_that_stands_in_many_rows_is_in_memory_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).bytes(100_000)
    pq.write_table(pa.table({"image": [image] * 300}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 110_000  # where pixels would be 30 MB
    monkeypatch.setattr(parquet_images, "BYTES_AT_ONCE", 400_000)
    images = ParquetImages(tmp_path / "a.parquet")
    assert max(len(numbers) for numbers, _ in images.runs(0, 300)) == 3
    images.close()


@pytest.mark.parametrize("kind", [pa.list_(pa.uint8()), pa.binary(10_000)])
def test_blank_pixels_that_take_no_room_on_disk_take_theirs_in_memory(tmp_path: Path, kind: pa.DataType) -> None:
    blank = b"\0" * 10_000 if pa.types.is_fixed_size_binary(kind) else [0] * 10_000
    pq.write_table(pa.table({"image": pa.array([blank] * 50, kind)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    rows, size = extent_of(tmp_path / "a.parquet")
    assert rows == 50
    assert 10_000 <= size < 12_000


@pytest.mark.parametrize("kind", [pa.list_(pa.uint8()), pa.binary(784), pa.binary()])
def test_many_rows_without_an_image_are_named_and_the_others_are_kept(tmp_path: Path, kind: pa.DataType) -> None:
    image = {pa.binary(): PNGS[0], pa.binary(784): IMAGES[0].tobytes()}.get(kind, FLAT[0])
    (tmp_path / "a.parquet").write_bytes(parquet(image=pa.array([None] * 600 + [image] + [None], kind)))
    found = read(tmp_path / "a.parquet", 0, 602, "ink")
    assert found.numbers.tolist() == [600]
    assert [number for number, _ in found.faults] == [*range(600), 601]


def test_pixels_of_different_size_are_refused_wherever_they_meet(tmp_path: Path) -> None:
    small = [np.ones(400, np.uint8)] * 3
    path, mixed = tmp_path / "a.parquet", pa.array([FLAT[0]] * ROWS_AT_ONCE + small, pa.list_(pa.uint8()))
    path.write_bytes(parquet(image=mixed))
    for begin in (0, ROWS_AT_ONCE - 1):
        with pytest.raises(BadArray, match="of different length"):
            read(path, begin, len(mixed), "ink")
    assert len(read(path, ROWS_AT_ONCE, len(mixed), "ink").numbers) == 3


BAD = {
    "empty": (b"", "it is not a whole Parquet file"),
    "text": (b"image\n1\n", "it is not a whole Parquet file"),
    "cut": (WHOLE["bytes"][:-9], "it is not a whole Parquet file"),
    "no rows": (parquet(image=pa.array([], pa.binary())), "it has no rows"),
    "no images": (parquet(label=LABELS, name=pa.array(["a"] * 23)), r"none of its columns .*: label \(int64\), name"),
    "which": (parquet(a=pa.array(PNGS), b=pa.array(PNGS)), "2 of its columns could be it: a .*, b "),
    "twice": (twice(pa.array(PNGS)), "2 of its columns could be it: image .*, image "),
    "a name that is no text": (WHOLE["bytes"].replace(b"\x05image", b"\x05im\xffge"), "not a whole Parquet file"),
    "floats": (parquet(image=pa.array([[0.5]])), "none of its columns can be it: image .*double"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_has_no_images_is_refused(tmp_path: Path, case: str) -> None:
    data, message = BAD[case]
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(BadArray, match=message):
        extent_of(tmp_path / "a.parquet")


UNREADABLE = {
    "of different length": (pa.array([[1] * 4, [1] * 9], pa.list_(pa.uint8())), r"different length \(4, 9\)"),
    "without a line": (pa.array([[[1, 2], None]], LINES), "lacks a line"),
    "without lines": (pa.array([[None, None]], LINES), "lacks a line"),
    "without a pixel": (pa.array([[1, None, 3, 4]], pa.list_(pa.uint8())), "grey images are uint8"),
    "null in lists of a fixed size": (pa.array([[1] * 4, None], pa.list_(pa.uint8(), 4)), "an image of it is null"),
    "no square": (pa.array([[1] * 5], pa.list_(pa.uint8())), "5 pixels in a row are no square image"),
    "no pixels": (pa.array([[]], pa.list_(pa.uint8())), "grey images are uint8"),
    "in colour": (pa.array([[[[1, 2, 3]]]], pa.list_(LINES)), "grey images are uint8"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_pixels_that_are_no_grey_images_are_refused(tmp_path: Path, case: str) -> None:
    column, message = UNREADABLE[case]
    (tmp_path / "a.parquet").write_bytes(parquet(image=column))
    with pytest.raises(BadArray, match=message):
        read(tmp_path / "a.parquet", 0, len(column), "ink")


def test_a_page_that_was_damaged_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(WHOLE["bytes"])
    data[data.index(PNGS[3]) + 40] ^= 1
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(BadArray, match=r"not a whole Parquet file .*checksum"):
        read(tmp_path / "a.parquet", 0, 23, "ink")


@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
def test_a_changed_byte_gives_images_or_a_bad_array(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float, change: int, at_its_end: bool
) -> None:
    path, data = tmp_path_factory.getbasetemp() / "changed.parquet", bytearray(WHOLE[name])
    at = int(share**4 * len(data))
    data[-1 - at if at_its_end else at] ^= change  # most of them where the schema is
    path.write_bytes(data)
    try:
        rows, _ = extent_of(path)
        found = read(path, 0, rows, "ink")
    except BadArray:
        return
    assert len(found.numbers) + len(found.faults) == rows == 23
