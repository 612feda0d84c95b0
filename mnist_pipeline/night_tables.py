"""What the nights have answered: their tables of predictions, read back. Written by `inbox/scoring.py`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnist_pipeline.storage.shelves import Missing, Shelf

if TYPE_CHECKING:
    import pyarrow.compute as pc

_TABLE = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet")
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

    def of_files(self, night: str, files: Collection[str]) -> list[dict[str, Any]]:
        """What was said of the images in these files. None of a night without a table, or one that is damaged."""
        import pyarrow.compute as pc

        return self._rows(night, pc.field("file").isin(list(files)))

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
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.shelf.local(f"{night}.parquet") as path:
                rows: list[dict[str, Any]] = pq.read_table(path, columns=list(columns), filters=chosen).to_pylist()
        except Missing:
            return []
        except pa.ArrowException as error:
            raise ValueError(f"{self.where(night)} cannot be read: {error}") from error
        return [{"night": night, **row} for row in rows]
