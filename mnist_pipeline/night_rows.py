"""The rows of the nights that people said something of: each table is read once, however much was said.

Here: which one row is meant, or why none is. Not here: what the tables are (`night_tables.py`), and the pictures
(`labelled.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnist_pipeline.corrections import CannotBeHad, Correction
from mnist_pipeline.night_tables import NightTables

Row = Mapping[str, Any]
Spot = tuple[str, int]  # a file of a night, and which of its rows


@dataclass(frozen=True)
class NightRows:
    """nights: that there are tables of, the newest first. found: what they say of each, in that order; unread: night ->
    why its table cannot be read."""

    tables: NightTables
    nights: Sequence[str]
    found: Mapping[Spot, Sequence[Row]]
    unread: Mapping[str, str]
    _refused: dict[str, Mapping[Spot, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, said: Iterable[Correction], tables: NightTables) -> NightRows:
        """Of all that was said about files of nights. Raises StoreUnavailable."""
        found, unread = defaultdict[Spot, list[Row]](list), dict[str, str]()
        about = [each for each in said if each.origin == "nights"]
        nights = tables.nights() if about else []
        for night, spots in _wanted(about, nights):
            try:
                for row in tables.of_rows(night, spots):
                    found[row["file"], row["row"]].append(row)
            except ValueError as error:  # BadKey is one: a line may name anything as a night
                unread[night] = str(error)
        return cls(tables, nights, found, unread)

    def one(self, said: Correction) -> Row:
        """The one row that is meant: what no table names is not opened. Raises CannotBeHad."""
        for night in [said.night] if said.night else self.nights:
            if why := self.unread.get(night):
                raise CannotBeHad(why if said.night else f"{why} (a column night says that another one is meant)")
        rows = [row for row in self.found.get((said.file, said.row), ()) if said.night in ("", row["night"])]
        if not rows:
            raise CannotBeHad(self._why_none(said))
        if len(rows) > 1:
            named = ", ".join(str(row["night"]) for row in rows[:5])
            raise CannotBeHad(f"{said.file!r} was in several nights ({named}): a column night says which")
        return rows[0]

    def _why_none(self, said: Correction) -> str:
        """The night may have seen it and refused it, which is another thing to put right than a wrong name."""
        for night in [said.night] if said.night else self.nights:
            refused = self._refused_by(night)
            if why := refused.get((said.file, said.row)) or refused.get((said.file, -1)):
                return f"night {night} could not read row {said.row} of {said.file!r}: {why}"
        return f"row {said.row} of {said.file!r} is in no table of {said.night or 'any night'} (rows count from 0)"

    def _refused_by(self, night: str) -> Mapping[Spot, str]:
        """Row -1 stands for a whole file."""
        if night not in self._refused:
            try:
                self._refused[night] = {(file, row): why for file, row, why in self.tables.refused(night)}
            except ValueError as error:
                raise CannotBeHad(str(error)) from error
        return self._refused[night]


def _wanted(about: Iterable[Correction], nights: Sequence[str]) -> Iterator[tuple[str, set[Spot]]]:
    """Night by night, the newest first, what is to be looked for in it: what is said of no night in all of them."""
    by_night = defaultdict[str, set[Spot]](set)
    for each in about:
        by_night[each.night].add((each.file, each.row))
    anywhere = by_night.pop("", set())
    for night in sorted({*by_night, *(nights if anywhere else ())}, reverse=True):
        yield night, anywhere | by_night.get(night, set())
