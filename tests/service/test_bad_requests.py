"""What is wrong with a request is said in one shape, with a sentence that a person understands, and never as 5xx."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import struct
import weakref
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipelines import Pipeline
from served import RAW, served
from starlette.requests import Request
from starlette.testclient import TestClient

from mnist_pipeline.service import answering, errors
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.reading import question

JSON = {"Content-Type": "application/json"}
SAYS_JSON = [(b"content-type", b"application/json")]
ROWS = [[0] * 28 for _ in range(28)]


@pytest.fixture(scope="module")
def client(first_run: tuple[Pipeline, object]) -> Iterator[TestClient]:
    with served(first_run[0].state, log=False) as found:
        yield found


def refusal(response: Any, status: int, code: str) -> str:
    """The sentence of an error in the one shape."""
    content = response.json()
    assert (response.status_code, content.get("code")) == (status, code), content
    assert content.keys() == {"error", "code", "request_id"}
    assert response.headers["x-request-id"] == content["request_id"]
    assert "Traceback" not in content["error"]
    assert "mnist_pipeline/" not in content["error"]
    return str(content["error"])


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that is whole, states these sides and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_too_large_a_body_is_refused_before_it_is_taken_in(client: TestClient) -> None:
    said = refusal(client.post("/predict", content=bytes(10_000_001)), 413, "too_large")
    assert "10,000,000 bytes" in said


def test_too_large_a_body_without_a_length_is_refused_too(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(1_000_000)

    refusal(client.post("/predict", content=parts()), 413, "too_large")


class Body(bytes):
    """One that can be watched, by what goes when it goes."""

    def __init__(self, _: bytes) -> None:
        self.last = Watched()


class Watched:
    """Of bytes themselves there are no weak references."""


UNEVEN = b'{"pixels": [[0], ' + b"[]," * 50_000 + b"[]]}"


@pytest.mark.parametrize("given", [UNEVEN, UNEVEN[:99], b'{"image": "' + b"?" * 100_000 + b'"}', b"[" * 100_000])
def test_what_is_refused_leaves_memory_at_once(given: bytes) -> None:
    """Without a garbage collection, which is rare: the frames that an error holds on to hold the body."""

    async def refused(body: Body) -> None:
        with ThreadPoolExecutor(1) as pool:
            at_work = answering.Answering(*[None] * 4, pool, 1)  # type: ignore[arg-type]
            try:
                await at_work.read(body, lambda: question(body, Request({"type": "http", "headers": SAYS_JSON})))
            except Refused as error:
                errors.refusal(error, "id")
            else:
                pytest.fail("it was read")

    gc.collect()
    gc.disable()
    try:
        body = Body(given)
        watched = weakref.ref(body.last)
        asyncio.run(refused(body))
        del body
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (100_000, 10), (4_001, 4_000)])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(client: TestClient, width: int, height: int) -> None:
    said = refusal(client.post("/predict", content=header_of_png(width, height)), 413, "too_large")
    assert "scale it down" in said


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        ("", 400, "bad_request", "no valid JSON"),
        ("{", 400, "bad_request", "no valid JSON"),
        ('{"pixels": NaN}', 400, "bad_request", "no valid JSON"),
        ('{"pixels": [1e999]}', 422, "unreadable", "0 (black) to 255"),
        ("[]", 422, "unreadable", "has to be"),
        ("{}", 422, "unreadable", "has to be"),
        ("null", 422, "unreadable", "has to be"),
        ('{"pixel": []}', 422, "unreadable", "has to be"),
        ('{"pixels": [], "image": ""}', 422, "unreadable", "has to be"),
        ('{"pixels": []}', 422, "unreadable", "numbers from 0 to 255"),
        ('{"pixels": {}}', 422, "unreadable", "numbers from 0 to 255"),
        ('{"pixels": "7"}', 422, "unreadable", "numbers from 0 to 255"),
        ('{"image": ""}', 422, "unreadable", "empty"),
        ('{"image": "?"}', 422, "unreadable", "base64"),
        ('{"image": 7}', 422, "unreadable", "base64"),
        ('{"images": []}', 422, "unreadable", "1 to 10,000"),
        ('{"images": {}}', 422, "unreadable", "has to be"),
        ('{"images": [{"image": "aGVsbG8="}]}', 422, "unreadable", "image 1: not a PNG"),
    ],
)
def test_json_that_is_no_question(client: TestClient, body: str, status: int, code: str, word: str) -> None:
    assert word in refusal(client.post("/predict", content=body, headers=JSON), status, code)


def changed(value: Any) -> list[list[Any]]:
    return [[value, *ROWS[0][1:]], *ROWS[1:]]


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (changed(-1), "0 (black) to 255"),
        (changed(256), "0 (black) to 255"),
        (changed(0.5), "whole numbers"),
        (changed("0"), "numbers from 0 to 255"),
        (changed(None), "numbers from 0 to 255"),
        (changed([0]), "rows"),
        (changed(10**30), "0 (black) to 255"),
        ([[True] * 28] * 28, "numbers from 0 to 255"),
        (ROWS[:27], "28 rows of 28"),
        ([row[:27] for row in ROWS], "28 rows of 28"),
        ([*ROWS[:27], ROWS[0] * 2], "equally long"),
        ([0] * 783, "28 rows of 28"),
        ([ROWS], "28 rows of 28"),
    ],
)
def test_pixels_that_are_none(client: TestClient, pixels: Any, word: str) -> None:
    said = refusal(client.post("/predict", content=json.dumps({"pixels": pixels}), headers=JSON), 422, "unreadable")
    assert word in said


def test_more_than_ten_thousand_images_are_refused(client: TestClient) -> None:
    body = bytes(784 * 10_001)
    refusal(client.post("/predict", content=body, headers=RAW), 413, "too_large")
    tiny = json.dumps({"images": [{"image": ""}] * 10_001})
    assert "10,001" in refusal(client.post("/predict", content=tiny, headers=JSON), 422, "unreadable")


def damaged() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (100, 1))).save(buffer, "PNG")
    png = buffer.getvalue()
    return {
        "cut short": png[:-20],
        "half": png[: len(png) // 2],
        "a bit": png[:60] + bytes([png[60] ^ 1]) + png[61:],
        "text": b"seven",
        "zip": b"PK\3\4" + bytes(100),
        "header only": png[:8],
    }


@pytest.mark.parametrize("name", damaged())
def test_files_that_cannot_be_read(client: TestClient, name: str) -> None:
    refusal(client.post("/predict", content=damaged()[name]), 422, "unreadable")


def test_of_several_files_the_damaged_one_is_named(client: TestClient) -> None:
    files = [("f", ("a.png", header_of_png(1, 1))), ("f", ("b.png", b"seven"))]
    assert "image " in refusal(client.post("/predict", files=files), 422, "unreadable")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_form_that_is_none(client: TestClient, kind: str) -> None:
    refusal(client.post("/predict", content=b"hello", headers={"Content-Type": kind}), 400, "bad_request")


def test_an_empty_body(client: TestClient) -> None:
    assert "empty" in refusal(client.post("/predict"), 400, "bad_request")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", ""])
@pytest.mark.parametrize("body", [b'{"pixels": []}', b"[[0, 0]]"])
def test_json_that_is_said_to_be_something_else(client: TestClient, kind: str, body: bytes) -> None:
    response = client.post("/predict", content=body, headers={"Content-Type": kind} if kind else {})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert "Content-Type: application/json" in response.json()["error"]


def test_pixels_may_begin_with_a_brace(client: TestClient) -> None:
    assert client.post("/predict", content=b"{" + bytes(783), headers=RAW).status_code == 200


def test_what_is_not_there(client: TestClient) -> None:
    refusal(client.get("/nothing"), 404, "not_found")
    refusal(client.get("/predict"), 405, "method_not_allowed")
    refusal(client.get("/static/../settings.py"), 404, "not_found")
    refusal(client.get("/static/%2e%2e/settings.py"), 404, "not_found")


def test_a_long_text_among_numbers_takes_no_memory_of_its_length_for_each(client: TestClient) -> None:
    values = ["x" * 300_000, *[1] * 20_000]  # 24 GB, where each has to have room for the longest
    for path, name in (("/predict", "pixels"), ("/invocations", "inputs")):
        said = refusal(client.post(path, content=json.dumps({name: values}), headers=JSON), 422, "unreadable")
        assert "numbers from 0 to 255" in said


def test_images_that_take_too_long_are_refused_in_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LONGEST_S", 0.0)
    grey = np.full((40, 28, 28), 99, np.uint8)
    grey[:, 8:20, 12:16] = 0
    said = refusal(client.post("/predict", content=grey.tobytes(), headers=RAW), 413, "too_large")
    assert "16 of 40" in said
    assert client.post("/predict", content=grey[:16].tobytes(), headers=RAW).status_code == 200


def test_a_number_of_thousands_of_digits_is_a_number_that_is_too_large(client: TestClient) -> None:
    refusal(client.post("/predict", content=f'{{"pixels": [{"9" * 4_000}]}}', headers=JSON), 422, "unreadable")
    headers = {**JSON, "Inference-Header-Content-Length": "1" * 5_000}
    refusal(client.post("/v2/models/digit_classifier/infer", content=b"{}", headers=headers), 400, "bad_request")
