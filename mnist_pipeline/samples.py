"""Sample images for the inbox, so that the first run has something to predict."""

import os
import tempfile
from pathlib import Path

import numpy as np


def write_samples(folder: Path, images: np.ndarray, made: float) -> None:
    """uint8 [N, 28, 28] -> digit-0000.png and so on.

    Each file is written elsewhere and renamed in, so it is whole at once; its date is `made` (seconds since 1970), when
    the image was, so that it need not settle.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".samples-", dir=folder) as scratch:
        for i, image in enumerate(images):
            path = Path(scratch) / f"digit-{i:04d}.png"
            Image.fromarray(image).save(path)
            os.utime(path, (made, made))
            path.rename(folder / path.name)
