"""IDX files: every whole one is read, and nothing that is not whole gets through."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.idx import BadIdx

VALID = idx.dump(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4))
PACKED = gzip.compress(VALID, mtime=0)


def read(data: bytes) -> np.ndarray:
    return idx.parse(idx.unpack(data, "a-file"), "a-file")


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)), st.booleans())
def test_what_was_dumped_is_read_back(array: np.ndarray, packed: bool) -> None:
    data = idx.dump(array)
    back = read(gzip.compress(data) if packed else data)
    assert back.dtype == np.uint8
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_signed_32_bit_values_are_read_as_qmnist_stores_them() -> None:
    values = np.array([[1, -2], [300, 2**31 - 1]], ">i4")
    header = bytes([0, 0, 0x0C, 2]) + np.array([2, 2], ">u4").tobytes()
    assert idx.parse(header + values.tobytes(), "labels").tolist() == values.tolist()


def test_the_array_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read(VALID)[0, 0, 0] = 1


HEADERS = st.builds(
    lambda kind, shape: bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape),
    st.sampled_from([0x08, 0x0C, 0x0D]),
    st.lists(st.sampled_from([0, 1, 2, 28, 2**31, 2**32 - 1]), max_size=5),
)


@given(st.one_of(st.binary(max_size=64), st.builds(bytes.__add__, HEADERS, st.binary(max_size=32))), st.booleans())
def test_arbitrary_bytes_are_an_array_of_the_stated_size_or_a_clear_error(data: bytes, packed: bool) -> None:
    try:
        array = read(gzip.compress(data) if packed else data)
    except BadIdx as error:
        refusal = str(error)
        assert refusal.startswith("a-file ")
    else:
        assert array.nbytes == len(data) - 4 - 4 * array.ndim


@pytest.mark.parametrize("whole", [VALID, PACKED], ids=["plain", "gzipped"])
def test_a_file_cut_anywhere_is_refused(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(BadIdx, match="a-file"):
            read(whole[:length])


@given(st.integers(0, len(PACKED) * 8 - 1))
def test_a_flipped_bit_in_a_gzipped_file_never_changes_what_is_read(bit: int) -> None:
    data = bytearray(PACKED)
    data[bit // 8] ^= 1 << bit % 8
    try:
        array = read(bytes(data))
    except BadIdx:
        return
    assert np.array_equal(array, read(VALID))  # a bit of gzip's own header that says nothing about the content


@given(st.integers(0, 15), st.integers(1, 255))
def test_a_changed_header_is_refused(at: int, change: int) -> None:
    data = bytearray(VALID)
    data[at] ^= change
    with pytest.raises(BadIdx, match="a-file"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a-file is not an IDX file: it begins with nothing \(0 bytes\)"),
        (b"\x89PNG\r\n", "a-file is not an IDX file: it begins with 89 50 4e 47"),
        (VALID[:9], r"a-file is cut inside its header \(9 bytes\): fetch it again"),
        (VALID[:-1], "a-file states 24 bytes of values in its header but holds 23: fetch it again"),
        (VALID + b"!", "a-file states 24 bytes of values in its header but holds 25: fetch it again"),
        (PACKED[:-1], "a-file is a damaged gzip file .*: fetch it again"),
        (PACKED + b"!", "a-file is a damaged gzip file .*: fetch it again"),
        (
            b"\0\0\x08\x04\0\0\0\0" + b"\xff" * 12,
            r"a-file states an impossible shape, \[0, 4294967295, .*fetch it again",
        ),
    ],
    ids=["nothing", "another kind", "cut header", "cut", "too long", "cut gzip", "more after gzip", "impossible"],
)
def test_the_error_says_what_is_wrong_with_which_file_and_what_to_do(data: bytes, message: str) -> None:
    with pytest.raises(BadIdx, match=message):
        read(data)
