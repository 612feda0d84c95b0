import gzip
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from mnist_pipeline.ml import decoding
from mnist_pipeline.ml.images import SIDE, UnreadableImage, decode, prepare, read_image

MNIST_DATA_DIR = os.environ.get("MNIST_DATA_DIR")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))

# Pen strokes on a 100 × 100 page. The 5 has its bar apart, the 4 a gap.
STROKES: dict[str, list[list[tuple[int, int]]]] = {
    "1": [[(52, 12), (46, 88)]],
    "2": [[(28, 30), (36, 16), (56, 12), (68, 24), (64, 42), (30, 84)], [(28, 86), (74, 84)]],
    "4": [[(38, 12), (28, 52), (52, 50)], [(68, 22), (60, 90)]],
    "5": [[(36, 22), (34, 46), (56, 44), (68, 60), (60, 82), (32, 86)], [(40, 10), (72, 8)]],
    "7": [[(26, 16), (72, 14), (46, 88)]],
    "0": [[(50, 10), (30, 28), (26, 58), (38, 84), (56, 86), (70, 64), (70, 34), (50, 10)]],
}


def ink(digit: str, size: int, width: float = 12) -> np.ndarray:
    """float [size, size]: 0 on paper, 1 on ink; width as a share of 100."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    radius = width * size / 200
    for stroke in STROKES[digit]:
        points = [(x * size / 100, y * size / 100) for x, y in stroke]
        draw.line(points, fill=255, width=max(1, round(2 * radius)))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(size / 300)), dtype=float) / 255


def as_mnist(drawn: np.ndarray) -> np.ndarray:
    """What MNIST's own recipe makes of clean ink, written without the module under test."""
    rows, columns = np.nonzero(drawn.max(axis=1) > 0.3)[0], np.nonzero(drawn.max(axis=0) > 0.3)[0]
    image = Image.fromarray((255 * drawn).astype(np.uint8)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = 20 / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
    page = np.zeros((56, 56), np.uint8)
    y, x = ndimage.center_of_mass(np.asarray(image))
    top, left = round(28 - y), round(28 - x)
    page[top : top + image.height, left : left + image.width] = np.asarray(image)
    return page[14:42, 14:42]


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def grey(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def dark_on_white(drawn: np.ndarray) -> np.ndarray:
    return grey(255 - 255 * drawn)


def somewhere(drawn: np.ndarray, height: int, width: int, seed: int = 0) -> np.ndarray:
    page = np.zeros((height, width), np.float32)
    rng = np.random.default_rng(seed)
    top, left = rng.integers(20, height - len(drawn) - 20), rng.integers(60, width - len(drawn) - 20)
    page[top : top + len(drawn), left : left + len(drawn)] = drawn
    return page


def paper(height: int, width: int, noise: float = 5, seed: int = 0) -> np.ndarray:
    """Grey, unevenly lit, under a soft shadow, seen by a noisy sensor."""
    y, x = np.linspace(0, 1, height, dtype=np.float32)[:, None], np.linspace(0, 1, width, dtype=np.float32)
    light = 190 - 60 * (0.7 * x + 0.3 * y) - 30 / (1 + np.exp(-12 * (x - y - 0.1)))
    return light + noise * np.random.default_rng(seed).standard_normal((height, width), np.float32)


# --- a clean digit stays as it is ---


def idx_images(path: Path) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, SIDE, SIDE)


@pytest.mark.skipif(MNIST_DATA_DIR is None, reason="MNIST_DATA_DIR is not set")
@pytest.mark.parametrize("part", ["train", "t10k"])
def test_every_image_of_mnist_passes_unchanged(part: str) -> None:
    images = idx_images(Path(str(MNIST_DATA_DIR)) / f"{part}-images-idx3-ubyte.gz")
    changed = [n for n, image in enumerate(images) if not np.array_equal(prepare(image), image)]
    assert changed == []


def embedded_digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    small = (load_digits().images * 255 / 16).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((SIDE, SIDE))) for image in small])


def test_every_embedded_digit_passes_unchanged_and_inverted_when_dark_on_light() -> None:
    for image in embedded_digits():
        assert np.array_equal(prepare(image), image)
        assert np.array_equal(prepare(255 - image), image)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_28x28_file_gives_its_pixels(kind: str) -> None:
    image = as_mnist(ink("5", 400))
    assert np.array_equal(read_image(encoded(image, kind)), image)


def test_a_28x28_file_of_16_bits_gives_its_upper_8() -> None:
    image = as_mnist(ink("5", 400))
    assert np.array_equal(read_image(encoded(image.astype(np.uint16) * 257)), image)


# --- pictures of digits become digits as MNIST drew them ---


def rgba(drawn: np.ndarray, colour: int) -> np.ndarray:
    pixels = np.full((*drawn.shape, 4), colour, np.uint8)
    pixels[..., 3] = 255 * drawn
    return pixels


def turned(drawn: np.ndarray) -> bytes:
    """A photo taken sideways: the pixels lie on their side, EXIF says how to hold them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.rot90(dark_on_white(drawn)).copy(), "JPEG", exif=exif)


STYLES: dict[str, Callable[[np.ndarray], bytes]] = {
    "dark on white": lambda d: encoded(dark_on_white(d)),
    "light on black": lambda d: encoded(grey(255 * d)),
    "off centre": lambda d: encoded(dark_on_white(somewhere(d, 700, 900))),
    "cut tightly": lambda d: encoded(dark_on_white(d)[ndimage.find_objects((d > 0.2).astype(int))[0]]),
    "in a corner of a screen": lambda d: encoded(dark_on_white(np.pad(d, ((0, 780), (1600, 20))))),
    "black on transparency": lambda d: encoded(rgba(d, 0)),
    "white on transparency": lambda d: encoded(rgba(d, 255)),
    "JPEG of quality 60": lambda d: encoded(dark_on_white(d), "JPEG", mode="RGB", quality=60),
    "CMYK": lambda d: encoded(dark_on_white(d), "JPEG", mode="CMYK"),
    "WebP": lambda d: encoded(dark_on_white(d), "WEBP"),
    "black and white": lambda d: encoded(Image.fromarray(dark_on_white(d)).convert("1"), "TIFF"),
    "16 bits": lambda d: encoded((65535 * (1 - d)).astype(np.uint16)),
    "turned by EXIF": turned,
    "pencil": lambda d: encoded(grey(paper(480, 640) - 45 * somewhere(d, 480, 640)), "JPEG", quality=85),
    "chalk": lambda d: encoded(grey(255 - paper(480, 640) + 70 * somewhere(d, 480, 640)), "JPEG"),
    "specks": lambda d: encoded(grey(240 - 200 * somewhere(d, 480, 640) - 200 * specks())),
    "the edge of a table": lambda d: encoded(
        grey((paper(480, 640) - 80 * somewhere(d, 480, 640)) * np.where(np.arange(640) < 25, 0.4, 1))
    ),
}


def specks() -> np.ndarray:
    dots = np.random.default_rng(1).random((480, 640)) > 0.9999
    return ndimage.binary_dilation(dots, np.ones((2, 2)))


def likeness(image: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation, at the best of nine places: the centre of mass is rounded to a pixel, and tested by itself."""
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = [np.roll(image, shift, (0, 1)).ravel() for shift in shifts]
    return float(max(np.corrcoef(each, wanted.ravel())[0, 1] for each in moved))


def check_drawn_as_mnist(image: np.ndarray | None) -> np.ndarray:
    assert image is not None
    assert image.shape == (SIDE, SIDE)
    assert image.dtype == np.uint8
    assert image.max() == 255
    assert np.median(image) == 0, "light ink on black"
    rows, columns = (np.flatnonzero(image.max(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20, "fills the 20 × 20 box"
    assert ndimage.center_of_mass(image) == pytest.approx((14, 14), abs=1)
    return image


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("style", STYLES)
def test_a_picture_of_a_digit_is_drawn_as_mnist_drew_it(style: str, digit: str) -> None:
    drawn = ink(digit, 300)
    image = check_drawn_as_mnist(read_image(STYLES[style](drawn)))
    assert likeness(image, as_mnist(drawn)) > 0.93


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("width", [0.4, 1, 2])
def test_a_thin_line_gets_the_strokes_of_mnist(width: float, digit: str) -> None:
    image = check_drawn_as_mnist(prepare(dark_on_white(ink(digit, 500, width))))
    assert likeness(image, as_mnist(ink(digit, 500, 12))) > 0.85


def test_a_thin_pen_line_in_a_large_photo() -> None:
    photo = paper(3000, 4000, noise=8) - 70 * somewhere(ink("2", 900, 2), 3000, 4000)
    image = check_drawn_as_mnist(prepare(grey(photo)))
    assert likeness(image, as_mnist(ink("2", 500, 12))) > 0.85


@pytest.mark.parametrize("digit", ["4", "5"])
def test_every_stroke_is_kept(digit: str) -> None:
    drawn = ink(digit, 300, 6)
    pieces, count = ndimage.label(drawn > 0.1)
    assert count == 2
    image = read_image(STYLES["pencil"](drawn))
    assert image is not None
    assert likeness(image, as_mnist(drawn)) > max(likeness(image, as_mnist(drawn * (pieces == n))) for n in (1, 2))


@pytest.mark.parametrize("size", [8, 14, 20, 40, 1000])
def test_any_size(size: int) -> None:
    drawn = np.asarray(Image.fromarray(grey(255 * ink("7", 800))).resize((size, size), Image.Resampling.BOX))
    image = prepare(255 - drawn)
    assert image is not None
    assert likeness(image, as_mnist(ink("7", 800))) > 0.8


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("margin", [0, 2, 40])
def test_a_digit_of_six_pixels_is_too_small_to_be_told(digit: str, margin: int) -> None:
    """In its longer side: a 1 is narrow, and is read all the same."""
    box = np.argwhere((drawn := ink(digit, 800)) > 0.5)
    (top, left), (bottom, right) = box.min(0), box.max(0) + 1
    tight = Image.fromarray(grey(255 * drawn[top:bottom, left:right]))
    for length in (3, 5, 6, 9, 12, 16):  # between them it depends on the blur
        width, height = (max(1, round(side * length / max(tight.size))) for side in tight.size)
        small = np.asarray(tight.resize((width, height), Image.Resampling.BOX))
        image = prepare(255 - np.pad(small, margin))
        assert (image is not None) == (length > 7), length


# --- no digit ---

BLANK: dict[str, np.ndarray] = {
    "black 28×28": np.zeros((28, 28), np.uint8),
    "white 28×28": np.full((28, 28), 255, np.uint8),
    "one pixel lit": np.pad(np.full((1, 1), 255, np.uint8), ((10, 17), (5, 22))),
    "grey": np.full((300, 200), 77, np.uint8),
    "1×1": np.full((1, 1), 9, np.uint8),
    "noise": grey(np.random.default_rng(0).normal(220, 8, (300, 400))),
    "much noise": grey(np.random.default_rng(0).normal(128, 40, (300, 400))),
    "dark noise": grey(np.random.default_rng(0).normal(20, 8, (300, 400))),
    "unevenly lit paper": grey(paper(480, 640)),
    "gradient": np.tile(np.arange(256, dtype=np.uint8), (200, 1)),
    "a speck": dark_on_white(np.pad(np.ones((3, 3)), ((90, 107), (40, 157)))),
    "a speck on noisy paper": grey(paper(480, 640) - 100 * np.pad(np.ones((4, 4)), ((90, 386), (40, 596)))),
    "many specks": grey(240 - 200 * specks()),
    "a blot": dark_on_white(np.hypot(*np.mgrid[-100:100, -80:120]) < 12),
}


@pytest.mark.parametrize("name", BLANK)
def test_a_blank_image_is_no_digit(name: str) -> None:
    assert prepare(BLANK[name]) is None


# --- what is not ink ---


def test_resize_passes_28x28_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    assert np.array_equal(prepare(picture, "resize"), picture)


def test_resize_keeps_polarity_aspect_and_border() -> None:
    picture = np.full((100, 50), 200, np.uint8)
    picture[30:70, 10:40] = 20
    image = prepare(picture, "resize")
    assert image is not None
    assert image.shape == (SIDE, SIDE)
    assert set(image[:, :7].ravel()) == {200}
    assert image[14, 14] == 20
    assert abs(int((image < 110).sum()) - SIDE * SIDE * (40 * 30) // 100**2) <= 6


def test_resize_finds_nothing_in_one_colour() -> None:
    assert prepare(np.full((60, 60), 128, np.uint8), "resize") is None


# --- arrays ---


@pytest.mark.parametrize(
    "array",
    [np.zeros((28, 28)), np.zeros((28, 28, 3), np.uint8), np.zeros(28, np.uint8), np.zeros((0, 28), np.uint8)],
)
def test_an_array_that_is_no_grey_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \[height, width\], got"):
        prepare(array)


def test_an_unknown_preparation_is_refused() -> None:
    with pytest.raises(ValueError, match='use "ink" or "resize"'):
        prepare(np.zeros((28, 28), np.uint8), "inc")  # type: ignore[arg-type]


@pytest.mark.parametrize("preparation", ["ink", "resize"])
@pytest.mark.parametrize("shape", [(1, 40_000_000), (40_000_000, 1)])
def test_a_line_of_40_million_pixels(shape: tuple[int, int], preparation: str) -> None:
    line = np.zeros(shape, np.uint8)
    line.reshape(-1)[::1000] = 255
    prepare(line, preparation)  # type: ignore[arg-type]


def check_any_array(array: np.ndarray) -> None:
    for preparation in ("ink", "resize"):
        image = prepare(array, preparation)  # type: ignore[arg-type]
        assert image is None or (image.shape == (SIDE, SIDE) and image.dtype == np.uint8)


ARRAYS = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=60))


@QUICK
@given(ARRAYS)
def test_any_array_is_a_digit_or_none(array: np.ndarray) -> None:
    check_any_array(array)


@pytest.mark.slow
@THOROUGH
@given(ARRAYS)
def test_any_array_is_a_digit_or_none_thoroughly(array: np.ndarray) -> None:
    check_any_array(array)


# --- pixels of every kind ---

GRADED = np.linspace(0, 255, 48 * 40).reshape(40, 48).astype(np.uint8)
"""Height 40, width 48: dark at the top, light at the bottom."""


@pytest.mark.parametrize(
    ("kind", "mode", "tolerance"),
    [
        *((kind, mode, 0) for kind in ("PNG", "TIFF") for mode in ("L", "LA", "RGB", "RGBA", "P")),
        *((kind, mode, 0) for kind in ("GIF", "BMP") for mode in ("L", "RGB", "P")),
        *(("JPEG", mode, 6) for mode in ("L", "RGB", "CMYK", "YCbCr")),
        *(("WEBP", mode, 6) for mode in ("L", "RGB", "RGBA")),
        ("TIFF", "CMYK", 1),
        ("TIFF", "YCbCr", 1),
    ],
)
def test_a_mode_of_a_format(kind: str, mode: str, tolerance: int) -> None:
    # Pillow 12, of Python 3.10, can't read back the uncompressed YCbCr TIFF that it writes.
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    decoded = decode(encoded(GRADED, kind, mode, **options))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - GRADED).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit(kind: str) -> None:
    assert set(decode(encoded(Image.fromarray(GRADED).convert("1"), kind)).ravel()) == {0, 255}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GRADED.astype(np.uint16) * 257, "PNG"),
        (GRADED.astype(np.uint16) * 16, "TIFF"),  # 12 bits of 16, as microscopes write
        (GRADED.astype(">u2") * 257, "TIFF"),
        (GRADED.astype(np.int32) * 300, "TIFF"),
        (GRADED.astype(np.float32) / 255, "TIFF"),
        (GRADED.astype(np.float32) * 1000 - 40_000, "TIFF"),
        (GRADED.astype(np.uint16) + 30_000, "PNG"),  # hardly any contrast
    ],
)
def test_more_than_8_bits_are_scaled_by_their_range(values: np.ndarray, kind: str) -> None:
    assert np.abs(decode(encoded(values, kind)).astype(int) - GRADED).max() <= 1


def test_values_that_are_no_brightness_are_black() -> None:
    values = GRADED.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    assert np.abs(decode(encoded(values, "TIFF")).astype(int) - GRADED).max() <= 1


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.fromarray(np.where(GRADED > 100, 1, 0).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    decoded = decode(encoded(image, "GIF", transparency=1))
    assert np.array_equal(decoded, np.where(GRADED > 100, 255, 0))


def test_nothing_drawn_on_transparency_is_white() -> None:
    assert set(decode(encoded(rgba(np.zeros((9, 9)), 0))).ravel()) == {255}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_turns_the_picture_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    laid = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda a: np.rot90(np.transpose(a), 2),
        8: lambda a: np.rot90(a, 3),
    }[orientation](GRADED)
    decoded = decode(encoded(np.ascontiguousarray(laid), kind, exif=exif))
    assert decoded.shape == GRADED.shape
    assert np.abs(decoded.astype(int) - GRADED).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    later = [Image.fromarray(255 - GRADED)]
    decoded = decode(encoded(Image.fromarray(GRADED), kind, save_all=True, append_images=later))
    assert np.abs(decoded.astype(int) - GRADED).max() <= 8


# --- bad files ---


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_that_states(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def jpeg_with_thumbnail() -> bytes:
    return encoded(GRADED, "JPEG", exif=b"Exif\0\0" + encoded(GRADED[:8, :8], "JPEG"))


VALID: dict[str, bytes] = {
    "PNG": encoded(GRADED),
    "PNG, palette": encoded(GRADED, mode="P"),
    "JPEG": encoded(GRADED, "JPEG"),
    "JPEG, progressive": encoded(GRADED, "JPEG", progressive=True),
    "JPEG, noise": encoded(np.random.default_rng(0).integers(0, 256, (200, 150), dtype=np.uint8), "JPEG"),
    "GIF": encoded(GRADED, "GIF"),
    "GIF, animated": encoded(
        Image.fromarray(GRADED), "GIF", save_all=True, append_images=[Image.fromarray(255 - GRADED)]
    ),
    "BMP": encoded(GRADED, "BMP"),
    "BMP, 24 bits, padded rows": encoded(GRADED[:, :41], "BMP", mode="RGB"),
    "TIFF": encoded(GRADED, "TIFF"),
    "TIFF, LZW": encoded(GRADED, "TIFF", compression="tiff_lzw"),
    "TIFF, fax": encoded(GRADED, "TIFF", mode="1", compression="group4"),
    "TIFF, big": encoded(GRADED, "TIFF", big_tiff=True),
    "WEBP": encoded(GRADED, "WEBP"),
    "WEBP, lossless": encoded(GRADED, "WEBP", lossless=True),
}

BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", r"empty \(0 bytes\)"),
    "text named .png": (b"hello, I am a text file", "not a PNG.*begins with 'hello, I am a te'"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG.*<svg xmlns"),
    "PDF": (b"%PDF-1.7\n", "not a PNG"),
    "binary": (bytes(range(128, 200)), "the bytes 80 81 82"),
    "another format of Pillow's": (encoded(GRADED, "PPM"), "not a PNG"),
    "a PNG short of 20 bytes": (VALID["PNG"][:-20], "PNG file is cut short or damaged"),
    "a PNG whose checksum is wrong": (VALID["PNG"][:60] + b"??" + VALID["PNG"][62:], "cut short or damaged"),
    "a JPEG without its end": (VALID["JPEG"][:-2], "JPEG file is cut short"),
    "a JPEG cut behind its thumbnail": (jpeg_with_thumbnail()[:-100], "JPEG file is cut short"),
    "only the magic of a PNG": (b"\x89PNG\r\n\x1a\n", "cut short"),
    "only the magic of a GIF": (b"GIF89a", "GIF file is damaged"),
    "13,000 × 13,000": (png_that_states(13_000, 13_000), "13,000 × 13,000 pixels; at most 50,000,000"),
    "14,000 × 14,000, where Pillow refuses": (png_that_states(14_000, 14_000), "at most|far over"),
    "100,000 × 100,000": (png_that_states(100_000, 100_000), "scale it down"),
    "1 × 40,000,000": (png_that_states(1, 40_000_000), "65,535 a side"),
    "no height": (png_that_states(100, 0), "damaged"),
    "fewer pixels than stated": (png_that_states(100, 100), "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(UnreadableImage, match=reason) as raised:
        read_image(data)
    assert "0x" not in str(raised.value), "no address of an object"


def test_what_pillow_said_is_kept_as_the_cause() -> None:
    with pytest.raises(UnreadableImage) as raised:
        decode(png_that_states(100, 100))
    assert raised.value.__cause__ is not None


def test_the_limit_of_pixels_can_be_set() -> None:
    assert decode(VALID["PNG"], max_pixels=GRADED.size).size == GRADED.size
    with pytest.raises(UnreadableImage, match="at most 1,919 in all"):
        decode(VALID["PNG"], max_pixels=GRADED.size - 1)


@pytest.mark.parametrize("name", VALID)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = VALID[name]
    decode(data)
    for length in {*range(0, len(data), 1 + len(data) // 100), *range(len(data) - 30, len(data))}:
        with pytest.raises(UnreadableImage):
            decode(data[:length])


def test_a_bit_flipped_anywhere_in_a_png_is_refused() -> None:
    data = VALID["PNG"]
    for at in range(len(data)):
        with pytest.raises(UnreadableImage):
            decode(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


def test_warnings_are_left_as_they_were_when_threads_overlap() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(VALID["PNG"]) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert decoding._pillow_quiet._inside == 0


def check_any_bytes(data: bytes) -> None:
    try:
        decoded = decode(data, max_pixels=1_000_000)
    except UnreadableImage:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 2


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with a few bytes overwritten, inserted or taken out."""
    data = bytearray(VALID[draw(st.sampled_from(sorted(VALID)))])
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@st.composite
def anything(draw: st.DrawFn) -> bytes:
    """The magic of a format, or none, and any bytes behind it."""
    return draw(st.sampled_from([b"", *(magic for magic, _ in decoding._MAGIC)])) + draw(st.binary(max_size=300))


@QUICK
@given(mutated() | anything())
def test_any_bytes_are_an_image_or_unreadable(data: bytes) -> None:
    check_any_bytes(data)


@pytest.mark.slow
@THOROUGH
@given(mutated() | anything())
def test_any_bytes_are_an_image_or_unreadable_thoroughly(data: bytes) -> None:
    check_any_bytes(data)
