"""The one front door for images from outside: bytes in, 28×28 pixels as the network knows them out.

Used by the nightly batch and the real-time service alike, so that one picture cannot get two answers. Which files
are read at all is in `decoding`; what the network does with the pixels is in `network`.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from mnist_pipeline.ml.decoding import UnreadableImage as UnreadableImage
from mnist_pipeline.ml.decoding import decode as decode
from mnist_pipeline.ml.digits import SIDE as SIDE
from mnist_pipeline.ml.digits import Preparation as Preparation

BOX = 20
"""MNIST digits were fitted into 20×20 pixels before they were centred in 28×28 (LeCun et al. 1998)."""
CENTRE = 14.0
"""Row and column of their centre of mass: 14.0 ± 0.3 over the test set, not the 13.5 of the geometric centre."""

# A 28×28 image as MNIST made it: black (or white) around, and ink. All 70,000 have a border whose median is 0,
# and at least 26 pixels above 64.
_CLEAN_BORDER, _INK_LEVEL, _LEAST_INK = 32, 64, 12
_WORKING_SIDES = (128, 384)  # pixels of the longer side: smaller images are enlarged, larger ones reduced
_ENOUGH = 120  # a digit that is smaller than this in the working image is looked at again, closer
_PAPER_SIDE = 128
_SLIGHT = 2.0
_LEAST_CONTRAST = 10.0  # grey levels
_NOISE_FACTOR = 5.0


class _Ink(NamedTuple):
    """contrast: float32 [h, w], 0 off the strokes, about 1 on them; box: rows and columns that hold them, as
    shares of the picture (top, bottom, left, right)."""

    contrast: np.ndarray
    box: tuple[slice, slice]


def read_image(data: bytes, preparation: Preparation = "ink") -> np.ndarray | None:
    """The bytes of an image file -> uint8 [28, 28], or None when there is no digit. Raises UnreadableImage."""
    return prepare(decode(data), preparation)


def prepare(grey: np.ndarray, preparation: Preparation = "ink") -> np.ndarray | None:
    """uint8 [height, width] -> uint8 [28, 28], light ink on black as MNIST was made; None when there is no digit.

    "ink": a 28×28 image with a black border passes unchanged, one with a white border is inverted. All others
    are read as ink on paper, of either polarity: the paper is estimated and removed, the strokes are cropped,
    fitted into 20×20 with their aspect kept and placed by their centre of mass, as LeCun, Bottou, Bengio and
    Haffner describe ("Gradient-based learning applied to document recognition", 1998, section III.A).
    "resize": for pictures that are not ink: no crop, no inversion; a square, reduced to 28×28.

    Raises ValueError for anything but a uint8 image with at least one pixel, or an unknown preparation.
    """
    if grey.dtype != np.uint8 or grey.ndim != 2 or grey.size == 0:
        raise ValueError(f"an image must be uint8 [height, width], got {grey.dtype} {list(grey.shape)}")
    if preparation == "resize":
        return _resize(grey)
    if preparation != "ink":
        raise ValueError(f'unknown preparation {preparation!r}: use "ink" or "resize"')
    ready = _as_mnist(grey) if grey.shape == (SIDE, SIDE) else None
    return _redraw(grey) if ready is None else ready


def _resize(grey: np.ndarray) -> np.ndarray | None:
    if grey.min() == grey.max():
        return None
    if grey.shape == (SIDE, SIDE):
        return grey
    small = _scale(grey, SIDE)
    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    square = np.full((SIDE, SIDE), np.median(edge), np.uint8)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def _scale(grey: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at `side` pixels, aspect kept."""
    grey = grey[:: 1 + grey.shape[0] // 65_536, :: 1 + grey.shape[1] // 65_536]  # Pillow pays for each row
    height, width = (max(1, round(n * side / max(grey.shape))) for n in grey.shape)
    image = Image.fromarray(grey)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))


def _as_mnist(grey: np.ndarray) -> np.ndarray | None:
    """The 28×28 image itself, or inverted, when it is a clean one; None when it must be read as a photo."""
    border = np.median(np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]]))
    if border >= 256 - _CLEAN_BORDER:
        grey = 255 - grey
    elif border >= _CLEAN_BORDER:
        return None
    return grey if np.count_nonzero(grey >= _INK_LEVEL) >= _LEAST_INK else None


def _redraw(grey: np.ndarray) -> np.ndarray | None:
    page = _working(grey)
    if _is_light_on_dark(page):
        grey, page = 255 - grey, 255 - page
    strokes = _strokes(page)
    if strokes is None:
        return None
    if max(s.stop - s.start for s in _box(strokes)) < _ENOUGH:
        closer = _strokes(_working(_cut(grey, strokes)))
        strokes = strokes if closer is None else closer
    return _draw(strokes)


def _working(grey: np.ndarray) -> np.ndarray:
    low, high = _WORKING_SIDES
    page = _scale(grey, min(max(max(grey.shape), low), high)).astype(np.float32)
    return ndimage.gaussian_filter(page, 0.8)


def _is_light_on_dark(page: np.ndarray) -> bool:
    """Whether what stands out from the border, soft shading set aside, is lighter than it."""
    flat = _without_shading(_scale_float(page, _PAPER_SIDE))
    rest = flat - np.median(np.concatenate([flat[0], flat[-1], flat[:, 0], flat[:, -1]]))
    return float(np.sum(rest * np.abs(rest))) > 0


def _scale_float(page: np.ndarray, side: int) -> np.ndarray:
    height, width = (max(1, round(n * side / max(page.shape))) for n in page.shape)
    return ndimage.gaussian_filter(np.array(Image.fromarray(page).resize((width, height), Image.Resampling.BOX)), 1.0)


def _without_shading(small: np.ndarray) -> np.ndarray:
    """Differences between neighbours that are slight are light and shadow, the others are ink: only these are
    summed up again (Horn, "Determining lightness from an image", 1974), by a Poisson equation."""
    down, right = np.diff(small, axis=0, append=small[-1:]), np.diff(small, axis=1, append=small[:, -1:])
    for d in (down, right):
        slight = np.abs(d - np.median(d)) 
        d[slight < max(_SLIGHT, min(4 * np.percentile(slight, 30) / 0.385, 0.25*slight.max()))] = 0
    bend = np.diff(down, axis=0, prepend=0) + np.diff(right, axis=1, prepend=0)
    height, width = small.shape
    wave = 2 * np.cos(np.pi * np.arange(height) / height)[:, None] + 2 * np.cos(np.pi * np.arange(width) / width) - 4
    wave[0, 0] = 1
    waves = fft.dctn(bend) / wave
    waves[0, 0] = 0
    return fft.idctn(waves).astype(np.float32)


def _paper(page: np.ndarray) -> np.ndarray:
    """The page without dark strokes: a closing, which keeps gradients and soft shadows as they are."""
    small = _scale_float(page, _PAPER_SIDE)
    flat = _without_shading(small)
    window = [min(n, _PAPER_SIDE // 2) | 1 for n in small.shape]
    closed = ndimage.grey_closing(flat, size=window) + small - flat
    height, width = page.shape
    return np.array(Image.fromarray(closed).resize((width, height), Image.Resampling.BILINEAR))


def _strokes(page: np.ndarray) -> np.ndarray | None:
    """Grey page, dark ink -> float32 of the same shape: 0 off the strokes, 1 on them. None when there are none."""
    contrast = _paper(page) - page
    low, level = np.percentile(contrast, (5, 30))
    contrast -= level
    noise = float(level - low) / 1.12
    floor = max(_LEAST_CONTRAST, _NOISE_FACTOR * noise)
    strong = contrast[contrast > floor]
    if strong.size == 0:
        return None
    level = float(np.sum(strong**2) / np.sum(strong))
    kept = _keep(contrast, max(0.3 * level, 3 * noise), max(0.5 * level, floor))
    if kept is None:
        return None
    return np.where(kept, np.clip((contrast / level - 0.1) / 0.8, 0, 1), 0).astype(np.float32)


def _keep(contrast: np.ndarray, weak: float, strong: float) -> np.ndarray | None:
    reach = 1 + max(contrast.shape) // 128
    mask = contrast > weak
    near = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=reach)
    groups, count = ndimage.label(near, np.ones((3, 3)))
    number = np.arange(1, count + 1)
    mass = ndimage.sum_labels(contrast * mask, groups, number)
    mass[ndimage.maximum(contrast, groups, number) < strong] = 0
    edge = np.concatenate([groups[0], groups[-1], groups[:, 0], groups[:, -1]])
    inner = mass.copy()
    inner[np.unique(edge[edge > 0]) - 1] = 0
    if inner.max(initial=0) > 0.1 * mass.max(initial=0):
        mass = inner
    good = number[(mass > 0) & (mass >= 0.04 * mass.max(initial=0))]
    if len(good) == 0:
        return None
    kept = np.isin(groups, good)
    rows, columns = _box(kept & mask)
    if max(rows.stop - rows.start, columns.stop - columns.start) < 0.03 * max(contrast.shape):
        return None
    return kept


def _box(strokes: np.ndarray) -> tuple[slice, slice]:
    return ndimage.find_objects((strokes > 0.25).astype(np.uint8))[0]


def _cut(grey: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """The part of the full-size picture that holds the strokes, with a margin."""
    box = _box(strokes)
    margin = 0.3 * max(s.stop - s.start for s in box)
    part = []
    for s, n, full in zip(box, strokes.shape, grey.shape):
        part.append(slice(int(max(0, s.start - margin) * full / n), int(np.ceil(min(n, s.stop + margin) * full / n))))
    return grey[tuple(part)]


def _draw(strokes: np.ndarray) -> np.ndarray | None:
    ink = strokes[_box(strokes)]
    scale = max(ink.shape) / BOX
    width = 4 * ndimage.distance_transform_edt(np.pad(ink > 0.5, 1))[np.pad(ink > 0.5, 1)].mean() - 1
    if width > 0.5 * max(ink.shape):
        return None
    missing = (2.2 - width / scale) / 2 * scale
    if missing > 0:
        pad = int(missing) + 2
        distance = ndimage.distance_transform_edt(np.pad(ink, pad) <= 0.5)
        ink = np.clip(missing + 1 - distance, 0, 1).astype(np.float32)
    ink = ink[_box(ink)]
    h, w = (max(1, round(n * BOX / max(ink.shape))) for n in ink.shape)
    small = np.array(Image.fromarray(ink).resize((w, h), Image.Resampling.BOX))
    small = np.clip(small / small.max(), 0, 1)
    y, x = ndimage.center_of_mass(small)
    top = int(np.clip(round(CENTRE - y), 0, SIDE - h))
    left = int(np.clip(round(CENTRE - x), 0, SIDE - w))
    out = np.zeros((SIDE, SIDE), np.uint8)
    out[top : top + h, left : left + w] = np.rint(255 * small)
    return out
