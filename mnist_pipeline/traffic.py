"""What the service has answered: what a row of its prediction log says, and reading these back with the feedback.

For reports on drift and on competing models. Written by `service/prediction_log.py` and `service/feedback.py`; nothing
is changed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from mnist_pipeline.storage.shelves import Missing, Shelf

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

AT_ONCE = 16  # files that are read
Found = TypeVar("Found")
DRAFT = "draft"  # the door of drawings while the pen is down: on their way to what will be asked


REPEATING = ["door", "role", "model_version", "label", "class_names"]  # for the others a dictionary is built in vain
SCHEMA = {
    "time": "when it was answered",
    "request_id": "which request",
    "index": "which of the images sent, those without a digit too",
    "door": "predict, draft (a drawing while the pen is down), infer, or invocations",
    "role": "champion, challenger or shadow",
    "model_version": "who answered",
    "decision": "the newest at that time",
    "label": "the most probable class, which is the answer unless it abstained",
    "confidence": "its probability",
    "abstained": "whether no label was given, since several classes were possible (MNIST_ABSTAIN)",
    "probabilities": "of every class",
    "class_names": "the classes in that order",
    "ink": "mean of the pixels the network saw, 0 to 255",
    "contrast": "their standard deviation",
    "sharpness": "mean difference of those beside each other",
    "slant": "by how many pixels ink leans to the left for each row down",
    "sha256": "of those pixels",
    "image": "those pixels, where MNIST_KEEP_IMAGES=yes",
}
"""Column -> what it says."""


def types() -> dict[str, Any]:
    """Of the columns, for pyarrow."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    return {
        "time": pa.timestamp("us", tz="UTC"),
        "request_id": pa.string(),
        "index": pa.int32(),
        "door": text,
        "role": text,
        "model_version": text,
        "decision": pa.int64(),
        "label": text,
        "confidence": pa.float32(),
        "abstained": pa.bool_(),
        "probabilities": pa.list_(pa.float32()),
        "class_names": pa.list_(pa.string()),
        **dict.fromkeys(("ink", "contrast", "sharpness", "slant"), pa.float32()),
        "sha256": pa.string(),
        "image": pa.binary(),
    }


@dataclass(frozen=True)
class Traffic:
    """Both shelves. fault: is told of each part or record that cannot be read and is left out."""

    log: Shelf
    feedback: Shelf
    fault: Callable[[str], object] = lambda text: None

    def days(self) -> list[str]:
        """The days (UTC, YYYY-MM-DD) that there are rows of, ascending."""
        return sorted({name.partition("/")[0] for name in self.log.list("")})

    def rows(self, since: datetime, until: datetime, columns: Sequence[str], *, drafts: bool = False) -> pa.Table:
        """The rows answered from `since` to before `until`, in the order of their answers. Raises StoreUnavailable.

        since, until: with a timezone. columns: of the log's schema; the table has these. drafts: whether answers to
        drawings that were not finished count too.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = list(dict.fromkeys([*columns, "time", "door"]))
        found = _at_once(lambda name: self._looked_into(name, wanted), self._between(since, until))
        parts = []
        for part, why in found:
            self._tell(why)
            parts += [part] if part is not None else []
        if not parts:
            return pa.table({name: pa.array([], types()[name]) for name in columns})
        table = pa.concat_tables(parts, promote_options="permissive")
        kept = pc.and_(pc.greater_equal(table["time"], since), pc.less(table["time"], until))
        if not drafts:
            kept = pc.and_(kept, pc.not_equal(table["door"], DRAFT))
        return table.filter(kept).sort_by("time").select(list(columns))

    def looked_at(self, days: int) -> list[str]:
        """The newest so many days of the log, the newest first; 0: all of them."""
        return self.days()[-days:][::-1]

    def with_digest(self, sha256: str, columns: Sequence[str], days: int) -> Iterator[dict[str, Any]]:
        """Rows whose pixels have a digest that begins so, the newest day first, of the first day that has any."""
        import pyarrow.compute as pc

        for day in self.looked_at(days):
            found = list(self._chosen(day, columns, pc.starts_with(pc.field("sha256"), sha256)))
            yield from found
            if found:
                return

    def given_by(self, versions: Collection[str], days: int) -> dict[str, int]:
        """Day -> how many answers these versions gave that somebody got: no drafts, none in the shadow."""
        import pyarrow.compute as pc

        field = {name: pc.field(name).cast("string") for name in ("model_version", "role", "door")}
        got = (field["role"] != "shadow") & (field["door"] != DRAFT)
        chosen = field["model_version"].isin(list(versions)) & got
        return {day: len(list(self._chosen(day, ["index"], chosen))) for day in self.looked_at(days)}

    def served_under(self, parts: int) -> Iterator[tuple[str, int, str, datetime]]:
        """Of the newest so many parts of the log: which part, a decision, the version that production was by it, and
        when that first answered there."""
        names = [each for each in self.log.list("") if each.endswith(".parquet")]
        if not names:
            return
        import pyarrow.compute as pc

        of_production = pc.field("role").cast("string") == "champion"
        for name in names[-parts:]:
            part = self._part(name, ["decision", "model_version", "time"], of_production)
            first: dict[tuple[int, str], datetime] = {}
            for row in part.to_pylist() if part is not None else ():
                key = row["decision"], row["model_version"]
                first[key] = min(first.get(key, row["time"]), row["time"])
            for (decision, version), time in sorted(first.items()):
                yield self.log.where(name), decision, version, time

    def _chosen(self, day: str, columns: Sequence[str], chosen: pc.Expression) -> Iterator[dict[str, Any]]:
        """Of each part only the columns that are asked for and chosen by are read."""
        for name in self.log.list(f"{day}/"):
            part = self._part(name, columns, chosen) if name.endswith(".parquet") else None
            yield from part.to_pylist() if part is not None else ()

    def answers_to(self, requests: Collection[str], columns: Sequence[str], days: int = 0) -> Iterator[dict[str, Any]]:
        """The rows of these requests, drafts and shadows too, the newest day first, until all are found.

        columns: with request_id. days: only the newest so many, 0: all. Parts without such a request are read in that
        one column. Raises StoreUnavailable.
        """
        import pyarrow.compute as pc

        missing = set(requests)
        for day in self.looked_at(days):
            if not missing:
                return
            for row in self._chosen(day, columns, pc.field("request_id").isin(list(missing))):
                missing.discard(row["request_id"])
                yield row

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record of feedback: `label`, `image` (its name on the shelf), `time`, `request_id`. In old
        ones `model_version` is who was in production, and need not be who had answered."""
        for record, why in _at_once(self._record, self.feedback.list("records/")):
            self._tell(why)
            if record is not None:
                yield record

    def _record(self, name: str) -> tuple[dict[str, Any] | None, str]:
        """One record, or None and why; "" where somebody has just removed it."""
        try:
            record = json.loads(self.feedback.get(name))
            return {"label": record["label"], "image": record["image"], "time": record["time"], **record}, ""
        except Missing:
            return None, ""
        except (ValueError, KeyError, TypeError) as error:
            return None, f"{self.feedback.where(name)} is no record of feedback and is left out: {error!r}"

    def _tell(self, why: str) -> None:
        if why:
            self.fault(why)

    def _between(self, since: datetime, until: datetime) -> list[str]:
        """Parts of these days. A part is named after the day it was begun on, and ends at most minutes later."""
        first, last = (each.astimezone(timezone.utc).strftime("%Y-%m-%d") for each in (since, until))
        before = max((day for day in self.days() if day < first), default=first)
        days = [day for day in self.days() if before <= day <= last]
        return [name for day in days for name in self.log.list(f"{day}/") if name.endswith(".parquet")]

    def _part(self, name: str, columns: Sequence[str], chosen: pc.Expression | None = None) -> pa.Table | None:
        table, why = self._looked_into(name, columns, chosen)
        self._tell(why)
        return table

    def _looked_into(
        self, name: str, columns: Sequence[str], chosen: pc.Expression | None = None
    ) -> tuple[pa.Table | None, str]:
        """A part of the log, or None and why; "" where somebody has just removed it."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.log.local(name) as path:
                there = set(pq.read_schema(path).names)
                table = pq.read_table(path, columns=[each for each in columns if each in there], filters=chosen)
                return _filled(table, [each for each in columns if each not in there]), ""
        except Missing:
            return None, ""
        except (pa.ArrowException, OSError) as error:
            return None, f"{self.log.where(name)} cannot be read and is left out: {error}"


def _at_once(read: Callable[[str], Found], names: Sequence[str]) -> Iterator[Found]:
    """In the order of the names. A bucket takes 20 ms for each of them, and the sensor of contests, which reads all
    records and the log since the contest began, has a minute."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(read, names)


def _filled(table: pa.Table, missing: Sequence[str]) -> pa.Table:
    """With nulls in the columns that a part from before they were kept does not have."""
    import pyarrow as pa

    for name in missing:
        table = table.append_column(name, pa.nulls(len(table), types()[name]))
    return table
