"""Who competes by the ledger, and what both have answered since: from rows of the prediction log to pairs.

Knows nothing of Dagster. Not here: what follows from the pairs (`ml/contest.py`), and the ledger itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mnist_pipeline.corrections import Corrections
from mnist_pipeline.ledger import Decision
from mnist_pipeline.store import ModelStore
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    import numpy as np

    from mnist_pipeline.ml.contest import Pairs

COLUMNS = ["time", "request_id", "index", "role", "model_version", "label", "confidence", "sha256"]
WATCHED = timedelta(days=7)  # after which the evidence against a promoted version begins anew: old merits fade
Row = dict[str, Any]
Pair = tuple[Row, Row]  # the champion's first
Said = Mapping[tuple[str, int], str]  # request and index -> what people said it was


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

    def week(self, now: datetime) -> int:
        """Which week of the contest this is, from 1."""
        return 1 + max(0, (now - datetime.fromisoformat(self.began.time)) // WATCHED)

    def since(self, now: datetime) -> datetime:
        """From when on answers count. A promoted version is watched by the week, each a test of its own."""
        begun = datetime.fromisoformat(self.began.time)
        return begun + (self.week(now) - 1) * WATCHED if self.watches else begun


def contest_in(store: ModelStore) -> Contest | None:
    """The one that goes on; None where nobody competes. Raises CorruptLedger."""
    return contest_by(store, store.current())


def contest_by(store: ModelStore, newest: Decision | None) -> Contest | None:
    """The one that went on while this decision was the newest."""
    if newest is None or newest.serves is None or newest.challenger is None:
        return None
    return Contest(newest.serves, newest.challenger, newest, store.ledger.read(newest.contest))


@dataclass(frozen=True)
class Gate:
    """What the gate has found of a challenger. expected: the share of test images on which only one of the two was
    right, so that they are bound to differ on as many of those that people ask."""

    passed: bool = False
    expected: float = 0.0


def gate_of(store: ModelStore, contest: Contest) -> Gate:
    """By the newest decision that found this challenger fit to take this champion's place."""
    found = [
        each.evidence
        for each in store.decisions()
        if each.candidate == contest.challenger
        and each.evidence.get("against") == contest.champion
        and each.evidence.get("passed") is True
    ]
    if not found:
        return Gate()
    compared = found[-1].get("comparison") or {"candidate_only": 0, "production_only": 0, "images": 0}
    return Gate(True, (compared["candidate_only"] + compared["production_only"]) / max(1, compared["images"]))


def pairs_of(contest: Contest, traffic: Traffic, now: datetime, *, only_corrections: bool = True) -> Pairs:
    """What both have answered. only_corrections: people tell what was wrong and are silent about what was right; False
    where labels are of images that were drawn blindly. Raises StoreUnavailable.

    An image that is asked again counts once: a monitor's probe would decide the contest. Where the challenger answers
    people too, each of these answers is paired with the champion's last one before it.
    """
    from mnist_pipeline.ml.contest import Pairs

    rows = traffic.rows(contest.since(now), now + timedelta(days=1), COLUMNS).to_pylist()
    shown = [row for row in rows if row["role"] == "champion" and row["model_version"] == contest.champion]
    theirs = [row for row in rows if row["model_version"] == contest.challenger]
    said = _said(traffic, (*shown, *theirs))
    both, beside = _on_same_images(shown, theirs, said), _on_different_images(shown, theirs, said)
    wins, losses = _who_was_right(both, said, only_corrections)
    labelled = {_answer(row) for pair in (*both, *beside) for row in pair} & said.keys()
    return Pairs(
        unlike=_bools(ours["label"] != his["label"] for ours, his in both),
        surer=_surer(both),
        wins=wins,
        losses=losses,
        beside=_who_was_right_beside(beside, said, only_corrections),
        labels=len(labelled),
    )


def _said(traffic: Traffic, rows: Iterable[Row]) -> Said:
    """From the page and from CSV files, in the order in which it was said; of several sayings the newest, and one in
    a file before one of the page. Who names no index speaks of a request with one image."""
    several = {row["request_id"] for row in rows if row["index"]}
    sayings = Corrections(traffic, traffic.fault).of_answers()
    return {
        (each.request_id, each.index or 0): each.label
        for each in sorted(sayings, key=lambda one: (one.origin != "page", one.time, one.where))
        if each.index is not None or each.request_id not in several
    }


def _answer(row: Row) -> tuple[str, int]:
    return row["request_id"], row["index"]


def _image(row: Row) -> tuple[str, int, str]:
    """Clients may choose a request's id, so the pixels are part of it."""
    return row["request_id"], row["index"], row["sha256"]


def _on_same_images(shown: Iterable[Row], theirs: Iterable[Row], said: Said) -> list[Pair]:
    """What the champion answered, and the challenger in the shadow."""
    shadows = {_image(row): row for row in theirs if row["role"] == "shadow"}
    return _once([(row, shadows[_image(row)]) for row in shown if _image(row) in shadows], said)


def _on_different_images(shown: Sequence[Row], theirs: Sequence[Row], said: Said) -> list[Pair]:
    """What each answered to people."""
    answered = [row for row in theirs if row["role"] == "challenger"]
    firsts = [pair[0] for rows in (shown, answered) for pair in _once([(row, row) for row in rows], said)]
    return list(_beside(sorted(firsts, key=lambda row: row["time"])))


def _once(pairs: Iterable[Pair], said: Said) -> list[Pair]:
    """The first pair of each image, with the request of the one that has a label, if any has."""
    found: dict[str, Pair] = {}
    for ours, his in pairs:
        first = found.setdefault(ours["sha256"], (ours, his))
        if _answer(ours) in said and _answer(first[0]) not in said:
            request, index = _answer(ours)
            found[ours["sha256"]] = ({**first[0], "request_id": request, "index": index}, first[1])
    return list(found.values())


def _beside(rows: Iterable[Row]) -> Iterator[Pair]:
    waiting: list[Row] = []
    for row in rows:
        if row["role"] == "champion":
            waiting.append(row)
        elif waiting:
            yield waiting.pop(), row


def _who_was_right(both: Iterable[Pair], said: Said, only_corrections: bool) -> tuple[np.ndarray, np.ndarray]:
    """wins and losses on the same images. Silence counts for the champion, whose answer was shown."""
    wins, losses = [], {}
    for shown, shadow in both:
        truth = said.get(_answer(shown))
        if shown["label"] == shadow["label"]:
            continue
        if truth is None:
            wins += [False] * only_corrections
        elif truth in (shown["label"], shadow["label"]):
            wins.append(truth == shadow["label"])
            losses[_answer(shown)] = truth == shown["label"]
    return _bools(wins), _bools(losses[answer] for answer in said if answer in losses)


def _who_was_right_beside(pairs: Iterable[Pair], said: Said, only_corrections: bool) -> np.ndarray:
    """Whether it was the challenger, where only one was. Silence counts for both, since the answers of both were
    shown."""
    told = (pair for pair in pairs if only_corrections or all(_answer(row) in said for row in pair))
    right = ([said.get(_answer(row), row["label"]) == row["label"] for row in pair] for pair in told)
    return _bools(mine for his, mine in right if his != mine)


def _bools(values: Iterable[bool]) -> np.ndarray:
    import numpy as np

    return np.array(list(values), bool)


def _surer(both: Iterable[Pair]) -> np.ndarray:
    import numpy as np

    return np.array([float(theirs["confidence"]) - float(ours["confidence"]) for ours, theirs in both], float)


def now() -> datetime:
    """In UTC."""
    return datetime.now(timezone.utc)
