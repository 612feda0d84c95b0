"""Tiny digits and the files that hold them, for tests of whatever reads such files."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.published import Published

ROLES = ("train images", "train labels", "test images", "test labels")
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def strokes(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 28, 28]: light bars on black, all different, which pass the front door unchanged."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for image, left in zip(images, random.integers(6, 18, count), strict=True):
        image[5:23, left : left + 4] = random.integers(100, 256, (18, 4))
    return images


def digits(count: int, seed: int = 0, classes: int = 10) -> LabeledImages:
    """Bars with labels 0, 1, 2, … in turn."""
    return LabeledImages(strokes(count, seed), (np.arange(count) % classes).astype(np.uint8))


def png(image: np.ndarray) -> bytes:
    """The image as the bytes of a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def parquet(rows_a_group: int = 1 << 20, **columns: pa.Array) -> bytes:
    """A Parquet file of these columns, stored as they are, with a checksum for each page."""
    buffer = BytesIO()
    plain = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    pq.write_table(pa.table(columns), buffer, row_group_size=rows_a_group, **plain)
    return buffer.getvalue()


def hugging_face(images: Sequence[bytes | None]) -> pa.Array:
    """A column of image files as Hugging Face's data sets have it."""
    rows = [{"bytes": image, "path": f"{at}.png"} for at, image in enumerate(images)]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def idx_contents(train: LabeledImages, test: LabeledImages) -> dict[str, bytes]:
    """Role -> bytes of that IDX file, not gzipped."""
    arrays = (train.images, train.labels, test.images, test.labels)
    return dict(zip(ROLES, map(idx.dump, arrays), strict=True))


def write_idx(folder: Path, contents: Mapping[str, bytes], suffix: str = ".gz") -> Path:
    """The four files of MNIST, gzipped where the suffix says so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(NAMES, contents.values(), strict=True):
        packed = gzip.compress(content, mtime=0) if suffix == ".gz" else content
        (folder / f"{name}{suffix}").write_bytes(packed)
    return folder


def write_published(folder: Path, like: Published, contents: Mapping[str, bytes]) -> Published:
    """These contents in archives named as those of `like`, and what would be published about them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for role, archive, _ in like.files:
        packed = gzip.compress(contents[role], mtime=0)
        (folder / archive).write_bytes(packed)
        files.append((role, archive, hashlib.md5(packed).hexdigest()))
    unpacked = {role: hashlib.md5(contents[role]).hexdigest() for role in like.md5_unpacked}
    return replace(like, files=tuple(files), md5_unpacked=unpacked)
