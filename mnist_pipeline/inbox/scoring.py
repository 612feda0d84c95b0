"""A night's work: the files that arrived, cut into shards of bounded size, scored one by one into two tables.

One function scores one shard, so that memory does not grow with the night. The model that scores and the schedule that
starts it are not chosen here, nor which files a night has (`mailbox.py`).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_pipeline.inbox.mailbox import Opened, read_image_file
from mnist_pipeline.ml.array_files import BadArray, is_array, read_rows, shape_of
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.ml.images import UnreadableImage, prepare_all, read_image
from mnist_pipeline.ml.pixels import PIXELS, pixel_statistics
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.storage.shelves import Shelf

ABSTAINED = "abstained"  # among the labels of a night
NOTHING = np.empty((SIDE, SIDE), np.uint8)
FILES_A_SHARD, ROWS_A_SHARD, BYTES_A_SHARD = 1_000, 10_000, 1 << 26


@dataclass(frozen=True)
class Shard:
    """A bounded part of a night: up to 1,000 image files, or up to 10,000 rows and 64 MiB of one array file.

    files: paths below the night's folder. sha256: of an array file, which is read once for it and not once a shard.
    fault: why an array file cannot be read; it is one shard then, so that none of its rows is taken for good.
    """

    files: tuple[str, ...]
    begin: int = 0
    end: int = 0
    sha256: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Scored:
    """Two tables: what was predicted, and what could not be read with the reason."""

    predictions: pa.Table
    quarantine: pa.Table


@dataclass(frozen=True)
class Scorer:
    """Who answers: the predictor with what each row must say about it. abstain: no label where several may be."""

    predictor: Predictor
    class_names: tuple[str, ...]
    preparation: Preparation
    version: str
    decision: int
    abstain: bool = False

    def schema(self) -> pa.Schema:
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
                *((f"p_{name}", pa.float32()) for name in self.class_names),
                *((name, pa.float32()) for name in PIXELS),
                ("model_version", pa.string()),
                ("decision", pa.int64()),
            ]
        )


QUARANTINE = pa.schema([("file", pa.string()), ("sha256", pa.string()), ("reason", pa.string())])


def score_all(opened: Opened, scorer: Scorer) -> Iterator[Scored]:
    """A whole night, shard by shard, under the names that the tables call the files."""
    for shard in plan(opened.folder, opened.files):
        scored = score(opened.folder, shard, scorer)
        yield Scored(*(_renamed(each, opened.names) for each in (scored.predictions, scored.quarantine)))


def plan(folder: Path, files: Sequence[str]) -> Iterator[Shard]:
    """Shards in a fixed order: first the images, then every array file."""
    images = [name for name in files if not is_array(name)]
    for at in range(0, len(images), FILES_A_SHARD):
        yield Shard(tuple(images[at : at + FILES_A_SHARD]))
    for name in files:
        if is_array(name):
            yield from _plan_array(folder, name)


def score(folder: Path, shard: Shard, scorer: Scorer) -> Scored:
    """One shard, from files to rows: the unit that an engine may spread over processes or machines."""
    if shard.fault or shard.end:
        return _score_array(folder, shard, scorer)
    return _score_images(folder, shard, scorer)


@dataclass
class Tally:
    """What a night came to, counted while it is written: it does not grow with the night.

    sha256: of the file of predictions, once it is whole. uncertain: images whose set has several classes.
    """

    sha256: str = ""
    predictions: int = 0
    quarantined: int = 0
    uncertain: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    confidence: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, scored: Scored) -> None:
        """Count one shard; the first ten reasons are kept."""
        self.predictions += len(scored.predictions)
        self.quarantined += len(scored.quarantine)
        for each in pc.value_counts(scored.predictions["label"]).to_pylist():
            self.labels[each["values"] or ABSTAINED] += each["counts"]
        blank = scored.predictions["confidence"].null_count
        self.labels.update({"no digit": blank, ABSTAINED: -blank})
        self.labels += Counter()  # without what there is none of
        self.uncertain += pc.sum(pc.greater(pc.list_value_length(scored.predictions["prediction_set"]), 1)).as_py() or 0
        self.confidence += pc.sum(scored.predictions["confidence"]).as_py() or 0.0
        for row in scored.quarantine.slice(0, max(0, 10 - len(self.reasons))).to_pylist():
            self.reasons[row["file"]] = row["reason"]

    @property
    def mean_confidence(self) -> float | None:
        """Over the images that show a digit; None where none does."""
        digits = self.predictions - self.labels["no digit"]
        return self.confidence / digits if digits else None


def write_tables(scored: Iterator[Scored], scorer: Scorer, shelf: Shelf, predictions: str, quarantine: str) -> Tally:
    """Both Parquet files of a night, a row group a shard; they replace those of an earlier run when all is written."""
    tally = Tally()
    with shelf.replacing(predictions) as good, shelf.replacing(quarantine) as bad:
        with pq.ParquetWriter(good, scorer.schema()) as answers, pq.ParquetWriter(bad, QUARANTINE) as faults:
            for each in scored:
                answers.write_table(each.predictions)
                faults.write_table(each.quarantine)
                tally.add(each)
        tally.sha256 = sha256_if_readable(good)
    return tally


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    if not names:
        return table
    files = [names[file] for file in table["file"].to_pylist()]
    return table.set_column(table.schema.get_field_index("file"), "file", pa.array(files, pa.string()))


def _score_images(folder: Path, shard: Shard, scorer: Scorer) -> Scored:
    names, sums, images, faults = [], [], [], []
    for name in shard.files:
        digest = ""
        try:
            data = read_image_file(folder / name)
            digest = hashlib.sha256(data).hexdigest()
            images.append(read_image(data, scorer.preparation))
            names.append(name)
            sums.append(digest)
        except UnreadableImage as error:
            faults.append((name, digest or sha256_if_readable(folder / name), str(error)))
        except OSError as error:
            faults.append((name, digest, f"the file cannot be read: {error.strerror}"))
    seen = np.array([image is not None for image in images], bool)
    pixels = np.stack([image for image in images if image is not None] or [NOTHING])[: seen.sum()]
    return Scored(_rows(names, [0] * len(names), sums, pixels, seen, scorer), _faults(faults))


def _score_array(folder: Path, shard: Shard, scorer: Scorer) -> Scored:
    """Raises BadArray for a file that was whole when the night was planned, and is no longer."""
    (name,) = shard.files
    if shard.fault:
        return Scored(scorer.schema().empty_table(), _faults([(name, shard.sha256, shard.fault)]))
    pixels, seen = prepare_all(read_rows(folder / name, shard.begin, shard.end), scorer.preparation)
    count, rows = len(seen), range(shard.begin, shard.begin + len(seen))
    return Scored(_rows([name] * count, rows, [shard.sha256] * count, pixels, seen, scorer), _faults([]))


def _rows(
    names: Sequence[str],
    rows: Sequence[int],
    sums: Sequence[str],
    pixels: np.ndarray,
    seen: np.ndarray,
    scorer: Scorer,
) -> pa.Table:
    """seen: bool [N], which of N images show a digit; pixels: uint8 [M, 28, 28], those that do."""
    found, count = scorer.predictor.predict(pixels), len(seen)
    probabilities = np.full((count, len(scorer.class_names)), np.nan, np.float32)
    confidence = np.full(count, np.nan, np.float32)
    probabilities[seen], confidence[seen] = found.probabilities, found.confidence
    possible = scorer.predictor.sets.among(found.probabilities)
    labels = np.full(count, None, object)
    labels[seen] = np.asarray(scorer.class_names, object)[found.labels]
    if scorer.abstain and possible is not None:
        labels[np.flatnonzero(seen)[possible.sum(1) > 1]] = None
    blank = ~seen
    columns = [
        pa.array(map(_as_text, names), pa.string()),
        pa.array(rows, pa.int64()),
        pa.array(sums, pa.string()),
        pa.array(labels, pa.string()),
        pa.array(confidence, pa.float32(), mask=blank),
        _sets(possible, found.probabilities, seen, scorer.class_names),
        *(pa.array(column, pa.float32(), mask=blank) for column in probabilities.T),
        *(_where_seen(column, seen) for column in pixel_statistics(pixels).values()),
        pa.repeat(pa.scalar(scorer.version, pa.string()), count),
        pa.repeat(pa.scalar(scorer.decision, pa.int64()), count),
    ]
    return pa.table(columns, schema=scorer.schema())


def _sets(possible: np.ndarray | None, probabilities: np.ndarray, seen: np.ndarray, names: Sequence[str]) -> pa.Array:
    """A list for each of N images. possible: bool [M, classes], of those that show a digit."""
    if possible is None:
        return pa.nulls(len(seen), pa.list_(pa.string()))
    order = np.argsort(-probabilities, 1, kind="stable")
    ends = np.zeros(len(seen) + 1, np.int32)
    ends[1:][seen] = possible.sum(1)
    members = np.asarray(names, object)[order[np.take_along_axis(possible, order, 1)]]
    return pa.ListArray.from_arrays(ends.cumsum(dtype=np.int32), pa.array(members, pa.string()), mask=pa.array(~seen))


def _where_seen(values: np.ndarray, seen: np.ndarray) -> pa.Array:
    """values: float32 [M], of the images that show a digit; null for the others."""
    column = np.full(len(seen), np.nan, np.float32)
    column[seen] = values
    return pa.array(column, pa.float32(), mask=~seen)


def _faults(faults: Sequence[tuple[str, str, str]]) -> pa.Table:
    rows = [(_as_text(name), digest, reason) for name, digest, reason in faults]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=QUARANTINE)


def _as_text(name: str) -> str:
    r"""A file's name for a table: bytes that are no UTF-8, which a file system allows, as \xff."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _plan_array(folder: Path, name: str) -> Iterator[Shard]:
    """At least one shard, so that an array which cannot be read still comes to somebody's notice."""
    digest = sha256_if_readable(folder / name)
    try:
        count, *image = shape_of(folder / name)
    except BadArray as error:
        yield Shard((name,), sha256=digest, fault=str(error))
        return
    rows = min(ROWS_A_SHARD, max(1, BYTES_A_SHARD // prod(image)))
    for begin in range(0, count, rows):
        yield Shard((name,), begin, min(begin + rows, count), digest)


def sha256_if_readable(path: Path) -> str:
    """Of a file of any size; empty for one that cannot be read, which is then refused for that."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
