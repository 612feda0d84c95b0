"""Who competes by the ledger, and what both have answered since: from rows of the prediction log to pairs.

Knows nothing of Dagster. Not here: what follows from the pairs (`ml/contest.py`), and the ledger itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ledger import Decision
from mnist_pipeline.store import ModelStore
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    from mnist_pipeline.ml.contest import Pairs

COLUMNS = ["time", "request_id", "index", "role", "model_version", "label", "confidence", "sha256"]
WATCHED = timedelta(days=7)  # after which the evidence against a promoted version begins anew: old merits fade
Row = dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """Two versions, and the decision that holds. began: the one since which they compete."""

    champion: str
    challenger: str
    newest: Decision
    began: Decision

    @property
    def watches(self) -> bool:
        """Whether the challenger is the predecessor of a promoted champion."""
        return self.newest.watches

    def since(self, now: datetime) -> datetime:
        """From when on answers count. A promoted version is watched by the week, each a test of its own."""
        begun = datetime.fromisoformat(self.began.time)
        return begun + (now - begun) // WATCHED * WATCHED if self.watches and now > begun else begun


def contest_in(store: ModelStore) -> Contest | None:
    """The one that goes on; None where nobody competes. Raises CorruptLedger."""
    newest = store.current()
    if newest is None or newest.serves is None or newest.challenger is None:
        return None
    return Contest(newest.serves, newest.challenger, newest, store.ledger.read(newest.contest))


def gate_passed(store: ModelStore, contest: Contest) -> int:
    """The newest decision in which the gate found this challenger fit to take this champion's place; 0 for none."""
    numbers = [
        each.number
        for each in store.decisions()
        if each.candidate == contest.challenger
        and each.evidence.get("against") == contest.champion
        and each.evidence.get("passed") is True
    ]
    return max(numbers, default=0)


def pairs_of(contest: Contest, traffic: Traffic, now: datetime, *, only_corrections: bool = True) -> Pairs:
    """What both have answered. only_corrections: people tell what was wrong and are silent about what was right; False
    where labels are of images that were drawn blindly. Raises StoreUnavailable.

    An image that is asked again counts once: a monitor's probe would decide the contest. A label counts for requests
    with one image. Where the two answer different requests, each of the challenger's is paired with the champion's
    last one before it.
    """
    rows = traffic.rows(contest.since(now), now + timedelta(days=1), COLUMNS).to_pylist()
    of_these = [row for row in rows if row["model_version"] in (contest.champion, contest.challenger)]
    labels = _single(traffic.labels(), of_these)
    shadows = {_image(row): row for row in of_these if row["role"] == "shadow"}
    if shadows:
        shown = (row for row in of_these if row["role"] == "champion" and row["model_version"] == contest.champion)
        both = [(row, shadows[_image(row)]) for row in shown if _image(row) in shadows]
        return _on_same_images(_once(both, labels), labels, only_corrections)
    return _on_different_images(list(_beside(of_these, contest)), labels, only_corrections)


def _image(row: Row) -> tuple[str, int, str]:
    """Clients may choose a request's id, so the pixels are part of it."""
    return row["request_id"], row["index"], row["sha256"]


def _single(labels: Mapping[str, str], rows: Iterable[Row]) -> dict[str, str]:
    several = {row["request_id"] for row in rows if row["index"]}
    return {request: label for request, label in labels.items() if request not in several}


def _once(both: list[tuple[Row, Row]], labels: Mapping[str, str]) -> list[tuple[Row, Row]]:
    """The first pair of each image, with the request of the one that has a label, if any has."""
    found: dict[str, tuple[Row, Row]] = {}
    for shown, shadow in both:
        first = found.setdefault(shown["sha256"], (shown, shadow))
        if shown["request_id"] in labels and first[0]["request_id"] not in labels:
            found[shown["sha256"]] = ({**first[0], "request_id": shown["request_id"]}, first[1])
    return list(found.values())


def _beside(rows: list[Row], contest: Contest) -> Iterator[tuple[Row, Row]]:
    waiting: list[Row] = []
    for row in rows:
        if row["role"] == "champion" and row["model_version"] == contest.champion:
            waiting.append(row)
        elif row["role"] == "challenger" and row["model_version"] == contest.challenger and waiting:
            yield waiting.pop(), row


def _on_same_images(both: list[tuple[Row, Row]], labels: dict[str, str], only_corrections: bool) -> Pairs:
    import numpy as np

    from mnist_pipeline.ml.contest import Pairs

    wins, losses = [], {}
    for shown, shadow in both:
        truth = labels.get(shown["request_id"])
        if shown["label"] == shadow["label"]:
            continue
        if truth is None:
            wins += [False] * only_corrections
        elif truth in (shown["label"], shadow["label"]):
            wins.append(truth == shadow["label"])
            losses[shown["request_id"]] = truth == shown["label"]
    arrived = [losses[request] for request in labels if request in losses]
    unlike = np.array([shown["label"] != shadow["label"] for shown, shadow in both], bool)
    labelled = sum(shown["request_id"] in labels for shown, _ in both)
    return Pairs(unlike, _surer(both), np.array(wins, bool), np.array(arrived, bool), labelled)


def _on_different_images(both: list[tuple[Row, Row]], labels: dict[str, str], only_corrections: bool) -> Pairs:
    """Silence counts for both alike, since the answers of both were shown."""
    import numpy as np

    from mnist_pipeline.ml.contest import Pairs

    right = [[labels.get(row["request_id"], row["label"]) == row["label"] for row in pair] for pair in both]
    known = [only_corrections or all(row["request_id"] in labels for row in pair) for pair in both]
    wins = np.array([mine for (his, mine), told in zip(right, known, strict=True) if told and his != mine], bool)
    labelled = sum(any(row["request_id"] in labels for row in pair) for pair in both)
    return replace(Pairs(surer=_surer(both)), wins=wins, losses=~wins, labels=labelled)


def _surer(both: list[tuple[Row, Row]]) -> Any:
    import numpy as np

    return np.array([float(theirs["confidence"]) - float(ours["confidence"]) for ours, theirs in both], float)


def now() -> datetime:
    """In UTC."""
    return datetime.now(timezone.utc)
