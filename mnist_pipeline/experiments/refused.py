"""Records that MLflow will never take: put aside in the spool with its reason, so that what is behind them can go on.

Here: how they are put aside, told, sent again and dropped.
Not here: which answers mean that (`answers.py`), and who is told (`delivery.py`).

    refused/<run id>/<ordered>.json     the record, and why it was refused
    refused/<run id>/<ordered>.bin      the bytes of an artifact
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mnist_pipeline.experiments.spool import Record, Spool, beside
from mnist_pipeline.storage.shelves import Missing

SHOWN = 3
REASON = "refused_because"
AGAIN, DROP = (f"python -m mnist_pipeline.experiments {word}" for word in ("retry", "drop"))


@dataclass(frozen=True)
class Refused:
    """What was put aside in a spool."""

    spool: Spool

    def add(self, name: str, record: Record, data: bytes, reason: str) -> None:
        """Put aside a record that waits under `name`; there first, so that a kill in between loses nothing."""
        aside = name.replace("runs/", "refused/", 1)
        if record.file:
            self.spool.shelf.put(beside(aside, record.file), data)
        self.spool.shelf.put(aside, json.dumps({**asdict(record), REASON: reason}).encode())
        self.spool.done(name, record)

    def names(self) -> list[str]:
        """The names of all records that were put aside, in order within a run."""
        return [name for name in self.spool.shelf.list("refused/") if name.endswith(".json")]

    def told(self) -> str:
        """How many there are, where some of them lie and why, and what can be done; "" when there are none."""
        names = self.names()
        if not names:
            return ""
        some = [f"{self.spool.shelf.where(name)}: {found[REASON]}" for name, found in self._found(names[:SHOWN])]
        more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
        cure = f"When the cause is gone, `{AGAIN}` sends them again; `{DROP}` gives them up."
        return "\n".join([f"MLflow has refused {len(names)} records, which are kept:", *some, *more, cure])

    def retry(self) -> int:
        """Have all of them sent again by whoever sends next; how many."""
        found = list(self._found(self.names()))
        for aside, values in found:
            values.pop(REASON)
            record, name = Record(**values), aside.replace("refused/", "runs/", 1)
            data = self.spool.shelf.get(beside(aside, record.file)) if record.file else None
            self.spool.add(name.split("/")[1], name.split("/")[2], record, data)
            self._forget(aside, record.file)
        return len(found)

    def drop(self) -> int:
        """Give all of them up; how many."""
        found = list(self._found(self.names()))
        for aside, values in found:
            self._forget(aside, values["file"])
        return len(found)

    def _found(self, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            try:
                yield name, json.loads(self.spool.shelf.get(name))
            except Missing:  # somebody has dropped it meanwhile
                continue

    def _forget(self, aside: str, file: str) -> None:
        self.spool.shelf.delete(aside)
        if file:
            self.spool.shelf.delete(beside(aside, file))
