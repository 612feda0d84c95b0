"""A night's work: the files that arrived, cut into shards of bounded size, scored one by one into two tables.

Files in the inbox are claimed for a night by moving them under .claimed/<night>/: what still lies in the inbox is
what waits. The inbox in S3 is in `inbox_s3.py`. The model that scores and the schedule that starts it are not chosen
here.
"""

import fcntl
import hashlib
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_pipeline.dropped import is_meant
from mnist_pipeline.ml.array_files import BadArray, is_array, read_rows, shape_of
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.ml.images import UnreadableImage, prepare_all, read_image
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.sources import IMAGE_SUFFIXES
from mnist_pipeline.shelves import Shelf

CLAIMED = ".claimed"  # hidden, so that it is not taken for something dropped
CLOSED = ".closed"
A_DAY_S = 86_400
LARGEST_FILE = 256 * 1024**2  # bytes of one image file; 50 megapixels uncompressed in colour have 150 MB
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
    """Who answers: the predictor with what each row must say about it."""

    predictor: Predictor
    class_names: tuple[str, ...]
    preparation: Preparation
    version: str
    decision: int

    def schema(self) -> pa.Schema:
        """One row an image; label and confidence are null where there is no digit on it."""
        return pa.schema(
            [
                ("file", pa.string()),
                ("row", pa.int64()),
                ("sha256", pa.string()),
                ("label", pa.string()),
                ("confidence", pa.float32()),
                *((f"p_{name}", pa.float32()) for name in self.class_names),
                ("model_version", pa.string()),
                ("decision", pa.int64()),
            ]
        )


QUARANTINE = pa.schema([("file", pa.string()), ("sha256", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Opened:
    """The files of a night on this disk: `files` below `folder`. names: by file, what the tables call it instead."""

    folder: Path
    files: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """Of the files that wait, those that came in this time: from begin, before end; seconds since 1970."""

    begin: float = -math.inf
    end: float = math.inf

    def __contains__(self, came: float) -> bool:
        return self.begin <= came < self.end


ALWAYS = Span()


class Mailbox(Protocol):
    """Where people and programs drop images. A file belongs to one night for good once it is claimed."""

    def waiting(self) -> Sequence[PurePath]:
        """Files that nobody has claimed yet, in order of name; hidden and unfinished ones are not meant."""

    def is_unused(self) -> bool:
        """Whether nothing waits here and no night has claimed anything yet."""

    def claim(self, night: str, *, over: bool, span: Span = ALWAYS) -> list[str]:
        """Move what is ready and came in this span into the night; return all of the night's files, in order.

        over: the day has ended, so that this claim closes the night: a rerun finds the same files, and what comes
        later belongs to a later night. A killed claim is completed by the next; claims at once share the files.
        """

    def opened(self, night: str, files: Sequence[str]) -> AbstractContextManager[Opened]:
        """These files of a night on this disk, as long as the block lasts. Raises StoreUnavailable."""

    def accept(self, write: Callable[[Path], None]) -> None:
        """Drop what `write` puts into the folder that it is given; returns when it may be claimed."""

    def arrivals(self) -> dict[str, str]:
        """Name -> identity of every image file that waits and is whole, oldest first; another content is another
        identity. Array files are left to the night."""

    def fetch(self, name: str, identity: str) -> bytes:
        """The bytes of an arrival, also when a night has claimed it meanwhile.

        Raises FileNotFoundError when it was changed or taken back, UnreadableImage when it cannot be an image.
        """

    def where(self) -> str:
        """For people: the path or URL."""


@dataclass(frozen=True)
class Inbox:
    """A folder as a mailbox.

    settle_s: a file that changed less than this long ago may still be written, and waits for the next night.
    """

    folder: Path
    settle_s: float = 5.0

    def where(self) -> str:
        return str(self.folder)

    def accept(self, write: Callable[[Path], None]) -> None:
        write(self.folder)

    @contextmanager
    def opened(self, night: str, files: Sequence[str]) -> Iterator[Opened]:
        yield Opened(self.night(night), files)

    def night(self, night: str) -> Path:
        """Where the files of a night lie once they are claimed."""
        return self.folder / CLAIMED / night

    def waiting(self) -> list[Path]:
        return _files(self.folder)

    def is_unused(self) -> bool:
        return not self.waiting() and not _files(self.folder / CLAIMED)

    def arrivals(self) -> dict[str, str]:
        found = []
        for path in self.waiting():
            if path.suffix.lower() in IMAGE_SUFFIXES and self._came(path) in ALWAYS:
                with suppress(FileNotFoundError):  # its owner took it back
                    found.append((path.stat().st_mtime_ns, str(path.relative_to(self.folder)), _identity(path)))
        return {name: identity for _, name, identity in sorted(found)}

    def fetch(self, name: str, identity: str) -> bytes:
        for folder in self._places():
            with suppress(FileNotFoundError, NotADirectoryError):
                if _identity(folder / name) == identity:
                    return _read(folder / name)
        raise FileNotFoundError(f"{name} is no longer in {self.folder} as it was ({identity})")

    def _places(self) -> Iterator[Path]:
        """Where an arrival may lie, the inbox first: what leaves it meanwhile is in a night by then."""
        yield self.folder
        for night in sorted((self.folder / CLAIMED).glob("*/"), reverse=True):
            yield night
            yield from sorted(night.glob("~*/"))

    def claim(self, night: str, *, over: bool, span: Span = ALWAYS) -> list[str]:
        folder = self.night(night)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / CLAIMED):
            if not (folder / CLOSED).exists():
                for path in self.waiting():
                    if self._came(path) in span:
                        _move(path, folder, path.relative_to(self.folder))
                if over:
                    (folder / CLOSED).touch()
        return [str(path.relative_to(folder)) for path in _files(folder)]

    def _came(self, path: Path) -> float:
        """When a file came; NaN, which is in no span, for one that may still be written or that is gone."""
        with suppress(FileNotFoundError):  # its owner took it back
            now = time.time()
            if now - (came := arrived(path.stat(), now)) >= self.settle_s:
                return came
        return math.nan


def arrived(status: os.stat_result, now: float) -> float:
    """When a file came, in seconds since 1970: its date, which copies may keep and which people may set.

    A date in the future, from a wrong clock or a time zone, says nothing: then the file system's own counts. Where that
    is more than a day ahead too, the clock was put back since, and the file has waited for long.
    """
    if status.st_mtime <= now:
        return status.st_mtime
    return status.st_ctime if status.st_ctime <= now + A_DAY_S else 0.0


def score_all(opened: Opened, scorer: Scorer) -> Iterator[Scored]:
    """A whole night, shard by shard, under the names that the tables call the files."""
    for shard in plan(opened.folder, opened.files):
        scored = score(opened.folder, shard, scorer)
        yield Scored(*(_renamed(each, opened.names) for each in (scored.predictions, scored.quarantine)))


def _identity(path: Path) -> str:
    """What stays when a file is moved, and changes when it is written."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


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

    sha256: of the file of predictions, once it is whole.
    """

    sha256: str = ""
    predictions: int = 0
    quarantined: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    confidence: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, scored: Scored) -> None:
        """Count one shard; the first ten reasons are kept."""
        self.predictions += len(scored.predictions)
        self.quarantined += len(scored.quarantine)
        for each in pc.value_counts(scored.predictions["label"]).to_pylist():
            self.labels[each["values"] or "no digit"] += each["counts"]
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
            data = _read(folder / name)
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


def _read(path: Path) -> bytes:
    """The bytes of a file that may be an image. Raises UnreadableImage before it takes memory for one that is not."""
    check_image_file(path.name, path.stat().st_size)
    return path.read_bytes()


def check_image_file(name: str, size: int) -> None:
    """Raises UnreadableImage for a file that is no image by its name, or larger than any should be."""
    suffix = PurePath(name).suffix
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UnreadableImage(
            f"the file type {suffix or '(none)'} is not read; drop {', '.join(sorted(IMAGE_SUFFIXES))}, "
            f".npy or IDX files"
        )
    if size > LARGEST_FILE:
        raise UnreadableImage(f"it has {size:,} bytes, more than {LARGEST_FILE:,}: make the picture smaller")


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
    labels = np.full(count, None, object)
    labels[seen] = np.asarray(scorer.class_names, object)[found.labels]
    blank = ~seen
    columns = [
        pa.array(map(_as_text, names), pa.string()),
        pa.array(rows, pa.int64()),
        pa.array(sums, pa.string()),
        pa.array(labels, pa.string()),
        pa.array(confidence, pa.float32(), mask=blank),
        *(pa.array(column, pa.float32(), mask=blank) for column in probabilities.T),
        pa.repeat(pa.scalar(scorer.version, pa.string()), count),
        pa.repeat(pa.scalar(scorer.decision, pa.int64()), count),
    ]
    return pa.table(columns, schema=scorer.schema())


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


def _files(folder: Path) -> list[Path]:
    """Plain files below a folder that are not hidden, not links and not named as unfinished, sorted."""
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            path for name in filter(is_meant, names) if not (path := Path(at, name)).is_symlink() and path.is_file()
        ]
    return sorted(found)


def _move(path: Path, night: Path, name: Path) -> None:
    """A file whose name the night already has goes below ~2, so that none replaces another and none is renamed."""
    for number in itertools.count(1):
        target = (night if number == 1 else night / f"~{number}") / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):  # what was a file before is a folder now
            continue
        if not target.exists():
            break
    with suppress(FileNotFoundError):  # its owner took it back
        path.rename(target)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One claim at a time; a killed one lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
