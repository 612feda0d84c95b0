"""Pictures, looked at by tests."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image


def picture(png: bytes) -> np.ndarray:
    """The grey pixels, having seen that it is a whole PNG file."""
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


def fits_the_page(png: bytes) -> np.ndarray:
    """Those of a picture that shows something, is no wider than Dagster's UI, and runs into none of its borders."""
    pixels = picture(png)
    tall, wide = pixels.shape
    assert wide <= 830
    assert tall <= 2600
    assert pixels.min() < 200
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert border.min() == 255, "something is cut off"
    return pixels
