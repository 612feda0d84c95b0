"""The tables of a night, put together from its parts one at a time: predictions, quarantine, and a manifest of both.

The bytes depend on the parts and on nothing else, so on no engine. Not here: how a part is made (`parts.py`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_pipeline.inbox.parts import NO_DIGIT, PartCard, read_card, read_table
from mnist_pipeline.inbox.scoring import QUARANTINE, REPEATED, as_text, refused
from mnist_pipeline.inbox.shards import Shard, sha256_if_readable
from mnist_pipeline.inbox.work import Done, Work
from mnist_pipeline.storage.sealed import canonical, sha256
from mnist_pipeline.storage.shelves import Shelf

REASONS_KEPT = 10


@dataclass
class Tally:
    """What a night came to, counted while it is written: it does not grow with the night.

    sha256: of the file of predictions, once it is whole; manifest: of the manifest. uncertain: images whose set has
    several classes. found: of so many shards, those that an earlier run had scored.
    """

    sha256: str = ""
    manifest: str = ""
    predictions: int = 0
    quarantined: int = 0
    uncertain: int = 0
    shards: int = 0
    found: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    confidence: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, card: PartCard) -> None:
        """Count one part."""
        self.predictions += card.rows
        self.uncertain += card.uncertain
        self.labels.update(card.labels)
        self.confidence += card.confidence

    def refuse(self, rows: Sequence[Sequence[str]]) -> None:
        """Count what could not be read; the first ten reasons are kept."""
        self.quarantined += len(rows)
        for file, _, reason in rows[: max(0, REASONS_KEPT - len(self.reasons))]:
            self.reasons[file] = reason

    @property
    def mean_confidence(self) -> float | None:
        """Over the images that show a digit; None where none does."""
        digits = self.predictions - self.labels[NO_DIGIT]
        return self.confidence / digits if digits else None


@dataclass(frozen=True)
class Names:
    """Where the files of a night lie on the shelf of predictions."""

    predictions: str
    quarantine: str
    manifest: str

    @classmethod
    def of(cls, night: str) -> "Names":
        """As readers know them."""
        return cls(f"{night}.parquet", f"quarantine/{night}.parquet", f"manifests/{night}.json")


def write_tables(work: Work, shards: Sequence[Shard], done: Sequence[Done], schema: pa.Schema, shelf: Shelf) -> Tally:
    """All files of a night, a row group a shard; they replace those of an earlier run when all is written.

    Of a file with rows that could not be read to its end nothing is taken: it is quarantined under its name. Raises
    Missing for a part that is not there any more as it was told.
    """
    tally, names = Tally(shards=len(shards), found=sum(not each.new for each in done)), Names.of(work.night)
    with shelf.replacing(names.predictions) as good, shelf.replacing(names.quarantine) as bad:
        with (
            pq.ParquetWriter(good, schema, use_dictionary=REPEATED) as answers,
            pq.ParquetWriter(bad, QUARANTINE) as faults,
        ):
            listed = []
            for each, rows in _whole(shards, done):
                card = read_card(shelf, each) if each.name else None
                tally.refuse(rows := card.quarantine if card else rows)
                if rows:
                    faults.write_table(refused(rows))
                if card:
                    tally.add(card)
                    listed.append([each.name, card.sha256, card.rows])
                if card and card.rows:
                    answers.write_table(read_table(shelf, each, card))
        tally.sha256 = sha256_if_readable(good)
        manifest = _manifest(work, tally, sha256_if_readable(bad), listed)
    shelf.put(names.manifest, manifest)
    tally.manifest = sha256(manifest)
    return tally


def _whole(shards: Sequence[Shard], done: Sequence[Done]) -> Iterator[tuple[Done, list[list[str]]]]:
    """What came of each shard, and what is to be quarantined beside its part: a broken file once, and no part of it."""
    faults = {shard.files: each.fault for shard, each in zip(shards, done, strict=True) if each.fault}
    for shard, each in zip(shards, done, strict=True):
        if shard.files not in faults:
            yield each, []
        elif shard.begin == 0:
            yield Done(each.index), [[as_text(file), shard.sha256, faults[shard.files]] for file in shard.files]


def _manifest(work: Work, tally: Tally, quarantine: str, parts: Sequence[Sequence[Any]]) -> bytes:
    """What the night is made of, in few enough words for a billion images; equal for equal tables."""
    return canonical(
        {
            "night": work.night,
            "model_version": work.model.version,
            "decision": work.model.decision,
            "made_with": work.made_with,
            "predictions": {"sha256": tally.sha256, "rows": tally.predictions},
            "quarantine": {"sha256": quarantine, "rows": tally.quarantined},
            "parts": [dict(zip(("name", "sha256", "rows"), part, strict=True)) for part in parts],
        }
    )
