"""From an answer back to all that it came from, and from data forward to all that it has touched.

Plain values out, ready for JSON; what is damaged or gone is named among the problems, and the rest is told. How much
is looked at is bounded: the newest days of the prediction log and as many nights, of which single columns are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnist_pipeline.corrections import Correction, Corrections
from mnist_pipeline.ledger import CorruptLedger, Decision
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.store import Card, CorruptReport, CorruptVersion, ModelStore, UnknownVersion
from mnist_pipeline.traffic import Traffic

ROW = (
    *("time", "request_id", "index", "door", "role", "label", "confidence", "abstained", "sha256"),
    *("model_version", "decision"),
)
HEX = re.compile(r"[0-9a-f]{6,64}")
WHOLE = 64  # hex digits
FEEDBACK = re.compile(r"of feedback ([0-9a-f]{12})$")  # as `Origin.called` in `ml/digits.py` has it


class Untraceable(LookupError):
    """Nothing is known of it; the message says where was looked, and how to look further."""


class Ambiguous(ValueError):
    """It may be several things; the message names them."""


@dataclass
class Tracer:
    """Everything that is read. days: of the prediction log and nights, the newest. problems: what could not be read."""

    store: ModelStore
    traffic: Traffic
    nights: NightTables
    days: int
    problems: list[str] = field(default_factory=list)

    def back(self, what: str, night: str = "") -> dict[str, Any]:
        """From a request, a version, a digest of a file or of pixels, or a file of a night. Raises Untraceable,
        Ambiguous, StoreUnavailable."""
        if night:
            return self._answered(what, self._rows_of_file(what, night))
        versions = self._versions_named(what)
        rows = self.traffic.answers_to([what], ROW, self.days) if len(what) < WHOLE else ()
        found = {"request": sorted(rows, key=lambda row: (row["time"], row["index"]))}
        if not (found["request"] or versions) and HEX.fullmatch(what):
            found |= self._with_digest(what)
        kinds = [kind for kind, rows in found.items() if rows] + (["version"] if versions else [])
        if not kinds:
            raise Untraceable(self._nowhere(what))
        if len(kinds) > 1 or len(versions) > 1:
            raise Ambiguous(f"{what!r} may be a {' or a '.join(kinds)}{_named(versions)}: give more of it")
        return self.version(versions[0]) if versions else self._answered(what, found[kinds[0]])

    def version(self, name: str) -> dict[str, Any]:
        """What a version came from."""
        return {"of": "version", "what": name, "answers": [], "said": [], "versions": [self._about(name)]}

    def forward(self, digest: str) -> dict[str, Any]:
        """From the digest of training or evaluation data, or of the feedback in it, to versions, reports, decisions,
        nights and answers."""
        cards, reports = list(self._cards()), list(self._reports())
        given = {digest for card in cards for digest in _learned_from(card)}
        known = sorted(given | {each["data_digest"] for each in reports})
        matching = [each for each in known if digest and (each.startswith(digest) or _abridged(each, digest))]
        if not matching:
            raise Untraceable(f"no version and no report is about data {digest!r}; there are {_few(known)}")
        if len(matching) > 1:
            raise Ambiguous(f"data {digest!r} may be {_few(matching)}: give more of it")
        (data,) = matching
        trained = sorted(card.name for card in cards if data in _learned_from(card))
        touched = [each for each in self._decisions() if {each.serves, each.candidate, each.challenger} & {*trained}]
        return {
            "of": "data",
            "what": data,
            "versions": [_card(card) for card in cards if card.name in trained],
            "reports": [each for each in reports if each["data_digest"] == data or each["version"] in trained],
            "decisions": [_decision(each) for each in touched],
            "nights": self._nights_of(trained),
            "answers": self._answers_of(trained),
            "older": {
                "nights": len(self.nights.nights()[self.days :]),
                "days": len(self.traffic.days()) - len(self.traffic.looked_at(self.days)),
            },
        }

    def _answered(self, what: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Rows of the log or of nights, with all that they came from."""
        answers = [{**row, **({"time": row["time"].isoformat()} if "time" in row else {})} for row in rows]
        by = dict.fromkeys((row["model_version"], row["decision"]) for row in rows)
        said = [each for each in self._said() if any(_is_about(each, row) for row in rows)]
        return {
            "of": "night" if "night" in rows[0] else "request",
            "what": what,
            "answers": answers,
            "said": [
                {"label": s.label, "by": s.origin, "where": s.where, "time": s.time, "index": s.index} for s in said
            ],
            "versions": [self._about(version, number) for version, number in by],
        }

    def _about(self, version: str, number: int | None = None) -> dict[str, Any]:
        """A version with its reports and decisions. number: of the newest decision when it answered."""
        decisions = [each for each in self._decisions() if version in (each.serves, each.candidate, each.challenger)]
        if number is not None:
            by_then = [each for each in decisions if each.number <= number]
            put_there = [each for each in by_then if version in _put_in_place(each)]
            decisions = (put_there or by_then)[-1:]
        try:
            card = self.store.card(version)
        except (UnknownVersion, CorruptVersion) as error:
            self.problems.append(str(error))
            return {"version": version, "reports": [], "decisions": [_decision(each) for each in decisions]}
        reports = list(self._reports_of(version))
        source = [each["source"] for each in reports if each["data_digest"] == card.data_version]
        told = {"source": source[0] if source else None, "reports": reports}
        return {**_card(card), **told, "decisions": [_decision(each) for each in decisions]}

    def _versions_named(self, what: str) -> list[str]:
        names = self.store.versions()
        return [what] if what in names else [name for name in names if what and name.startswith(what)]

    def _rows_of_file(self, name: str, night: str) -> list[dict[str, Any]]:
        if night not in self.nights.nights():
            raise Untraceable(f"there is no table of night {night!r}; the newest are {_few(self.nights.nights())}")
        rows = self.nights.of_files(night, [name])
        if not rows:
            raise Untraceable(f"{self.nights.where(night)} has no answer about a file {name!r}")
        return rows

    def _with_digest(self, digest: str) -> dict[str, list[dict[str, Any]]]:
        """Files of nights and pixels of answers, of which there must be one: the newest night and day that has it."""
        found: dict[str, list[dict[str, Any]]] = {"night": []}
        for night in self.nights.nights()[: self.days]:
            found["night"] = found["night"] or self._night_rows(night, digest)
        found["pixels"] = list(self.traffic.with_digest(digest, ROW, self.days))
        digests = sorted({row["sha256"] for rows in found.values() for row in rows})
        if len(digests) > 1:
            raise Ambiguous(f"digest {digest!r} may be {_few(digests)}: give more of it")
        return {"night": found["night"]} if found["night"] else found

    def _night_rows(self, night: str, digest: str) -> list[dict[str, Any]]:
        try:
            return self.nights.of_digest(night, digest)
        except ValueError as error:
            self.problems.append(str(error))
            return []

    def _nights_of(self, versions: Sequence[str]) -> dict[str, int]:
        found = {}
        for night in self.nights.nights()[: self.days] if versions else ():
            try:
                found[night] = self.nights.counts(night, versions)
            except ValueError as error:
                self.problems.append(str(error))
        return {night: count for night, count in found.items() if count}

    def _answers_of(self, versions: Sequence[str]) -> dict[str, Any]:
        days = self.traffic.looked_at(self.days)
        given = self.traffic.given_by(versions, self.days) if versions else {}
        by_day = {day: count for day, count in given.items() if count}
        return {"count": sum(by_day.values()), "by_day": by_day, "looked_at": [days[-1], days[0]] if days else []}

    def _said(self) -> list[Correction]:
        return Corrections(self.traffic, self.problems.append).all()

    def _decisions(self) -> Iterator[Decision]:
        return _whole(self.store.ledger.numbers(), self.store.ledger.read, self.problems)

    def _cards(self) -> Iterator[Card]:
        return _whole(self.store.versions(), self.store.card, self.problems)

    def _reports(self) -> Iterator[dict[str, Any]]:
        for version in self.store.versions():
            yield from self._reports_of(version)

    def _reports_of(self, version: str) -> Iterator[dict[str, Any]]:
        keys = self.store.reports(version)
        for key, report in zip(keys, _whole(keys, self.store.report, self.problems), strict=False):
            test = report.get("test", {})
            about = {"data_digest": report["data_digest"], "source": report.get("source")}
            yield {"key": key, "version": version, **about, "test_accuracy": test.get("accuracy")}

    def _nowhere(self, what: str) -> str:
        days, nights = self.traffic.looked_at(self.days), self.nights.nights()[: self.days]
        seen = [f"the log of {days[-1]} to {days[0]}"] if days else []
        seen += [f"the nights {nights[-1]} to {nights[0]}"] if nights else []
        where = ", ".join(["the versions", *seen])
        return f"{what!r} is no request, version or digest in {where}; --days looks further, --night finds a file"


def _whole(keys: Iterable[Any], read: Callable[[Any], Any], problems: list[str]) -> Iterator[Any]:
    """What can be read; the rest is a problem, not the end."""
    for key in keys:
        try:
            yield read(key)
        except (CorruptVersion, CorruptReport, CorruptLedger) as error:
            problems.append(str(error))


def _is_about(said: Correction, row: dict[str, Any]) -> bool:
    if "request_id" in row:
        return said.request_id == row["request_id"] and said.index in (None, row["index"])
    return said.file == row["file"] and said.row == row["row"] and said.night in ("", row["night"])


def _learned_from(card: Card) -> set[str]:
    """The digest of its training data, and the first digits of that of the feedback in it, which the card has."""
    feedback = FEEDBACK.search(card.dataset)
    return {card.data_version, *([feedback[1]] if feedback else [])}


def _abridged(known: str, digest: str) -> bool:
    """Whether what is known are the first digits of a whole digest."""
    return len(known) < len(digest) == WHOLE and digest.startswith(known)


def _card(card: Card) -> dict[str, Any]:
    made = {"created": card.created, "dataset": card.dataset, "data_digest": card.data_version}
    return {"version": card.name, **made, "code_version": card.code_version, "run_id": card.run_id}


def _put_in_place(each: Decision) -> set[str | None]:
    """Who answers because of this decision: who serves by it, and who competes."""
    if each.outcome == "deployed":
        return {each.serves, each.challenger}
    return {each.challenger} if each.outcome == "challenged" else set()


def _decision(each: Decision) -> dict[str, Any]:
    told = {"number": each.number, "outcome": each.outcome, "strategy": each.strategy, "serves": each.serves}
    return {**told, "candidate": each.candidate, "actor": each.actor, "time": each.time, "reason": each.reason}


def _named(names: Sequence[str]) -> str:
    return f" ({_few(names)})" if len(names) > 1 else ""


def _few(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
