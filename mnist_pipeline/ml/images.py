"""The one front door for images from outside: bytes in, 28×28 pixels as the network knows them out.

Used by the nightly batch and the real-time service alike, so that one picture cannot get two answers. Which files
are read at all is in `decoding`; what the network makes of the pixels is in `network`.
"""

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from mnist_pipeline.ml.decoding import UnreadableImage as UnreadableImage
from mnist_pipeline.ml.decoding import decode as decode
from mnist_pipeline.ml.digits import SIDE as SIDE
from mnist_pipeline.ml.digits import Preparation as Preparation

BOX = 20
"""MNIST's digits were fitted into 20×20 pixels before they were placed in 28×28."""
CENTRE = 14.0
"""Row and column of their centre of mass: 14.0 ± 0.3 over the test set; 13.5 would be the middle of the image."""

# A 28×28 image as MNIST made it: black around, and ink. All 70,000 have a border whose median is 0 and at least
# 26 pixels above 64.
_CLEAN, _INKED, _LEAST_INK = 32, 64, 12
# Longer side in pixels while strokes are sought: smaller pictures are enlarged, larger ones reduced. A digit smaller
# than _CLOSER there is looked at again on its own; paper, being smooth, needs no more than _PAPER_SIDE.
_WORKING_SIDES, _CLOSER, _PAPER_SIDE = (128, 384), 100, 128
# Strokes are narrower than this share of the picture. Smaller: a bold digit becomes paper; larger: shadows, ink.
_WIDEST_STROKE = 0.4
# The least difference of neighbouring pixels at _PAPER_SIDE that is an edge, not shading: a shadow of 35 grey levels
# that fades over a fifth of the page has 1.5, a light pencil line 8.
_LEAST_EDGE = 2.0
# The longer side of a digit in pixels of the picture that was sent. In less it cannot be told which it is, though
# the network would say so: of 150 drawn in 5×5 pixels 99 were read wrongly, 50 of them with more than 90 %.
_LEAST_LENGTH = 7.5
_LEAST_CONTRAST = 10.0  # grey levels between paper and the faintest ink
# Pixels at 20×20: 97 % of MNIST's digits have strokes wider than the first, half of them wider than the second.
_LEAST_WIDTH, _USUAL_WIDTH = 2.0, 2.9
_SQUARE = np.ones((3, 3), bool)


def read_image(data: bytes, preparation: Preparation = "ink") -> np.ndarray | None:
    """Bytes of an image file -> uint8 [28, 28], or None when there is no digit. Raises UnreadableImage."""
    return prepare(decode(data), preparation)


def prepare(grey: np.ndarray, preparation: Preparation = "ink") -> np.ndarray | None:
    """uint8 [height, width] -> uint8 [28, 28], light ink on black as MNIST was made; None when there is no digit.

    "ink": a 28×28 image with a black border passes unchanged, one with a white border is inverted. All others are
    read as ink on paper, dark or light: the paper is removed, the strokes are fitted into 20×20 with their aspect
    kept and placed by their centre of mass (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to
    document recognition", 1998, III.A). "resize", for what is not ink: centred on a square and resized.

    Raises ValueError for anything but uint8 with two dimensions and a pixel, and for an unknown preparation.
    """
    if grey.dtype != np.uint8 or grey.ndim != 2 or grey.size == 0:
        raise ValueError(f"an image must be uint8 [height, width], got {grey.dtype} {list(grey.shape)}")
    if preparation == "resize":
        return _resize(grey)
    if preparation != "ink":
        raise ValueError(f'unknown preparation {preparation!r}: use "ink" or "resize"')
    ready = _as_mnist(grey) if grey.shape == (SIDE, SIDE) else None
    return _redraw(grey) if ready is None else ready


def prepare_all(images: np.ndarray, preparation: Preparation = "ink") -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, height, width] -> (uint8 [M, 28, 28], bool [N]): what `prepare` gives, and which images were digits.

    Images that need nothing, which is what an array mostly holds, are found all at once, 100 times as fast.
    """
    ready = need_nothing(images, preparation)
    if ready.all():
        return images, ready
    each = [image if whole else prepare(image, preparation) for image, whole in zip(images, ready, strict=True)]
    seen = np.array([image is not None for image in each], bool)
    return np.stack([image for image in each if image is not None] or [np.empty((SIDE, SIDE), np.uint8)])[
        : seen.sum()
    ], seen


def need_nothing(images: np.ndarray, preparation: Preparation) -> np.ndarray:
    """bool [N]: those that `prepare` would surely give back unchanged."""
    if images.shape[1:] != (SIDE, SIDE):
        return np.zeros(len(images), bool)
    pixels = images.reshape(len(images), -1)
    if preparation == "resize":
        return pixels.min(1) != pixels.max(1)
    black = (pixels[:, _BORDER] < _CLEAN).sum(1) > len(_BORDER) // 2  # so the median is below too
    return black & ((pixels >= _INKED).sum(1, dtype=np.uint16) >= _LEAST_INK)  # a quarter of the time of int64


def _as_mnist(grey: np.ndarray) -> np.ndarray | None:
    """The 28×28 image itself, or inverted, where it is a clean one; None where it must be read as a photo."""
    around = np.median(_border(grey))
    if around >= 256 - _CLEAN:
        grey = 255 - grey
    elif around >= _CLEAN:
        return None
    return grey if np.count_nonzero(grey >= _INKED) >= _LEAST_INK else None


def _resize(grey: np.ndarray) -> np.ndarray | None:
    """The whole picture on a square of the colour of its border."""
    if grey.min() == grey.max():
        return None
    if grey.shape == (SIDE, SIDE):
        return grey
    small = _scale(grey, SIDE)
    square = np.full((SIDE, SIDE), round(float(np.median(_border(small)))), np.uint8)
    top, left = ((SIDE - n) // 2 for n in small.shape)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def _redraw(grey: np.ndarray) -> np.ndarray | None:
    """A picture of any size and polarity -> the digit drawn anew; None when there is none."""
    if grey.min() == grey.max():
        return None
    page = _page(grey)
    if _is_light_on_dark(page):
        grey, page = 255 - grey, 255 - page
    strokes = _strokes(page)
    length = 0 if strokes is None else max(strokes[_box(strokes)].shape)
    if strokes is None or length * max(grey.shape) / max(strokes.shape) < _LEAST_LENGTH:
        return None
    if length < _CLOSER:
        closer = _strokes(_page(_around(grey, strokes)))
        strokes = strokes if closer is None else closer
    return _draw(strokes)


# --- from the picture to strokes: float32 [h, w], 0 on paper, 1 on ink ---


def _page(grey: np.ndarray) -> np.ndarray:
    """The picture at working size, float32, its finest noise smoothed."""
    low, high = _WORKING_SIDES
    page = _scale(grey, min(max(*grey.shape, low), high))
    return ndimage.gaussian_filter(page.astype(np.float32), 0.8)


def _is_light_on_dark(page: np.ndarray) -> bool:
    """Whether what differs from the border, shading set aside, is lighter than it."""
    flat = _without_shading(_coarse(page))
    rest = flat - np.median(_border(flat))
    return float(np.sum(rest * np.abs(rest))) > 0


def _strokes(page: np.ndarray) -> np.ndarray | None:
    """Dark strokes of a light page; None when nothing but paper and noise is there.

    Noise is judged between the 5th and 30th percentile of contrast, where even a picture that is half ink has paper.
    """
    contrast = _paper(page) - page
    low, level = np.percentile(contrast, (5, 30))
    contrast -= level
    noise = float(level - low) / 1.12  # the distance of these percentiles in a normal distribution
    least = max(_LEAST_CONTRAST, 4 * noise)
    clear = contrast[contrast > least]
    if clear.size == 0:
        return None
    ink = float(np.sum(clear**2) / np.sum(clear))  # the mean, weighted by itself: edges count little
    if not _has_edges(contrast, ink):
        return None
    digit = _digit(contrast, max(0.3 * ink, 3 * noise), max(0.5 * ink, least))
    return None if digit is None else np.clip((contrast / ink - 0.1) / 0.8, 0, 1) * digit


def _has_edges(contrast: np.ndarray, ink: float) -> bool:
    """Whether what is dark has edges, as ink has: then the area above 30 % of it is 1.1 to 2.1 times the area above
    60 % (3,100 pictures in 31 styles). Noise and stains fade slowly: 4 to 100 times, from 50×50 pixels on."""
    return bool(np.count_nonzero(contrast > 0.3 * ink) <= 2.5 * np.count_nonzero(contrast > 0.6 * ink))


def _paper(page: np.ndarray) -> np.ndarray:
    """The page without its dark strokes: shading, and a closing of what is left, which is nearly flat."""
    coarse = _coarse(page)
    flat = _without_shading(coarse)
    window = int(_PAPER_SIDE * _WIDEST_STROKE) | 1
    closed = ndimage.grey_closing(flat, size=[min(n, window) for n in flat.shape])
    height, width = page.shape
    return np.array(Image.fromarray(closed + coarse - flat).resize((width, height), Image.Resampling.BILINEAR))


def _coarse(page: np.ndarray) -> np.ndarray:
    small = Image.fromarray(page).resize(_fit(page.shape, _PAPER_SIDE), Image.Resampling.BOX)
    return ndimage.gaussian_filter(np.array(small), 1.0)


def _without_shading(coarse: np.ndarray) -> np.ndarray:
    """The page with its slight differences between neighbours set to 0, which are light and shadow: the others are
    summed up again by a Poisson equation, in cosines (Horn, "Determining lightness from an image", 1974)."""
    down = _edges(np.diff(coarse, axis=0, append=coarse[-1:]))
    right = _edges(np.diff(coarse, axis=1, append=coarse[:, -1:]))
    curvature = np.diff(down, axis=0, prepend=0) + np.diff(right, axis=1, prepend=0)
    rows, columns = (2 * np.cos(np.pi * np.arange(n) / n) - 2 for n in coarse.shape)
    waves = rows[:, None] + columns
    waves[0, 0] = 1  # the mean is free
    return fft.idctn(fft.dctn(curvature) / waves).astype(np.float32)


def _edges(differences: np.ndarray) -> np.ndarray:
    """Differences with the slight ones at 0: below 4 times their noise, told from the calmest 30 % of the page, but
    never more than a quarter of the sharpest one."""
    size = np.abs(differences - np.median(differences))
    noise = float(np.percentile(size, 30)) / 0.385
    return np.where(size < max(_LEAST_EDGE, min(4 * noise, 0.25 * size.max())), 0, differences)


def _digit(contrast: np.ndarray, weak: float, strong: float) -> np.ndarray | None:
    """Where the digit is, bool like contrast: groups of nearby pixels above `weak` that reach `strong`."""
    inked = contrast > weak
    reach = 1 + max(contrast.shape) // 128  # joins the pieces of a broken pencil line
    groups, count = ndimage.label(ndimage.binary_dilation(inked, _SQUARE, reach), _SQUARE)
    numbers = np.arange(1, count + 1)
    mass = ndimage.sum_labels(contrast * inked, groups, numbers)
    mass[ndimage.maximum(contrast, groups, numbers) < strong] = 0
    lengths = np.array([max(s.stop - s.start for s in box) for box in ndimage.find_objects(groups)])
    mass[_is_margin(groups, mass, lengths)] = 0
    if not mass.any():
        return None
    digit = np.isin(groups, numbers[mass >= 0.04 * mass.max()])
    extent = max(contrast[_box(digit & inked)].shape)
    largest = lengths[mass.argmax()] - 2 * reach
    return digit if largest >= max(0.03 * max(contrast.shape), extent / 3) else None  # else specks


def _is_margin(groups: np.ndarray, mass: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which groups are the page's edge or its shadow: they touch the border, and ink stands free of it. Where they
    run along the border a little ink is enough; a digit cut tightly touches it only with the width of a stroke."""
    touching = np.bincount(_border(groups), minlength=len(mass) + 1)[1:]
    free = mass[touching == 0].max(initial=0)
    return (touching > 0) & (free > np.where(touching >= 0.5 * lengths, 0.02, 0.5) * mass)


def _around(grey: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """The part of the full-size picture that holds the strokes, with a margin."""
    box = _box(strokes)
    margin = max(strokes[box].shape)
    scale = max(grey.shape) / max(strokes.shape)
    return grey[tuple(slice(int(max(0, s.start - margin) * scale), int((s.stop + margin) * scale) + 1) for s in box)]


# --- from strokes to 28×28 ---


def _draw(strokes: np.ndarray) -> np.ndarray | None:
    """Strokes -> uint8 [28, 28]; None for a blot, which is as wide as it is long."""
    ink = strokes[_box(strokes)] / strokes.max()
    scale = max(ink.shape) / BOX
    width = _stroke_width(ink)
    if width > 0.5 * max(ink.shape):
        return None
    if width < _LEAST_WIDTH * scale:
        ink = _thicken(ink, (_USUAL_WIDTH * scale - width) / 2)  # a hair line would vanish
    image = Image.fromarray(ink.astype(np.float32)).resize(_fit(ink.shape, BOX), Image.Resampling.BOX)
    small = np.array(image)
    return _place(small / small.max())


def _stroke_width(ink: np.ndarray) -> float:
    """Mean width in pixels: four times the mean distance of ink to paper, as in a bar."""
    inked = np.pad(ink > 0.5, 1)
    return 4 * float(ndimage.distance_transform_edt(inked)[inked].mean()) - 1


def _thicken(ink: np.ndarray, radius: float) -> np.ndarray:
    """The strokes grown by `radius` pixels, cropped again."""
    distance = ndimage.distance_transform_edt(np.pad(ink, int(radius) + 2) <= 0.5)
    grown = np.clip(radius + 1 - distance, 0, 1)
    return grown[_box(grown)]


def _place(small: np.ndarray) -> np.ndarray:
    """The digit, 0 to 1, at most 20×20 -> uint8 [28, 28] with its centre of mass at (14, 14)."""
    top, left = (
        int(np.clip(round(CENTRE - mass), 0, SIDE - n))
        for mass, n in zip(ndimage.center_of_mass(small), small.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(255 * small)
    return image


# --- shared ---


def _scale(grey: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at `side` pixels. Sides beyond 65,535 are thinned first: a row costs Pillow
    a pointer, so that 40,000,000 × 1 would take 12 times its own memory."""
    grey = grey[:: 1 + grey.shape[0] // 65_536, :: 1 + grey.shape[1] // 65_536]
    return np.array(Image.fromarray(grey).resize(_fit(grey.shape, side), Image.Resampling.BICUBIC, reducing_gap=2.0))


def _fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Width and height with the longer one at `side`, aspect kept."""
    height, width = (max(1, round(n * side / max(shape))) for n in shape)
    return width, height


def _border(picture: np.ndarray) -> np.ndarray:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


_BORDER = _border(np.arange(SIDE * SIDE).reshape(SIDE, SIDE))
"""Where the border is in the 784 pixels of an image; its corners count twice."""


def _box(ink: np.ndarray) -> tuple[slice, ...]:
    """Rows and columns that hold the ink."""
    return ndimage.find_objects((ink > 0.25).astype(np.uint8))[0]
