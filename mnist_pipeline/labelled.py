"""From what people said to the pictures that they said it of, through the front door as every image from outside.

A picture lies on the shelf of feedback (the page keeps it), in the prediction log (MNIST_KEEP_IMAGES=yes), or among the
files that a night has claimed. What cannot be had is left out with a reason: nothing fails because of one picture.
Not here: which of several labels counts, and what is trained on (`ml/feedback.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_pipeline.corrections import Correction
from mnist_pipeline.ml.digits import SIDE, Preparation
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.shelves import Missing
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    import numpy as np

    from mnist_pipeline.inbox.mailbox import Mailbox

MOST = 5_000  # pictures that are read, the newest: 10 to 20 s of the front door, were they all photos
NOT_KEPT = "its pixels were not kept: set MNIST_KEEP_IMAGES=yes for answers to come"


class CannotBeHad(ValueError):
    """Why there is no picture for what was said."""


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
    for each in newest[:MOST]:
        try:
            gathered.pictures.append(_picture(each, places, answers, preparation))
        except CannotBeHad as error:
            gathered.left_out[each.where] = str(error)
    gathered.pictures.sort(key=lambda each: each.said.time, reverse=True)
    return gathered


def _picture(said: Correction, places: Places, answers: _Answers, preparation: Preparation) -> Labelled:
    """Raises CannotBeHad, StoreUnavailable."""
    if said.origin == "answers":
        return answers.picture(said)
    if said.origin == "nights":
        return _of_night(said, places, preparation)
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
        if len(chosen) != 1:
            raise CannotBeHad(f"the request had {len(rows)} images: a column index says which, from 0")
        (row,) = chosen
        if row["image"] is None or len(row["image"]) != SIDE * SIDE:
            raise CannotBeHad(NOT_KEPT)
        image = np.frombuffer(row["image"], np.uint8).reshape(SIDE, SIDE)  # what the front door gave then
        return Labelled(image, replace(said, time=said.time or row["time"].isoformat(timespec="microseconds")))


def _of_night(said: Correction, places: Places, preparation: Preparation) -> Labelled:
    """Raises CannotBeHad, StoreUnavailable."""
    from mnist_pipeline.ml.image_rows import holds_many

    row = night_row(said, places.nights)
    night = str(row["night"])
    try:
        with places.inbox.opened(night, [said.file]) as opened:
            path = opened.folder / opened.files[0]
            image = _of_row(path, said.row, preparation) if holds_many(said.file) else _of_image(path, row, preparation)
    except StoreUnavailable:
        raise
    except (OSError, ValueError, KeyError) as error:  # gone, unreadable; in a bucket BlobMissing
        raise CannotBeHad(f"{said.file} of night {night} cannot be had: {error}") from error
    return Labelled(image, replace(said, night=night, time=said.time or f"{night}T00:00:00.000000+00:00"))


def night_row(said: Correction, tables: NightTables) -> Mapping[str, Any]:
    """The one row that was said something of: what the table does not name is not opened. Raises CannotBeHad."""
    nights = [said.night] if said.night else tables.nights()
    try:
        found = [row for night in nights for row in tables.of_files(night, [said.file]) if row["row"] == said.row]
    except ValueError as error:
        raise CannotBeHad(str(error)) from error
    if not found:
        raise CannotBeHad(f"row {said.row} of {said.file!r} is in no table of {said.night or 'any night'}")
    if len(found) > 1:
        named = ", ".join(str(row["night"]) for row in found[:5])
        raise CannotBeHad(f"{said.file!r} was in several nights ({named}): a column night says which")
    return found[0]


def _of_image(path: Path, row: Mapping[str, Any], preparation: Preparation) -> np.ndarray:
    from mnist_pipeline.inbox.mailbox import read_image_file

    data = read_image_file(path)
    if sha256(data).hexdigest() != row["sha256"]:
        raise CannotBeHad("it is not the file that the night has read")
    return _read(data, preparation)


def _of_row(path: Path, row: int, preparation: Preparation) -> np.ndarray:
    from mnist_pipeline.ml.image_rows import read

    for _, image in read(path, row, row + 1, preparation).images():
        if image is not None:
            return image
    raise CannotBeHad("there is no digit on it")
