"""What a model met, as drift sees it: the table of a night, and a day of the service's log, by version.

Here: from rows to arrays, and of many rows as many as are compared. Not here: comparing (`ml/drift.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.drift import MOST_COMPARED
from mnist_pipeline.ml.pixels import PIXELS
from mnist_pipeline.ml.reference import Sample
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    import pyarrow as pa

CHAMPION = "champion"
LOGGED = ["model_version", "role", "class_names", "probabilities", *PIXELS]
SHARE = "p_"  # how the columns of a night's probabilities begin


@dataclass(frozen=True)
class Met:
    """What one version met. images: how many there were; sample: of more than 5,000 that many, drawn at random."""

    version: str
    images: int
    sample: Sample


def of_night(path: Path) -> list[Met]:
    """From a night's Parquet file; a table from before pixel statistics were kept has none."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        rows, names = file.metadata.num_rows, file.schema_arrow.names
        shares = [name for name in names if name.startswith(SHARE)]
        kept = [name for name in PIXELS if name in names]
        chosen = _chosen(rows)
        parts = list(_rows(file, chosen, ["model_version", *shares, *kept]))
    return [
        Met(version, round(len(part) * rows / len(chosen)), Sample(_columns(part, kept), _matrix(part, shares)))
        for version, part in _by_version(parts)
    ]


def of_service(traffic: Traffic, since: datetime, until: datetime) -> list[Met]:
    """What production answered in this time, finished drawings and all. Raises StoreUnavailable."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = traffic.rows(since, until, LOGGED)
    table = table.filter(pc.equal(table["role"], pa.scalar(CHAMPION)))
    found = []
    for version, part in _by_version([table]):
        drawn = part.take(pa.array(_chosen(len(part))))
        shares = np.stack(drawn["probabilities"].to_numpy()).astype(np.float32)
        kept = [name for name in PIXELS if not drawn[name].null_count]  # null on a day that began before they were kept
        found.append(Met(version, len(part), Sample(_columns(drawn, kept), shares)))
    return found


def _chosen(rows: int) -> np.ndarray:
    """Row numbers, ascending; the same ones for the same number of rows."""
    if rows <= MOST_COMPARED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, MOST_COMPARED, replace=False))


def _rows(file: Any, chosen: np.ndarray, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Row group by row group, so that memory does not grow with the night."""
    import pyarrow as pa

    begin = 0
    for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        inside = chosen[(chosen >= begin) & (chosen < end)] - begin
        if len(inside):
            yield file.read_row_group(group, columns=list(columns)).take(pa.array(inside))
        begin = end


def _by_version(parts: Sequence[pa.Table]) -> list[tuple[str, pa.Table]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not parts:
        return []
    table = pa.concat_tables(parts)
    versions = pc.cast(table["model_version"], pa.string())
    return [(each, table.filter(pc.equal(versions, each))) for each in sorted(pc.unique(versions).to_pylist())]


def _columns(table: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy().astype(np.float32) for name in names}


def _matrix(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    return np.stack([table[name].to_numpy().astype(np.float32) for name in names], 1)
