"""From what people said to the pictures that they said it of, through the front door as every image from outside.

A picture lies on the shelf of feedback (the page keeps it), in the prediction log (MNIST_KEEP_IMAGES=yes), or among the
files that a night has claimed. What cannot be had is left out with a reason: nothing fails because of one picture.
Not here: which of several labels counts, and what is trained on (`ml/feedback.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_pipeline.corrections import CannotBeHad, Correction
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.night_rows import NightRows
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.sealed import sha256, sha256_of
from mnist_pipeline.storage.shelves import Missing
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    import numpy as np

    from mnist_pipeline.inbox.mailbox import Mailbox

MOST = 5_000  # pictures that are read, the newest: 10 to 20 s of the front door, were they all photos
AT_ONCE = 8  # pictures, or files of nights on this disk: a bucket gives one in 20 ms
NOT_KEPT = "its pixels were not kept: set MNIST_KEEP_IMAGES=yes for answers to come"


@dataclass(frozen=True)
class Labelled:
    """image: uint8 [28, 28] as the network is to see it; said: what somebody said of it."""

    image: np.ndarray
    said: Correction


@dataclass
class Gathered:
    """The pictures, the newest first, and what was left out: where it was said -> why."""

    pictures: list[Labelled] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where pictures lie."""

    traffic: Traffic
    nights: NightTables
    inbox: Mailbox


def gather(said: Iterable[Correction], places: Places, preparation: Preparation) -> Gathered:
    """The picture of each, the newest first. Raises StoreUnavailable."""
    newest = sorted(said, key=lambda each: (each.origin != "page", each.time, each.where), reverse=True)
    gathered = Gathered()
    for each in newest[MOST:]:
        gathered.left_out[each.where] = f"there are {MOST:,} newer ones"
    answers = _Answers.to(newest[:MOST], places.traffic)
    of_nights = _OfNights.of(newest[:MOST], places, preparation)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda each: _or_why(each, places, answers, of_nights, preparation), newest[:MOST])
        for each, picture in zip(newest, found, strict=False):
            if isinstance(picture, CannotBeHad):
                gathered.left_out[each.where] = str(picture)
            else:
                gathered.pictures.append(picture)
    gathered.pictures.sort(key=lambda each: each.said.time, reverse=True)
    return gathered


def _or_why(
    said: Correction, places: Places, answers: _Answers, of_nights: _OfNights, preparation: Preparation
) -> Labelled | CannotBeHad:
    """Raises StoreUnavailable."""
    try:
        return _picture(said, places, answers, of_nights, preparation)
    except CannotBeHad as error:
        return error


def _picture(
    said: Correction, places: Places, answers: _Answers, of_nights: _OfNights, preparation: Preparation
) -> Labelled:
    """Raises CannotBeHad, StoreUnavailable."""
    if said.origin == "answers":
        return answers.picture(said)
    if said.origin == "nights":
        return of_nights.picture(said)
    try:
        return Labelled(_read(places.traffic.feedback.get(said.image), preparation), said)
    except (Missing, ValueError) as error:  # BadKey is a ValueError: a record may name anything
        raise CannotBeHad(str(error)) from error


def _read(data: bytes, preparation: Preparation) -> np.ndarray:
    """Raises UnreadableImage, a ValueError."""
    from mnist_pipeline.ml.images import UnreadableImage, read_image

    image = read_image(data, preparation)
    if image is None:
        raise UnreadableImage("there is no digit on it")
    return image


@dataclass(frozen=True)
class _Answers:
    """Rows of the prediction log by request, of those that somebody got."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def to(cls, said: Iterable[Correction], traffic: Traffic) -> _Answers:
        wanted = {each.request_id for each in said if each.origin == "answers"}
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in traffic.answers_to(wanted, ["request_id", "index", "role", "time", "image"]) if wanted else ():
            if row["role"] != "shadow":
                rows.setdefault(row["request_id"], []).append(row)
        return cls(rows)

    def picture(self, said: Correction) -> Labelled:
        """Raises CannotBeHad."""
        import numpy as np

        rows = self.rows.get(said.request_id, ())
        if not rows:
            raise CannotBeHad(f"the prediction log has no request {said.request_id!r}")
        chosen = [row for row in rows if said.index in (None, row["index"])]
        if len(chosen) != 1 or (said.index is None and chosen[0]["index"]):
            places = ", ".join(str(row["index"]) for row in rows)
            raise CannotBeHad(f"the request had several images, with digits on {places}: a column index says which")
        (row,) = chosen
        if row["image"] is None or len(row["image"]) != SIDE * SIDE:
            raise CannotBeHad(NOT_KEPT)
        image = np.frombuffer(row["image"], np.uint8).reshape(SIDE, SIDE)  # what the front door gave then
        return Labelled(image, replace(said, time=said.time or row["time"].isoformat(timespec="microseconds")))


@dataclass(frozen=True)
class _OfNights:
    """The pictures in files of nights, by where they were spoken of. Each file is fetched and read once: a Parquet file
    may hold all that people looked at, and in a bucket it is far away."""

    found: Mapping[str, Labelled | CannotBeHad]

    @classmethod
    def of(cls, said: Iterable[Correction], places: Places, preparation: Preparation) -> _OfNights:
        """Raises StoreUnavailable."""
        about = [each for each in said if each.origin == "nights"]
        rows, found = NightRows.of(about, places.nights), dict[str, Labelled | CannotBeHad]()
        files: dict[_File, list[Correction]] = {}
        for each in about:
            try:
                row = rows.one(each)
                files.setdefault(_File(row["night"], each.file, row["sha256"]), []).append(each)
            except CannotBeHad as error:
                found[each.where] = error
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for pictures in pool.map(lambda of: _in_file(of[0], of[1], places.inbox, preparation), files.items()):
                found |= pictures
        return cls(found)

    def picture(self, said: Correction) -> Labelled:
        """Raises CannotBeHad."""
        found = self.found[said.where]
        if isinstance(found, CannotBeHad):
            raise found
        return found


@dataclass(frozen=True)
class _File:
    """As the table of its night knows it."""

    night: str
    name: str
    sha256: str


def _in_file(
    file: _File, said: Sequence[Correction], inbox: Mailbox, preparation: Preparation
) -> dict[str, Labelled | CannotBeHad]:
    """The pictures of one file. Raises StoreUnavailable."""
    try:
        with inbox.opened(file.night, [file.name]) as opened:
            images = _images(opened.folder / opened.files[0], file, {each.row for each in said}, preparation)
    except StoreUnavailable:
        raise
    except (OSError, ValueError, KeyError) as error:  # gone, unreadable; in a bucket BlobMissing
        lost = CannotBeHad(f"{file.name} of night {file.night} cannot be had: {error}")
        return dict.fromkeys((each.where for each in said), lost)
    return {each.where: _labelled(images.get(each.row), each, file.night) for each in said}


def _labelled(image: np.ndarray | None, said: Correction, night: str) -> Labelled | CannotBeHad:
    if image is None:
        return CannotBeHad(f"row {said.row} of {said.file!r} of night {night} has no digit on it")
    return Labelled(image, replace(said, night=night, time=said.time or f"{night}T00:00:00.000000+00:00"))


def _images(path: Path, file: _File, rows: Collection[int], preparation: Preparation) -> dict[int, np.ndarray | None]:
    """By row. Raises ValueError, OSError."""
    from mnist_pipeline.inbox.mailbox import read_image_file
    from mnist_pipeline.ml.image_rows import holds_many, read_some

    if holds_many(file.name):
        _check(sha256_of(path), file)
        return dict(read_some(path, sorted(rows), preparation))
    data = read_image_file(path)
    _check(sha256(data), file)
    return {0: _read(data, preparation)}


def _check(digest: str, file: _File) -> None:
    if digest != file.sha256:
        raise CannotBeHad("it is not the file that the night has read")
