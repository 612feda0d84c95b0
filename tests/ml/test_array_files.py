"""Arrays of images in files: whole ones give any run of rows, and all else is a BadArray that says why."""

from __future__ import annotations

import gzip
import zlib
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from digit_files import strokes
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.array_files import ArrayRows, BadArray, is_array, shape_of

IMAGES = strokes(23)


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def headed(header: str, rest: bytes = bytes(100)) -> bytes:
    """A .npy file with this header, which numpy reads as a Python literal."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + rest


def shaped(shape: str) -> bytes:
    return headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}")


def read_rows(path: Path, begin: int, end: int) -> np.ndarray:
    with closing(ArrayRows(path)) as array:
        return array.read(begin, end)


WHOLE = {
    "a.npy": npy(IMAGES),
    "fortran.npy": npy(np.asfortranarray(IMAGES)),
    "a-ubyte": idx.dump(IMAGES),
    "a.idx3-ubyte": idx.dump(IMAGES),
    "a-ubyte.gz": gzip.compress(idx.dump(IMAGES)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("begin", "end"), [(0, 23), (0, 1), (22, 23), (7, 15), (5, 5)])
def test_any_run_of_rows_can_be_read(tmp_path: Path, name: str, begin: int, end: int) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    assert is_array(name)
    assert shape_of(tmp_path / name) == (23, 28, 28)
    rows = read_rows(tmp_path / name, begin, end)
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, IMAGES[begin:end])


@pytest.mark.parametrize("name", WHOLE)
def test_runs_in_any_order_are_the_rows_that_they_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    with closing(ArrayRows(tmp_path / name)) as array:
        assert array.rows == 23
        for begin, end in [(0, 7), (7, 15), (17, 21), (3, 6), (20, 23), (0, 23)]:
            assert np.array_equal(array.read(begin, end), IMAGES[begin:end])


def test_a_gzipped_file_is_unpacked_from_where_the_last_run_ended(tmp_path: Path) -> None:
    (tmp_path / "a-ubyte.gz").write_bytes(WHOLE["a-ubyte.gz"])
    with closing(ArrayRows(tmp_path / "a-ubyte.gz")) as array:
        array.read(0, 7)
        (tmp_path / "a-ubyte.gz").unlink()  # it could not be begun anew
        assert np.array_equal(array.read(7, 15), IMAGES[7:15])


@pytest.mark.parametrize("name", ["a.png", "a.npy.gz", "a.npz", "a-ubyte.txt", "ubyte", "a.gz"])
def test_other_names_are_not_read_as_arrays(name: str) -> None:
    assert not is_array(name)


def damaged_after(length: int) -> bytes:
    """So many bytes of the IDX file, gzipped, then what no gzip has."""
    packing = zlib.compressobj(wbits=31)
    return packing.compress(WHOLE["a-ubyte"][:length]) + packing.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 50


BAD: dict[str, tuple[str, bytes, str]] = {
    "cut npy": ("a.npy", WHOLE["a.npy"][:-1], "not a whole .npy file"),
    "empty npy": ("a.npy", b"", "not a whole .npy file"),
    "text": ("a.npy", b"not an array", "not a whole .npy file"),
    "archive of arrays": ("a.npy", b"PK\x03\x04" + bytes(30), "not a whole .npy file"),
    "pickled objects": ("a.npy", npy(np.array([{"a": 1}], object)), "not a whole .npy file"),
    "unbalanced header": ("a.npy", headed("(((("), "not a whole .npy file"),
    "deeply nested header": ("a.npy", headed("-" * 5_000 + "1"), "not a whole .npy file"),
    "header without type": (
        "a.npy",
        headed("{'descr': ('a',), 'fortran_order': False, 'shape': (1, 2, 2)}"),
        "not a whole .npy file",
    ),
    "shape of truths": ("a.npy", shaped("(True, 2, 2)"), "not a whole .npy file"),
    "negative shape": ("a.npy", shaped("(-1, 2, 2)"), "not a whole .npy file"),
    "endless shape": ("a.npy", shaped("(99999999999999999999, 2, 2)"), "not a whole .npy file"),
    "floats": ("a.npy", npy(IMAGES / 255), r"it holds float64 \[23, 28, 28\]; grey images are uint8 \[N, height"),
    "colour": ("a.npy", npy(np.zeros((2, 28, 28, 3), np.uint8)), r"it holds uint8 \[2, 28, 28, 3\]"),
    "one image": ("a.npy", npy(IMAGES[0]), r"it holds uint8 \[28, 28\]"),
    "no images": ("a.npy", npy(IMAGES[:0]), r"it holds uint8 \[0, 28, 28\]"),
    "no pixels": ("a.npy", npy(np.zeros((3, 0, 28), np.uint8)), r"it holds uint8 \[3, 0, 28\]"),
    "labels": ("a-ubyte", idx.dump(np.zeros(9, np.uint8)), r"it holds uint8 \[9\]; grey images are uint8 \[N, height"),
    "no IDX images": ("a-ubyte", idx.dump(IMAGES[:0]), r"it holds uint8 \[0, 28, 28\]"),
    "cut IDX": ("a-ubyte", WHOLE["a-ubyte"][:-1], "it states 18,032 bytes of images but holds 18,031: drop it again"),
    "IDX with more": ("a-ubyte", WHOLE["a-ubyte"] + b"!", "it states 18,032 bytes of images but holds more"),
    "cut gzip": ("a-ubyte.gz", WHOLE["a-ubyte.gz"][:-9], "it cannot be unpacked"),
    "gzip damaged at its begin": ("a-ubyte.gz", damaged_after(0), "it is not a whole IDX file: .* invalid block type"),
    "gzip damaged further in": ("a-ubyte.gz", damaged_after(9_000), "it cannot be unpacked .* invalid block type"),
    "gzip of cut IDX": ("a-ubyte.gz", gzip.compress(WHOLE["a-ubyte"][:-9]), "states 18,032 .* holds 18,023"),
    "gzip of nothing": ("a-ubyte.gz", gzip.compress(b""), "it is not a whole IDX file: .*nothing"),
    "empty IDX": ("a-ubyte", b"", "it is not a whole IDX file: .*nothing"),
    "huge images": (
        "a-ubyte",
        bytes([0, 0, 8, 3]) + np.array([1, 65_536, 65_536], ">u4").tobytes(),
        "its images are 65,536×65,536 pixels; at most 50,000,000 are read, 65,535 a side",
    ),
    "long images": ("a.npy", npy(np.zeros((1, 1, 65_536), np.uint8)), "its images are 1×65,536 pixels"),
    "far too many": (
        "a-ubyte",
        bytes([0, 0, 8, 3]) + np.array([2**32 - 1, 28, 28], ">u4").tobytes() + IMAGES.tobytes(),
        "it states 3,367,254,359,280 bytes of images but holds 18,032",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_whole_array_of_grey_images_is_refused(tmp_path: Path, case: str) -> None:
    name, data, message = BAD[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadArray, match=message):
        shape_of(tmp_path / name)


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_a_file_that_was_cut_meanwhile_is_noticed_when_its_rows_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name][: len(WHOLE[name]) // 2])
    with pytest.raises(BadArray, match=r"it states 23 images but ends before image 23|it cannot be unpacked"):
        read_rows(tmp_path / name, 20, 23)


STARTS = st.sampled_from(
    [
        *(b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08\x00", b"PK\x03\x04", b"\0\0\x08\x03"),
        *(shaped("(2, 5, 5)")[:40], shaped("(2, 5, 5)"), gzip.compress(idx.dump(IMAGES[:2]))[:60]),
    ]
)


@given(st.sampled_from([".npy", "-ubyte", "-ubyte.gz"]), STARTS, st.binary(max_size=80))
def test_arbitrary_bytes_are_an_array_or_a_bad_array(
    tmp_path_factory: pytest.TempPathFactory, ending: str, start: bytes, rest: bytes
) -> None:
    check_either(tmp_path_factory.getbasetemp() / f"arbitrary{ending}", start + rest)


@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_gives_an_array_or_a_bad_array(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float, change: int
) -> None:
    data = bytearray(WHOLE[name])
    data[int(share**4 * len(data))] ^= change  # most of them in the header
    check_either(tmp_path_factory.getbasetemp() / f"changed-{name}", bytes(data))


def check_either(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        rows, height, width = shape_of(path)
    except BadArray as error:
        refusal = str(error)
        assert refusal.startswith("it")
        return
    assert read_rows(path, 0, rows).shape == (rows, height, width)
