"""From the bytes of an image file to grey pixels: which files are read, which are refused and why.

What a digit looks like does not belong here; that is in `images`.
"""

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops

MAX_PIXELS = 50_000_000
# A row costs Pillow a pointer and padding, so 1 × 40,000,000 pixels take 12 times the memory of the pixels.
MAX_SIDE = 65_535
# What a clear stroke darkens a white page by, and the share of the drawn pixels that must do so.
_VISIBLE, _VISIBLE_SHARE = 96, 0.005
# Largest values of pixels of 1, 8, 10, 12, 14 and 16 bits.
_FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class UnreadableImage(ValueError):
    """An image that can't be read; the message tells a person what is wrong with it and what to do."""


class TooManyPixels(UnreadableImage):
    """An image that is whole, as far as can be told, and too large to be decoded."""


def is_image(data: bytes) -> bool:
    """Whether the first bytes are those of a format that `decode` reads."""
    return data.startswith(_MAGICS) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Bytes of a PNG, JPEG, GIF, BMP, TIFF or WebP -> uint8 [height, width], as a person sees it on a white page.

    EXIF rotation is applied, an animation gives its first frame, transparency shows a white page (a black one
    where the ink is too light for white), more than 8 bits are scaled by their range.

    Raises UnreadableImage for any other content, a file cut short or damaged, and one of more than `max_pixels`
    pixels or 65,535 a side; size is judged by the header, before memory is taken.
    """
    kind = kind_of(data)
    try:
        if not _IS_WHOLE[kind](data):
            raise UnreadableImage(f"the {kind} file is cut short or damaged: send or save it again")
        with _pillow_quiet, Image.open(BytesIO(data), formats=[kind]) as image:
            _check_size(image, max_pixels)
            image.load()
            grey = _grey(image)
            turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
            return np.array(grey if turn is None else grey.transpose(turn))
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"the image is far over {max_pixels:,} pixels: scale it down") from error
    except Exception as error:  # Pillow raises whatever its parsers stumble over: SyntaxError, struct.error, …
        raise UnreadableImage(f"the {kind} file is damaged, or of a rare kind: save it anew as PNG") from error


def kind_of(data: bytes) -> str:
    """The name of the format that the first bytes state, as Pillow spells it. Raises UnreadableImage."""
    if is_image(data):
        return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "WEBP")
    if not data:
        raise UnreadableImage("the file is empty (0 bytes): send or save it again")
    raise UnreadableImage(
        f"not a PNG, JPEG, GIF, BMP, TIFF or WebP image, whatever its name says: it begins with "
        f"{_beginning(data)}; save it as PNG or JPEG"
    )


def _beginning(data: bytes) -> str:
    text = data[:16].decode("ascii", errors="replace")
    return repr(text) if text.isprintable() and text.isascii() else f"the bytes {data[:8].hex(' ')}"


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise TooManyPixels(
            f"the image has {width:,} × {height:,} pixels; at most {max_pixels:,} in all and {MAX_SIDE:,} a side "
            "are read: scale it down"
        )


# --- is the file whole? Pillow itself loads each of these silently when its end is missing. ---


def _png_is_whole(data: bytes) -> bool:
    """Every chunk up to IEND is there and agrees with its CRC."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return end + 4 <= len(data)
        at = end + 4
    return False


def _jpeg_is_whole(data: bytes) -> bool:
    """The end marker of the first image is reached; one inside an embedded thumbnail does not count."""
    at = 2
    while (marker := _JPEG_MARKER.search(data, at)) and marker[1] != b"\xd9":
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return marker is not None


def _gif_is_whole(data: bytes) -> bool:
    """The blocks lead to the trailer. IndexError, which `decode` explains too, where they end early."""
    at = 13 + _gif_palette_size(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x2C:  # an image: descriptor, palette, code size
            at += 11 + _gif_palette_size(data[at + 9])
        elif data[at] == 0x21:  # an extension: introducer, label
            at += 2
        else:
            return False
        while data[at]:
            at += 1 + data[at]
        at += 1
    return True


def _gif_palette_size(flags: int) -> int:
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _tiff_is_whole(data: bytes) -> bool:
    """The first directory lies inside the file, with the pointer after it; Pillow checks the pixels."""
    order = "<" if data.startswith(b"II") else ">"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        (at,) = struct.unpack_from(order + "Q", data, 8)
        return at + 16 + 20 * struct.unpack_from(order + "Q", data, at)[0] <= len(data)
    (at,) = struct.unpack_from(order + "I", data, 4)
    return at + 6 + 12 * struct.unpack_from(order + "H", data, at)[0] <= len(data)


def _bmp_is_whole(data: bytes) -> bool:
    """As long as its header states (0: not stated). Pillow checks the pixels, but not the padding behind them."""
    return len(data) >= int.from_bytes(data[2:6], "little")


def _webp_is_whole(data: bytes) -> bool:
    """As long as its RIFF header states."""
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


_IS_WHOLE: dict[str, Callable[[bytes], bool]] = {
    "PNG": _png_is_whole,
    "JPEG": _jpeg_is_whole,
    "GIF": _gif_is_whole,
    "TIFF": _tiff_is_whole,
    "BMP": _bmp_is_whole,
    "WEBP": _webp_is_whole,
}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    *((order, "TIFF") for order in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)
_MAGICS = tuple(magic for magic, _ in _MAGIC)


# --- pixels to grey ---


def _grey(image: Image.Image) -> Image.Image:
    """Any mode -> mode "L"."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.array(image, dtype=np.float32)))
    if image.has_transparency_data:
        return _on_a_page(image.convert("RGBA"))
    return image.getchannel("L") if image.mode == "LAB" else image.convert("L")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """float32 [height, width] -> uint8, by the bit depth that the values fit; by their own range when they use
    less than a quarter of it. Pillow's own conversion clips everything above 255 to white. Changes `values`."""
    values[~((values > -1e30) & (values < 1e30))] = 0  # infinities and NaN are no brightness
    low, high = float(values.min()), float(values.max())
    full = next((scale for scale in _FULL_SCALES if high <= scale), high)
    if low >= 0 and high - low >= full / 4:
        low, high = 0.0, float(full)
    if high > low:
        values -= low
        values /= high - low
    values.clip(0, 1, out=values)
    values *= 255  # in place: 50 million pixels are 200 MB a copy
    return np.rint(values, out=values).astype(np.uint8)


def _on_a_page(rgba: Image.Image) -> Image.Image:
    """Mode "RGBA" -> "L": on white, unless the drawing would hardly be seen there; then on black."""
    grey, alpha = rgba.convert("L"), rgba.getchannel("A")
    drawn = ImageChops.multiply(ImageChops.invert(grey), alpha).histogram(mask=alpha)
    page = 255 if sum(drawn[_VISIBLE:]) >= _VISIBLE_SHARE * sum(drawn) else 0
    return Image.composite(grey, Image.new("L", grey.size, page), alpha)


class _PillowQuiet:
    """Silences Pillow's warnings while any thread is inside: what matters in them, `decode` judges itself.

    `warnings.catch_warnings` alone restores another thread's filters when two overlap; so the first to enter
    sets and the last to leave restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_pillow_quiet = _PillowQuiet()
