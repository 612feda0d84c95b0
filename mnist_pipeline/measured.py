"""Who said what of which answer: feedback joined with the prediction log and with the tables of the nights.

An answer without a label is none: where several classes were possible it abstained, and where the image showed no digit
there was nothing to classify. Nights have a row for both; the log of the service has one for the first and none for the
second, so what is said of it there leads to no answer. Not here: what the numbers are (`ml/production_accuracy.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnist_pipeline.corrections import CannotBeHad, Correction
from mnist_pipeline.ml.production_accuracy import ABSTAINED, NO_DIGIT, REPORTED, SAMPLED, Told
from mnist_pipeline.night_rows import NightRows
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.traffic import DRAFT, Traffic

COLUMNS = ("time", "request_id", "index", "door", "role", "label", "abstained", "model_version")


@dataclass
class Joined:
    """left_out: where it was said -> why it counts for nothing."""

    told: list[Told] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def join(said: Sequence[Correction], traffic: Traffic, nights: NightTables, days: int) -> Joined:
    """Each answer with what people said of it; of several the newest counts, and one in a CSV before one of the page.

    The answers of a challenger in the shadow count for it: it was asked the same. days: of the log, the newest.
    Raises StoreUnavailable.
    """
    joined, rows, of_nights = Joined(), _rows(said, traffic, days), NightRows.of(said, nights)
    counting: dict[tuple[Any, ...], tuple[Correction, Mapping[str, Any]]] = {}
    for each in sorted(said, key=lambda one: (one.origin != "page", one.time, one.where)):
        try:
            for row in _answers(each, rows, of_nights):
                counting[_key(row)] = each, row
        except CannotBeHad as error:
            joined.left_out[each.where] = str(error)
    joined.told = [_told(each, row) for each, row in counting.values()]
    return joined


def _rows(said: Iterable[Correction], traffic: Traffic, days: int) -> dict[str, list[dict[str, Any]]]:
    wanted = {each.request_id for each in said if each.request_id}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in traffic.answers_to(wanted, COLUMNS, days) if wanted else ():
        if row["door"] != DRAFT:
            rows.setdefault(row["request_id"], []).append(row)
    return rows


def _answers(
    said: Correction, rows: Mapping[str, Sequence[Mapping[str, Any]]], of_nights: NightRows
) -> Iterator[Mapping[str, Any]]:
    """Of every model that was asked. Raises CannotBeHad."""
    if said.origin == "nights":
        yield of_nights.one(said)
        return
    if not said.request_id:
        raise CannotBeHad("nobody noted which answer it is about")
    found = [row for row in rows.get(said.request_id, ()) if said.index in (None, row["index"])]
    if not found:
        raise CannotBeHad(f"the prediction log has no answer to request {said.request_id!r}")
    if said.index is None and any(row["index"] for row in found):
        raise CannotBeHad("the request had several images, and which of them is not said")
    yield from found


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("night", "file", "row") if "night" in row else ("request_id", "index")
    return (row["model_version"], *(row[name] for name in names))


def _told(said: Correction, row: Mapping[str, Any]) -> Told:
    day = str(row["night"]) if "night" in row else row["time"].strftime("%Y-%m-%d")
    kind = REPORTED if said.origin == "page" else SAMPLED
    return Told(kind, row["model_version"], day, answer_in(row), said.label)


def answer_in(row: Mapping[str, Any]) -> str:
    """Of a row of a night or of the log: a class, ABSTAINED or NO_DIGIT.

    A night has no label where it gave none, the log says so beside it; of a blank image there is no confidence."""
    if row.get("abstained"):  # null in a part from before it was kept
        return ABSTAINED
    if row["label"] is None:
        return NO_DIGIT if row["confidence"] is None else ABSTAINED
    return str(row["label"])
