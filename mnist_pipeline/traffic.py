"""What the service has answered: what a row of its prediction log says, and reading these back with the feedback.

For reports on drift and on competing models. Written by `service/prediction_log.py` and `service/feedback.py`; nothing
is changed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mnist_pipeline.storage.shelves import Missing, Shelf

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

DRAFT = "draft"  # the door of drawings while the pen is down: on their way to what will be asked


REPEATING = ["door", "role", "model_version", "label", "class_names"]  # for the others a dictionary is built in vain
SCHEMA = {
    "time": "when it was answered",
    "request_id": "which request",
    "index": "which of its images",
    "door": "predict, draft (a drawing while the pen is down), infer, or invocations",
    "role": "champion, challenger or shadow",
    "model_version": "who answered",
    "decision": "the newest at that time",
    "label": "the answer",
    "confidence": "its probability",
    "probabilities": "of every class",
    "class_names": "the classes in that order",
    "ink": "mean of the pixels the network saw, 0 to 255",
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
        "probabilities": pa.list_(pa.float32()),
        "class_names": pa.list_(pa.string()),
        "ink": pa.float32(),
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
        parts = [each for name in self._between(since, until) if (each := self._part(name, wanted)) is not None]
        if not parts:
            return pa.table({name: pa.array([], types()[name]) for name in columns})
        table = pa.concat_tables(parts, promote_options="permissive")
        kept = pc.and_(pc.greater_equal(table["time"], since), pc.less(table["time"], until))
        if not drafts:
            kept = pc.and_(kept, pc.not_equal(table["door"], DRAFT))
        return table.filter(kept).sort_by("time").select(list(columns))

    def answers_to(self, requests: Collection[str], columns: Sequence[str], days: int = 0) -> Iterator[dict[str, Any]]:
        """The rows of these requests, drafts and shadows too, the newest day first, until all are found.

        columns: with request_id. days: only the newest so many, 0: all. Parts without such a request are read in that
        one column. Raises StoreUnavailable.
        """
        import pyarrow.compute as pc

        missing = set(requests)
        for day in self.days()[-days:][::-1]:
            chosen = pc.field("request_id").isin(list(missing))
            for name in self.log.list(f"{day}/") if missing else ():
                part = self._part(name, columns, chosen) if name.endswith(".parquet") else None
                yield from part.to_pylist() if part is not None else ()
                missing -= set(part["request_id"].to_pylist()) if part is not None else set()

    def labels(self) -> dict[str, str]:
        """Request -> what it was, as people said; of several answers the newest. Raises StoreUnavailable."""
        said = sorted(self.records(), key=lambda record: str(record["time"]))
        return {str(each["request_id"]): str(each["label"]) for each in said if each.get("request_id")}

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record of feedback: `label`, `image` (its name on the shelf), `time`, `request_id`, `model_version`."""
        for name in self.feedback.list("records/"):
            try:
                record = json.loads(self.feedback.get(name))
                yield {"label": record["label"], "image": record["image"], "time": record["time"], **record}
            except Missing:  # somebody has just removed it
                continue
            except (ValueError, KeyError, TypeError) as error:
                self.fault(f"{self.feedback.where(name)} is no record of feedback and is left out: {error!r}")

    def _between(self, since: datetime, until: datetime) -> list[str]:
        """Parts of these days. A part is named after the day it was begun on, and ends at most minutes later."""
        first, last = (each.astimezone(timezone.utc).strftime("%Y-%m-%d") for each in (since, until))
        before = max((day for day in self.days() if day < first), default=first)
        days = [day for day in self.days() if before <= day <= last]
        return [name for day in days for name in self.log.list(f"{day}/") if name.endswith(".parquet")]

    def _part(self, name: str, columns: Sequence[str], chosen: pc.Expression | None = None) -> pa.Table | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.log.local(name) as path:
                return pq.read_table(path, columns=list(columns), filters=chosen)
        except Missing:  # somebody has just removed it
            return None
        except (pa.ArrowException, OSError) as error:
            self.fault(f"{self.log.where(name)} cannot be read and is left out: {error}")
            return None
