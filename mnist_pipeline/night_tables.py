"""What the nights have answered: their tables of predictions, read back. Written by `inbox/scoring.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnist_pipeline.storage.shelves import Missing, Shelf

if TYPE_CHECKING:
    import pyarrow.compute as pc

_TABLE = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet")
_OF_ROW = re.compile(r"row (\d+): (.*)", re.DOTALL)  # as `inbox/scoring.py` writes why a row was refused
FACTS = ("file", "row", "sha256", "label", "confidence", "model_version", "decision")


@dataclass(frozen=True)
class NightTables:
    """The shelf of predictions: `<night>.parquet`, and `quarantine/<night>.parquet`."""

    shelf: Shelf

    def nights(self) -> list[str]:
        """Those that there is a table of, the newest first. Raises StoreUnavailable."""
        found = (_TABLE.fullmatch(name) for name in self.shelf.list(""))
        return sorted((match[1] for match in found if match), reverse=True)

    def where(self, night: str) -> str:
        """For people."""
        return self.shelf.where(f"{night}.parquet")

    def manifest(self, night: str) -> dict[str, Any] | None:
        """What the night was made of; None for one from before there were manifests. Raises ValueError."""
        name = f"manifests/{night}.json"
        try:
            found: dict[str, Any] = json.loads(self.shelf.get(name))
        except Missing:
            return None
        except ValueError as error:
            raise ValueError(f"{self.shelf.where(name)} cannot be read: {error}") from error
        return found

    def of_files(self, night: str, files: Collection[str]) -> list[dict[str, Any]]:
        """What was said of the images in these files. None of a night without a table, or one that is damaged."""
        import pyarrow.compute as pc

        return self._rows(night, pc.field("file").isin(list(files)))

    def of_rows(self, night: str, spots: Collection[tuple[str, int]]) -> list[dict[str, Any]]:
        """What was said of these rows of files. Memory grows with them, not with the files that they lie in."""
        import pyarrow.compute as pc

        files, rows = ({spot[i] for spot in spots} for i in (0, 1))
        chosen = pc.field("file").isin(list(files)) & pc.field("row").isin(list(rows))
        return [each for each in self._rows(night, chosen) if (each["file"], each["row"]) in spots]

    def refused(self, night: str) -> Iterator[tuple[str, int, str]]:
        """What could not be read: file, row and why; row -1 where it was the whole file. None without such a table."""
        for each in self._read(f"quarantine/{night}.parquet", ["file", "reason"]):
            of_row = _OF_ROW.fullmatch(each["reason"])
            yield (each["file"], int(of_row[1]), of_row[2]) if of_row else (each["file"], -1, each["reason"])

    def of_digest(self, night: str, sha256: str) -> list[dict[str, Any]]:
        """What was said of files whose digest begins so."""
        import pyarrow.compute as pc

        return self._rows(night, pc.starts_with(pc.field("sha256"), sha256))

    def counts(self, night: str, versions: Collection[str]) -> int:
        """How many of its answers these versions gave: read from one column."""
        import pyarrow.compute as pc

        return len(self._rows(night, pc.field("model_version").isin(list(versions)), ["decision"]))

    def _rows(self, night: str, chosen: pc.Expression, columns: Sequence[str] = FACTS) -> list[dict[str, Any]]:
        """Raises StoreUnavailable, ValueError for a table that cannot be read."""
        return [{"night": night, **row} for row in self._read(f"{night}.parquet", columns, chosen)]

    def _read(self, name: str, columns: Sequence[str], chosen: pc.Expression | None = None) -> list[dict[str, Any]]:
        """Raises StoreUnavailable, ValueError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.shelf.local(name) as path:
                rows: list[dict[str, Any]] = pq.read_table(path, columns=list(columns), filters=chosen).to_pylist()
        except Missing:
            return []
        except pa.ArrowException as error:
            raise ValueError(f"{self.shelf.where(name)} cannot be read: {error}") from error
        return rows
