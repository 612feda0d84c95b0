"""What people said was right: the page's feedback, and CSV files of labels, both on the shelf of feedback.

Here: reading what was said, whole or with a reason why not. Not here: the pictures that it is about (`labelled.py`),
and which of several sayings counts (`ml/feedback.py`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from mnist_pipeline.storage.shelves import Missing, Shelf
from mnist_pipeline.traffic import Traffic

LABELS = "labels/"
MOST_LINES = 100_000  # of all CSV files together
MOST_BYTES = 32 << 20  # of one
KEYS = ("request_id", "file")
COLUMNS = {*KEYS, "label", "index", "night", "row", "time"}


class CannotBeHad(ValueError):
    """Why what was said leads to no picture, or to no answer."""


@dataclass(frozen=True)
class Correction:
    """What one picture is, as somebody said. where: the record, or the file and line, that says so.

    origin: page, answers (a CSV about answers of the service) or nights (one about files of the nightly inbox).
    image: the name of the picture on the shelf; request_id, index: of an answer; file, night, row: of a night.
    time: ISO 8601 UTC, "" where nobody noted it.
    """

    label: str
    origin: str
    where: str
    time: str = ""
    image: str = ""
    request_id: str = ""
    index: int | None = None
    file: str = ""
    night: str = ""
    row: int = 0


@dataclass(frozen=True)
class Corrections:
    """Everything that was said. fault: is told of each line or record that cannot be used, and why."""

    traffic: Traffic
    fault: Callable[[str], object] = lambda text: None

    def all(self) -> list[Correction]:
        """From page and files, in the order in which they were found. Raises StoreUnavailable."""
        return [*self.of_page(), *self.of_files()]

    def of_page(self) -> list[Correction]:
        """One for each record, and for each picture in a folder of a class that no record is about."""
        said = self._of_records()
        known = {each.image for each in said}
        loose = [name for name in self.traffic.feedback.list("images/") if name not in known]
        return said + [
            Correction(each.split("/")[1], "page", each, image=each) for each in loose if each.count("/") > 1
        ]

    def of_answers(self) -> list[Correction]:
        """Those that name a request to the service. Raises StoreUnavailable."""
        return [each for each in (*self._of_records(), *self.of_files()) if each.request_id]

    def _of_records(self) -> list[Correction]:
        return [
            Correction(
                label=str(each["label"]),
                origin="page",
                where=str(each["image"]),
                time=self._noted(each),
                image=str(each["image"]),
                request_id=str(each.get("request_id") or ""),
            )
            for each in self.traffic.records()
        ]

    def of_files(self) -> Iterator[Correction]:
        """One for each line of each CSV file; see `COLUMNS`. The rest of a file after too many lines is left out."""
        for name in self.traffic.feedback.misnamed(LABELS):
            self.fault(f"{name} is not read: rename it, with ASCII letters, digits, '.', '_' and '-' only")
        files = (name for name in self.traffic.feedback.list(LABELS) if name.lower().endswith(".csv"))
        found = (each for name in files for each in self._of_file(name))
        yield from islice(found, MOST_LINES)
        if one_more := next(found, None):
            self.fault(f"{one_more.where}: left out with all that follow, for {MOST_LINES:,} lines are read at most")

    def _of_file(self, name: str) -> Iterator[Correction]:
        """Those of the lines that are whole."""
        try:
            for number, line in _lines(self.traffic.feedback, name):
                where = f"{name}, line {number}"
                try:
                    yield _correction(line, where)
                except ValueError as error:
                    self.fault(f"{where}: {error}")
        except Missing:  # somebody has just removed it
            return
        except (ValueError, csv.Error) as error:
            self.fault(f"{self.traffic.feedback.where(name)} is left out from here on: {error}")

    def _noted(self, record: dict[str, Any]) -> str:
        """The time of a record; "" where it is none."""
        try:
            return _moment(str(record["time"]))
        except ValueError as error:
            self.fault(f"the record of {record['image']} has a time that is none: {error}")
            return ""


@dataclass(frozen=True)
class NoCorrections:
    """Where nothing is to be learned from what people say."""

    def all(self) -> list[Correction]:
        """None."""
        return []


def _lines(shelf: Shelf, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and fields. Raises Missing, ValueError and csv.Error for what is no such table."""
    data = shelf.get(name)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, more than {MOST_BYTES:,}: make several files of it")
    lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), strict=True)  # UnicodeDecodeError is a ValueError
    lines.fieldnames = [each.strip() for each in lines.fieldnames or ()]
    _check_columns(lines.fieldnames)
    for line in lines:
        yield lines.line_num, line


def _check_columns(columns: Sequence[str]) -> None:
    if unknown := set(columns) - COLUMNS:
        raise ValueError(f"it has columns that mean nothing here: {', '.join(sorted(unknown))}; {_FORM}")
    if "label" not in columns or len(set(KEYS) & set(columns)) != 1:
        raise ValueError(f"{_FORM}; its first line says {', '.join(columns) or 'nothing'}")


_FORM = "its columns are request_id,label (also index, time) or file,label (also night, row, time)"


def _correction(line: dict[str, str], where: str) -> Correction:
    """Raises ValueError saying what is wrong with a line."""
    if None in line or None in line.values():
        raise ValueError("it has more or fewer fields than the first line")
    given = {name: text.strip() for name, text in line.items()}
    by_request = "request_id" in given
    if not given["label"] or not given["request_id" if by_request else "file"]:
        raise ValueError("label and request_id or file must not be empty")
    if not given.get("row") and _holds_many(given.get("file", "")):
        raise ValueError(f"{given['file']} holds an image a row: a column row says which, from 0")
    return Correction(
        label=given["label"],
        origin="answers" if by_request else "nights",
        where=where,
        time=_moment(given.get("time", "")),
        request_id=given.get("request_id", ""),
        index=_number(given, "index") if given.get("index") else None,
        file=given.get("file", ""),
        night=given.get("night", ""),
        row=_number(given, "row") if given.get("row") else 0,
    )


def _holds_many(file: str) -> bool:
    """Then row 0 would be a guess."""
    from mnist_pipeline.ml.image_rows import holds_many

    return holds_many(file)


def _number(given: dict[str, str], name: str) -> int:
    if not given[name].isdecimal():
        raise ValueError(f"{name}={given[name]!r} is no row: 0, 1, 2 …")
    return int(given[name])


def _moment(text: str) -> str:
    """A time as ISO 8601 in UTC, so that two can be compared as texts; without a zone it is UTC. Raises ValueError."""
    if not text:
        return ""
    found = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
    utc = found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return utc.isoformat(timespec="microseconds")
