"""Scoring: from the files of one shard to its rows, by whatever model the night has.

Not here: how a night is cut into shards (`shards.py`), and where the rows go (`parts.py`, `tables.py`).
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mnist_pipeline.inbox.mailbox import Opened, read_image_file
from mnist_pipeline.inbox.shards import Shard, sha256_if_readable
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.ml.image_rows import Rows, read
from mnist_pipeline.ml.images import UnreadableImage, read_image
from mnist_pipeline.ml.pixels import PIXELS, pixel_statistics
from mnist_pipeline.ml.predictor import Predictor

NOTHING = np.empty((SIDE, SIDE), np.uint8)
Read = Callable[[Path, int, int, Preparation], Rows]


@dataclass(frozen=True)
class Scored:
    """Two tables: what was predicted, and what could not be read with the reason."""

    predictions: pa.Table
    quarantine: pa.Table


@dataclass(frozen=True)
class Scorer:
    """Who answers: the predictor with what each row must say about it. abstain: no label where several may be.

    digest: of the version's card; by it parts know who has scored them.
    """

    predictor: Predictor
    class_names: tuple[str, ...]
    preparation: Preparation
    version: str
    decision: int
    abstain: bool = False
    digest: str = ""


def schema_of(class_names: Sequence[str]) -> pa.Schema:
    """One row an image; label, confidence and pixel statistics are null where there is no digit on it.

    prediction_set: every class that it may be, the most probable first; null also where the version has no sets.
    """
    return pa.schema(
        [
            ("file", pa.string()),
            ("row", pa.int64()),
            ("sha256", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            ("prediction_set", pa.list_(pa.string())),
            *((f"p_{name}", pa.float32()) for name in class_names),
            *((name, pa.float32()) for name in PIXELS),
            ("model_version", pa.string()),
            ("decision", pa.int64()),
        ]
    )


REPEATED = ["file", "sha256", "label", "prediction_set.list.element", "model_version", "decision"]
"""Columns that Parquet is to keep by a dictionary; for all others it takes four times as long, and more bytes."""
QUARANTINE = pa.schema([("file", pa.string()), ("sha256", pa.string()), ("reason", pa.string())])


def score(opened: Opened, shard: Shard, scorer: Scorer, read: Read = read) -> Scored:
    """One shard, from files to rows: the unit that an engine spreads over processes and machines.

    opened: its files here, under the names that they have here. read: by what files with rows are read. Raises BadArray
    for such a file that was whole when the night was planned, and is no longer, or whose rows are damaged.
    """
    scored = _score_rows(opened, shard, scorer, read) if shard.has_rows else _score_images(opened, scorer)
    return Scored(*(_renamed(each, opened.names) for each in (scored.predictions, scored.quarantine)))


def refused(faults: Sequence[Sequence[str]]) -> pa.Table:
    """File, sha256 and reason of each, as they are quarantined."""
    columns = list(zip(*faults, strict=True)) or [(), (), ()]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=QUARANTINE)


def as_text(name: str) -> str:
    r"""A file's name for a table: bytes that are no UTF-8, which a file system allows, as \xff."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    if not names:
        return table
    files = [names[file] for file in table["file"].to_pylist()]
    return table.set_column(table.schema.get_field_index("file"), "file", pa.array(files, pa.string()))


def _score_images(opened: Opened, scorer: Scorer) -> Scored:
    names, sums, images, faults = [], [], [], []
    for name in opened.files:
        path, digest = opened.folder / name, ""
        try:
            data = read_image_file(path)
            digest = hashlib.sha256(data).hexdigest()
            images.append(read_image(data, scorer.preparation))
            names.append(as_text(name))
            sums.append(digest)
        except UnreadableImage as error:
            faults.append((as_text(name), digest or sha256_if_readable(path), str(error)))
        except OSError as error:
            faults.append((as_text(name), digest, f"the file cannot be read: {error.strerror}"))
    seen = np.array([image is not None for image in images], bool)
    pixels = np.stack([image for image in images if image is not None] or [NOTHING])[: seen.sum()]
    place = (pa.array(names, pa.string()), pa.repeat(pa.scalar(0, pa.int64()), len(names)), pa.array(sums, pa.string()))
    return Scored(_rows(place, pixels, seen, scorer), refused(faults))


def _score_rows(opened: Opened, shard: Shard, scorer: Scorer, read: Read) -> Scored:
    (name,) = opened.files
    found = read(opened.folder / name, shard.begin, shard.end, scorer.preparation)
    names, sums = (pa.repeat(pa.scalar(each, pa.string()), len(found.seen)) for each in (as_text(name), shard.sha256))
    faults = [(as_text(name), shard.sha256, f"row {number}: {reason}") for number, reason in found.faults]
    place = (names, pa.array(found.numbers, pa.int64()), sums)
    return Scored(_rows(place, found.pixels, found.seen, scorer), refused(faults))


def _rows(place: Sequence[pa.Array], pixels: np.ndarray, seen: np.ndarray, scorer: Scorer) -> pa.Table:
    """place: of N images the columns file, row and sha256. seen: bool [N], which of them show a digit; pixels: uint8
    [M, 28, 28], those that do."""
    found, count = scorer.predictor.predict(pixels), len(seen)
    probabilities = np.full((count, len(scorer.class_names)), np.nan, np.float32)
    confidence = np.full(count, np.nan, np.float32)
    probabilities[seen], confidence[seen] = found.probabilities, found.confidence
    possible = scorer.predictor.sets.among(found.probabilities)
    labels, blank = np.zeros(count, np.int64), ~seen
    labels[seen], silent = found.labels, blank.copy()
    if scorer.abstain and possible is not None:
        silent[np.flatnonzero(seen)[possible.sum(1) > 1]] = True
    columns = [
        *place,
        pa.array(scorer.class_names, pa.string()).take(pa.array(labels, mask=silent)),
        pa.array(confidence, pa.float32(), mask=blank),
        _sets(possible, found.probabilities, seen, scorer.class_names),
        *(pa.array(column, pa.float32(), mask=blank) for column in probabilities.T),
        *(_where_seen(column, seen) for column in pixel_statistics(pixels).values()),
        pa.repeat(pa.scalar(scorer.version, pa.string()), count),
        pa.repeat(pa.scalar(scorer.decision, pa.int64()), count),
    ]
    return pa.table(columns, schema=schema_of(scorer.class_names))


def _sets(possible: np.ndarray | None, probabilities: np.ndarray, seen: np.ndarray, names: Sequence[str]) -> pa.Array:
    """A list for each of N images. possible: bool [M, classes], of those that show a digit."""
    if possible is None:
        return pa.nulls(len(seen), pa.list_(pa.string()))
    sizes = possible.sum(1)
    ends = np.zeros(len(seen) + 1, np.int32)
    ends[1:][seen] = sizes
    several = sizes > 1  # seldom, and only these have to be sorted
    order = np.argsort(-probabilities[several], 1, kind="stable")
    members = np.empty(sizes.sum(), np.int64)
    of_several = np.repeat(several, sizes)
    members[of_several] = order[np.take_along_axis(possible[several], order, 1)]
    members[~of_several] = possible[sizes == 1].argmax(1)
    texts = pa.array(names, pa.string()).take(pa.array(members))
    return pa.ListArray.from_arrays(ends.cumsum(dtype=np.int32), texts, mask=pa.array(~seen))


def _where_seen(values: np.ndarray, seen: np.ndarray) -> pa.Array:
    """values: float32 [M], of the images that show a digit; null for the others."""
    column = np.full(len(seen), np.nan, np.float32)
    column[seen] = values
    return pa.array(column, pa.float32(), mask=~seen)
