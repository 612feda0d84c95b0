"""Whatever arrives, an image, a refusal or nothing to see comes of it: 100,000 inputs and no other exception."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from PIL import Image
from starlette.requests import Request

from mnist_pipeline.ml.images import UnreadableImage, prepare, read_image
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.reading import question, seen

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
VARIANTS = 50  # of an example: making a new example takes ten times as long as reading one
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
MAGICS = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b""]
KINDS = ["application/json", "multipart/form-data; boundary=x", "application/octet-stream", "image/png", "", "text/csv"]
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["pixels", "image", "images", "x"]), inner),
)


def check(image: np.ndarray | None) -> None:
    assert image is None or (image.shape == (28, 28) and image.dtype == np.uint8)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


small = some.tuples(some.integers(1, 40), some.integers(1, 40))


def read(data: bytes) -> None:
    """As a file is read, here and every night."""
    with suppress(UnreadableImage):
        check(read_image(data))


@pytest.mark.slow
@settings(max_examples=1_000, **QUIET)
@given(some.sampled_from(MAGICS), some.integers(0, 2**32))
def test_bytes_behind_any_beginning(magic: bytes, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for _ in range(VARIANTS):
        read(magic + draw.bytes(int(draw.integers(0, 300))))


@pytest.mark.slow
@settings(max_examples=1_000, **QUIET)
@given(arrays.arrays(np.uint8, small), some.sampled_from(FORMATS), some.integers(0, 2**32))
def test_files_with_bytes_changed_doubled_or_cut_off(pixels: np.ndarray, kind: str, seed: int) -> None:
    whole, draw = encoded(pixels, kind), np.random.default_rng(seed)
    for _ in range(VARIANTS):
        data = bytearray(whole)
        for at in draw.integers(0, len(data), int(draw.integers(1, 5))):
            how = draw.integers(4)
            data[at : at + (how == 0)] = draw.bytes(1 if how < 2 else 0)
            if how == 3:
                data[at:] = data[at:] * 2
        read(bytes(data[: int(draw.integers(1, len(data) + 1))] if draw.integers(2) else data))


@pytest.mark.slow
@settings(max_examples=2_000, **QUIET)
@given(arrays.arrays(np.uint8, small), some.sampled_from(["ink", "resize"]))
def test_any_picture(pixels: np.ndarray, preparation: Any) -> None:
    check(prepare(pixels, preparation))


@pytest.mark.slow
@settings(max_examples=4_000, **QUIET)
@given(some.one_of(some.binary(max_size=2_000), JSON.map(lambda value: repr(value).encode())), some.sampled_from(KINDS))
def test_any_body_of_any_kind(body: bytes, kind: str) -> None:
    ask(body, kind)


@pytest.mark.slow
@settings(max_examples=3_000, **QUIET)
@given(JSON)
def test_any_json(value: Any) -> None:

    ask(json.dumps(value).encode(), "application/json")


def ask(body: bytes, kind: str) -> None:
    """As a request is read."""
    try:
        asked = asyncio.run(question(body, Request({"type": "http", "headers": [(b"content-type", kind.encode())]})))
        found = seen(asked, "ink", 0, len(asked.given))
    except Refused as refusal:
        told = refusal
    else:
        told = None
        assert found.images.shape[1:] == (28, 28)
        assert found.is_digit.sum() == len(found.images)
    assert told is None or (400 <= told.status < 500 and str(told))
