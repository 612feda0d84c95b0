"""From a request's body to images: raw pixels, an image file, several, or JSON. Any fault is a `Refused` that says so.

What an image looks like to the network is not decided here but in `ml/images.py`, as for the nightly batch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pydantic_core import SchemaValidator, core_schema, from_json
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request

from mnist_pipeline.ml.decoding import TooManyPixels, is_image
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.ml.images import UnreadableImage, decode, need_nothing, prepare
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.headers import header

PIXELS = SIDE * SIDE
MOST_IMAGES = 10_000
MOST_FIELDS = 100  # of a form besides its files, which nobody here reads
MAX_PIXELS = 16_000_000  # of an image file; 48 MB of colours, but 275 MB while a WebP with transparency is decoded
TINY, _SIDES = 4_096, SIDE.to_bytes(4, "big") * 2  # bytes of a file; its sides as PNG writes them
TINY_JSON = 8_192  # 784 numbers of three digits, as anybody writes them
FORMS = 'send an image file, 784 bytes of pixels, or JSON such as {"image": "<base64>"} or {"pixels": [[0, …], …]}'
Given = bytes | np.ndarray
"""An image file, or pixels as uint8 [28, 28]."""


@dataclass(frozen=True)
class Question:
    """What was sent. many: whether it came as a list, so that the answer is one."""

    given: Sequence[Given]
    many: bool


@dataclass(frozen=True)
class Seen:
    """What the network will see: uint8 [M, 28, 28], and for each image that was sent whether a digit is on it."""

    images: np.ndarray
    is_digit: np.ndarray

    def places(self) -> np.ndarray | None:
        """Which of what was sent the images are, from 0; None where all are here."""
        return None if len(self.images) == len(self.is_digit) else np.flatnonzero(self.is_digit)


async def question(body: bytes, request: Request) -> Question:
    """What `body` asks, by its kind. Raises Refused."""
    kind = kind_of_body(request)
    if kind == "application/json" or kind.endswith("+json"):
        plain = _plainly(body)
        return _of_json(parsed(body)) if plain is None else Question([plain], many=False)
    if kind == "multipart/form-data":
        return await _of_form(body, request.headers)
    if body[:1] in (b"{", b"[") and len(body) % PIXELS and not kind.startswith("image/"):  # of any type, or of none
        raise Refused("bad_request", "the body looks like JSON: send it with Content-Type: application/json")
    return _of_bytes(body)


def kind_of_body(request: Request) -> str:
    """The media type, without its parameters."""
    return header(request.scope, b"content-type").partition(";")[0].strip().lower()


def _plainly(body: bytes) -> np.ndarray | None:
    """{"pixels": 28 rows of 28 numbers}, which nearly everybody sends, in two thirds of the time; None for all else,
    of which `_of_json` says what is wrong."""
    if len(body) > TINY_JSON or not body.startswith(b'{"pixels"'):
        return None
    try:
        rows = _ROWS.validate_json(body)["pixels"]
        return np.frombuffer(b"".join(map(bytes, rows)), np.uint8).reshape(SIDE, SIDE) if _is_square(rows) else None
    except ValueError:
        return None


def _is_square(rows: list[list[int]]) -> bool:
    return len(rows) == SIDE and set(map(len, rows)) == {SIDE}


def _strictly(items: core_schema.CoreSchema) -> core_schema.CoreSchema:
    return core_schema.list_schema(items, strict=True, fail_fast=True)


_ROWS = SchemaValidator(
    core_schema.typed_dict_schema(
        {"pixels": core_schema.typed_dict_field(_strictly(_strictly(core_schema.int_schema(strict=True))))},
        extra_behavior="forbid",
    )
)


def parsed(body: bytes) -> Any:
    """Strict JSON: no NaN, no Infinity, nothing behind it. Raises Refused."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused("bad_request", f"the body is no valid JSON ({error}); {FORMS}") from error


def pixels_of(value: Any, where: str = "pixels") -> np.ndarray:
    """28×28 or 784 whole numbers from 0 to 255 -> uint8 [28, 28]. Raises Refused."""
    array = _quickly(value)
    if array is None:
        array = numbers_of(value, where)
    if array.shape not in ((SIDE, SIDE), (PIXELS,)):
        raise Refused("unreadable", f"{where}: it has to be 28 rows of 28 numbers, or 784; got {list(array.shape)}")
    return array.reshape(SIDE, SIDE)


def _quickly(value: Any) -> np.ndarray | None:
    """What nearly everybody sends, three times as fast; None for all else, of which `numbers_of` says what is wrong."""
    try:
        rows = isinstance(value[0], list)
        flat = list(chain.from_iterable(value)) if rows else value
        if set(map(type, flat)) == {int} and len(flat) == PIXELS and (not rows or set(map(len, value)) == {SIDE}):
            return np.frombuffer(bytes(flat), np.uint8)
    except (TypeError, ValueError, IndexError, KeyError):
        pass
    return None


def numbers_of(value: Any, where: str) -> np.ndarray:
    """Nested lists of whole numbers from 0 to 255 -> uint8 of any shape. Raises Refused."""
    array = value if isinstance(value, np.ndarray) else _of_lists(value, where)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise Refused("unreadable", f"{where}: it has to hold numbers from 0 to 255, and nothing else")
    if array.min() < 0 or array.max() > 255:
        raise Refused("unreadable", f"{where}: pixels are 0 (black) to 255; got {array.min():g} to {array.max():g}")
    with np.errstate(invalid="ignore"):  # of NaN, which is told apart below
        small = array.astype(np.uint8)
    if array.dtype.kind == "f" and not (small == array).all():
        raise Refused("unreadable", f"{where}: pixels are whole numbers from 0 to 255; for 0 to 1 multiply by 255")
    return small


def _of_lists(value: Any, where: str) -> np.ndarray:
    """Numbers in nested lists; of objects where they are anything else: told apart before NumPy makes them one kind,
    for which it takes the memory of the longest text for each. Raises Refused."""
    uneven = Refused("unreadable", f"{where}: its rows are not equally long")
    try:
        array = np.array(value, dtype=object)
    except ValueError as error:
        raise uneven from error
    kinds = set(map(type, array.ravel().tolist()))
    if list in kinds:
        raise uneven
    try:
        return array.astype(np.float64) if kinds <= {int, float} else array
    except OverflowError as error:
        raise Refused("unreadable", f"{where}: pixels are 0 (black) to 255; got a number beyond all bounds") from error


def file_of(text: Any, where: str = "image") -> bytes:
    """Base64, also as a data URL -> the bytes of a file. Raises Refused."""
    if not isinstance(text, str):
        raise Refused("unreadable", f"{where}: it has to be an image file in base64")
    try:
        return base64.b64decode(text.partition(";base64,")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("unreadable", f"{where}: it is no base64 ({error})") from error


def needs_no_work(asked: Question, preparation: Preparation) -> Seen | None:
    """Pixels, or small PNG files of them, that are as the network knows them; None where anything is to be drawn anew.

    Raises Refused for a file that is damaged.
    """
    if not all(isinstance(each, np.ndarray) or _is_tiny(each) for each in asked.given):
        return None
    plain = [decoded(each, "") if isinstance(each, bytes) else each for each in asked.given]
    images = plain[0][None] if len(plain) == 1 else np.stack(plain)
    ready = need_nothing(images, preparation)
    return Seen(images, ready) if ready.all() else None


def _is_tiny(data: bytes) -> bool:
    """A PNG whose header says 28×28: 40 µs to decode, less than it takes to hand it to a thread."""
    return len(data) < TINY and data.startswith(b"\x89PNG") and data[16:24] == _SIDES


def seen(asked: Question, preparation: Preparation, first: int, end: int) -> Seen:
    """Decode and draw anew what has to be of the images from `first` to before `end`, which may take a second each.

    Raises Refused naming the image.
    """
    some = enumerate(asked.given[first:end], first + 1)
    drawn = [_drawn(each, preparation, f"image {number}: " * asked.many) for number, each in some]
    is_digit = np.array([image is not None for image in drawn], bool)
    found = [image for image in drawn if image is not None]
    return Seen(np.stack(found) if found else np.empty((0, SIDE, SIDE), np.uint8), is_digit)


def _drawn(given: Given, preparation: Preparation, where: str) -> np.ndarray | None:
    return prepare(decoded(given, where) if isinstance(given, bytes) else given, preparation)


def decoded(data: bytes, where: str) -> np.ndarray:
    """An image file as grey pixels. Raises Refused."""
    try:
        return decode(data, max_pixels=MAX_PIXELS)
    except TooManyPixels as error:
        raise Refused("too_large", f"{where}{error}") from error
    except UnreadableImage as error:
        raise Refused("unreadable", f"{where}{error}") from error


def _of_bytes(body: bytes) -> Question:
    if not body:
        raise Refused("bad_request", f"the body is empty; {FORMS}")
    if len(body) % PIXELS or is_image(body):
        return Question([body], many=False)
    images = np.frombuffer(body, np.uint8).reshape(-1, SIDE, SIDE)
    return _checked(Question(list(images), many=len(images) > 1))


def _of_json(content: Any) -> Question:
    if isinstance(content, dict) and content.keys() == {"images"} and isinstance(content["images"], list):
        images = content["images"]
        if not images or len(images) > MOST_IMAGES:
            raise Refused("unreadable", f"images: 1 to {MOST_IMAGES:,} at once; got {len(images):,}")
        return Question([_of_one(each, f"images[{i}]") for i, each in enumerate(images)], many=True)
    return Question([_of_one(content, "the body")], many=False)


def _of_one(content: Any, where: str) -> Given:
    if not isinstance(content, dict) or len(content) != 1 or content.keys() - {"pixels", "image"}:
        raise Refused("unreadable", f'{where}: it has to be {{"image": "<base64>"}} or {{"pixels": [[0, …], …]}}')
    ((name, value),) = content.items()
    return pixels_of(value, f"{where}, pixels") if name == "pixels" else file_of(value, f"{where}, image")


async def _of_form(body: bytes, headers: Headers) -> Question:
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=MOST_IMAGES, max_fields=MOST_FIELDS)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(
            "bad_request", f"the form cannot be read ({getattr(error, 'message', error)}); {FORMS}"
        ) from error
    files = [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    await form.close()
    if not files:
        raise Refused("bad_request", f"the form has no file; {FORMS}")
    return Question(files, many=len(files) > 1)


def _checked(asked: Question) -> Question:
    if len(asked.given) > MOST_IMAGES:
        raise Refused("too_large", f"{len(asked.given):,} images at once; at most {MOST_IMAGES:,} are answered")
    return asked
