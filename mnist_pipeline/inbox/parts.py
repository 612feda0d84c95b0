"""Parts: one file of predictions a shard, with a card that says what is in it, on the shelf where the night will lie.

A part is named after all that it is made of: the shard and the digests of its files, model, decision and code. So one
that is there need not be made again, and two workers that make the same one write the same bytes. Its card is
written last: a part without a card does not exist.
Not here: which worker makes which (`engines.py`), and how parts become the night's tables (`tables.py`).
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_pipeline.inbox.bucket import inbox_at
from mnist_pipeline.inbox.mailbox import Opened
from mnist_pipeline.inbox.scoring import REPEATED, Scored, Scorer, as_text, score
from mnist_pipeline.inbox.shards import Fetched, Shard, sha256_if_readable
from mnist_pipeline.inbox.work import Done, EngineFailed, Work, made_with
from mnist_pipeline.ml.array_files import BadArray
from mnist_pipeline.ml.image_rows import RowReader, identity_of
from mnist_pipeline.storage.locations import place_at, shelf_at
from mnist_pipeline.storage.sealed import seal, sha256, unseal
from mnist_pipeline.storage.shelves import Missing, Shelf

ABSTAINED = "abstained"  # among the labels of a night
NO_DIGIT = "no digit"
PART_SUFFIXES = (".parquet", ".json")  # predictions and card


@dataclass(frozen=True)
class PartCard:
    """What is known about a part. sha256: of its Parquet file; quarantine: file, sha256 and reason of each.

    uncertain: images whose set has several classes; confidence: the sum over the images that show a digit.
    """

    sha256: str
    rows: int
    labels: dict[str, int]
    confidence: float
    uncertain: int
    quarantine: list[list[str]]

    @classmethod
    def of(cls, scored: Scored, digest: str) -> "PartCard":
        """What one shard came to."""
        table = scored.predictions
        several = pc.greater(pc.list_value_length(table["prediction_set"]), 1)
        return cls(
            digest,
            len(table),
            _labels(table),
            pc.sum(table["confidence"]).as_py() or 0.0,
            pc.sum(several).as_py() or 0,
            [[row["file"], row["sha256"], row["reason"]] for row in scored.quarantine.to_pylist()],
        )


class Worker:
    """Makes the parts of one night, one after the other. fetched: the night's files, as this machine has them."""

    def __init__(self, work: Work, scorer: Scorer, fetched: Fetched) -> None:
        self._work, self._scorer, self._fetched = work, scorer, fetched
        self._shelf = shelf_at(work.predictions, work.endpoint)
        self._reader, self._known = RowReader(), ""

    @classmethod
    def open(cls, work: Work, threads: int = 0, fetched: Fetched | None = None) -> "Worker":
        """With a predictor of its own. Raises EngineFailed where other code is installed than whoever planned has."""
        if work.made_with != made_with():
            raise EngineFailed(
                "other code or other libraries are installed here than where the run was started: start the nodes of "
                "the cluster anew, with the image or packages of the run"
            )
        return cls(work, work.model.load(threads), fetched or fetched_of(work))

    def part(self, index: int, shard: Shard) -> Done:
        """Make the part of a shard, unless it is there. What cannot be read is told, and stops nothing."""
        if shard.fault:
            return Done(index, fault=shard.fault)
        try:
            opened = self._fetched.files(shard.files)
            name = self._name(shard, opened)
            found = card_digest(self._shelf, name)
            return Done(index, name, found or self._write(name, self._scored(opened, shard)), new=not found)
        except BadArray as error:
            return Done(index, fault=str(error))

    def close(self) -> None:
        """Let go of the file that was read last."""
        self._reader.close()

    def _scored(self, opened: Opened, shard: Shard) -> Scored:
        if not shard.has_rows:
            return score(opened, shard, self._scorer)
        path = opened.folder / opened.files[0]
        self._check(path, shard)
        scored = score(opened, shard, self._scorer, self._reader.read)
        self._check(path, shard)
        return scored

    def _check(self, path: Path, shard: Shard) -> None:
        """Raises BadArray for a file that is not the one that was planned, as its rows bear that one's sha256.

        Another identity may be a copy, as from a bucket: that is read through, once.
        """
        identity = identity_of(path)
        if identity in (shard.identity, self._known):
            return
        if sha256_if_readable(path) != shard.sha256:
            raise BadArray("it was written anew while its night was scored: drop it again, whole")
        self._known = identity

    def _name(self, shard: Shard, opened: Opened) -> str:
        sums = [shard.sha256] if shard.has_rows else [sha256_if_readable(opened.folder / file) for file in opened.files]
        scorer = self._scorer
        by = [scorer.version, scorer.digest, scorer.decision, scorer.abstain, scorer.preparation, self._work.made_with]
        made_of = [by, [shard.begin, shard.end], [as_text(file) for file in shard.files], sums]
        return f"{self._work.parts}-{sha256(json.dumps(made_of).encode())[:40]}"

    def _write(self, name: str, scored: Scored) -> str:
        """The sha256 of its card."""
        with self._shelf.replacing(table_of(name)) as path:
            pq.write_table(scored.predictions, path, use_dictionary=REPEATED)
            digest = sha256_if_readable(path)
        card = seal(PartCard.of(scored, digest))
        self._shelf.put(card_of(name), card)
        return sha256(card)


def fetched_of(work: Work) -> Fetched:
    """The night's files, as they are got at from this machine."""
    return Fetched(inbox_at(place_at(work.inbox, work.endpoint), 0), work.night)


def card_digest(shelf: Shelf, name: str) -> str:
    """The sha256 of the card of a part that is whole; "" for one that is not there, or is damaged."""
    try:
        data = shelf.get(card_of(name))
        card = unseal(PartCard, data)
        with shelf.local(table_of(name)) as path:
            return sha256(data) if sha256_if_readable(path) == card.sha256 else ""
    except (Missing, ValueError):
        return ""


def read_card(shelf: Shelf, done: Done) -> PartCard:
    """The card of a part. Raises Missing where it is not there as it was told, damaged or replaced."""
    data = shelf.get(card_of(done.name))
    if sha256(data) != done.card:
        raise Missing(shelf.where(card_of(done.name)))
    return unseal(PartCard, data)


def read_table(shelf: Shelf, done: Done, card: PartCard) -> pa.Table:
    """The predictions of a part. Raises Missing where they are not there as its card says."""
    with shelf.local(table_of(done.name)) as path:
        data = path.read_bytes()
    if sha256(data) != card.sha256:
        raise Missing(shelf.where(table_of(done.name)))
    return pq.ParquetFile(pa.BufferReader(data)).read()


def table_of(name: str) -> str:
    """Where the predictions of a part lie."""
    return name + PART_SUFFIXES[0]


def card_of(name: str) -> str:
    """Where its card lies."""
    return name + PART_SUFFIXES[1]


def _labels(table: pa.Table) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in pc.value_counts(table["label"]).to_pylist():
        found[each["values"] or ABSTAINED] += each["counts"]
    blank = table["confidence"].null_count
    found.update({NO_DIGIT: blank, ABSTAINED: -blank})
    return {label: count for label, count in sorted(found.items()) if count > 0}
