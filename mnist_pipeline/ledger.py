"""The ledger: every decision about production, numbered, each holding the digest of the one before.

Here: what a decision is, how one is appended, and the proof that none was changed.
Not here: the versions decided on (`model_versions.py`), and what makes a model worth deploying (`ml/`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mnist_pipeline.storage.blobs import BlobExists, BlobStore
from mnist_pipeline.storage.sealed import seal, sha256, unseal

ByHand = Literal["quality", "manual", "force", "rollback", "challenge", "withdraw"]  # what a person may ask for
Strategy = Literal["quality", "manual", "force", "rollback", "challenge", "withdraw", "promotion", "automatic_rollback"]
Outcome = Literal["deployed", "kept", "challenged", "withdrawn"]
ROLLBACKS = ("rollback", "automatic_rollback")
_KEY = re.compile(r"decisions/(?!0{8})([0-9]{8})\.json")


class CorruptLedger(Exception):
    """A decision cannot be read as it was written; the message names its key and what to do."""


class LostRace(Exception):
    """Another decision came first: `winner`. Nothing was recorded."""

    def __init__(self, winner: Decision) -> None:
        super().__init__(winner)
        self.winner = winner

    def __str__(self) -> str:
        won = self.winner
        return (
            f"decision {won.number} was made first: {won.strategy} by {won.actor}, {won.outcome}, production "
            f"serves {won.serves} ({won.reason}). Yours was not recorded; if it is still right after that, "
            f"decide again with expected={won.number}"
        )


@dataclass(frozen=True)
class Decision:
    """What production serves from here on, and why."""

    number: int  # from 1, without gaps
    serves: str | None  # the version in production; None while nothing has been deployed
    card_digest: str  # sha256 of that version's card.json, "" without a version: a card changed later is noticed
    strategy: Strategy
    outcome: Outcome  # only "deployed" changes `serves`; only "kept" leaves the challenger as it was
    candidate: str | None
    reason: str
    evidence: dict[str, Any]
    actor: str
    time: str  # ISO 8601, UTC
    previous: str  # sha256 of the bytes of decision `number` - 1; "" for the first
    request: str = ""  # what asked for it, the same when it asks again; "" where nobody said
    challenger: str | None = None  # the version that competes with `serves`, or its predecessor, where that watches
    challenger_digest: str = ""  # sha256 of the challenger's card.json
    contest: int = 0  # the decision since which these two compete, 0 without a challenger
    watches: bool = False  # the challenger is the predecessor of the one that serves: the yardstick for a rollback


@dataclass(frozen=True)
class Ledger:
    """Decisions as blobs: to append is to create the next number, so of two racers one wins."""

    blobs: BlobStore

    def numbers(self) -> list[int]:
        """The numbers of all decisions, ascending."""
        found = (_KEY.fullmatch(key) for key in self.blobs.list("decisions/"))
        return [int(match[1]) for match in found if match]

    def read(self, number: int) -> Decision:
        """One decision. Raises BlobMissing, CorruptLedger."""
        return _opened(number, self.blobs.read(_key(number)))

    def newest(self) -> Decision | None:
        """The decision that production follows; None before the first. Raises CorruptLedger."""
        numbers = self.numbers()
        return self.read(numbers[-1]) if numbers else None

    def append(self, draft: Decision) -> Decision:
        """Record `draft`; its `previous` and what it carries over from the decision before are filled in here.

        Where the same request has taken the number already (a write whose answer was lost, a worker that was
        taken for dead) that decision is returned. Raises LostRace when somebody else has, ValueError for a draft
        at odds with itself or the ledger.
        """
        _check(draft)
        newest = max(self.numbers(), default=0)
        if newest >= draft.number:
            return self._of_same_request(draft, newest)
        if newest < draft.number - 1:
            raise ValueError(f"expected={draft.number - 1}, but the newest decision is {newest}: look again")
        data = seal(self._chained(draft))
        try:
            self.blobs.create(_key(draft.number), data)
        except BlobExists:
            # The same bytes are our own: a create whose answer the network lost, and that was sent again.
            if self.blobs.read(_key(draft.number)) != data:
                return self._of_same_request(draft, draft.number)
        return _opened(draft.number, data)

    def changed_for(self, request: str) -> Decision | None:
        """The newest decision by which a request has changed something already; None if there is none."""
        for number in reversed(self.numbers()):
            try:
                decision = self.read(number)
            except CorruptLedger:  # told by `problems`; a person must be able to deploy past it
                continue
            if decision.request == request and decision.outcome != "kept":
                return decision
        return None

    def problems(self) -> list[str]:
        """What is wrong with the chain: decisions missing, changed or out of place; [] if it is whole."""
        found = [f"{key} is no decision" for key in self.blobs.list("decisions/") if not _KEY.fullmatch(key)]
        last, before = 0, ""  # the sha256 of the decision before
        for number in self.numbers():
            if number > last + 1:
                found.append(f"missing: {_key(last + 1)}" + f" to {_key(number - 1)}" * (number > last + 2))
            data = self.blobs.read(_key(number))
            try:
                if _opened(number, data).previous != before and number == last + 1:
                    found.append(f"{_key(number)} does not follow {_key(last)}: one of them was replaced")
            except CorruptLedger as error:
                found.append(str(error))
            last, before = number, sha256(data)
        return found

    def _of_same_request(self, draft: Decision, number: int) -> Decision:
        """Decision `number`, which came before `draft`. Raises LostRace if it is not of the same request."""
        found = self.read(number)
        if not draft.request or found.request != draft.request:
            raise LostRace(found)
        return found

    def _chained(self, draft: Decision) -> Decision:
        """`draft` bound to the decision before it."""
        before = draft.number - 1
        if draft.outcome != "deployed" or draft.strategy == "promotion" or draft.challenger:
            draft = _carried_over(draft, self.read(before) if before else None)
        draft = replace(draft, previous=sha256(self.blobs.read(_key(before))) if before else "")
        return replace(draft, contest=draft.number) if draft.challenger and not draft.contest else draft


def _carried_over(draft: Decision, before: Decision | None) -> Decision:
    """`draft` with digests as they were decided on. Not computed anew: a card that was changed since must not become
    the accepted one. Raises ValueError for a draft that does not follow from the decision before."""
    serves, digest = (before.serves, before.card_digest) if before else (None, "")
    rival = before.challenger if before else None
    if draft.outcome == "deployed":
        if draft.strategy == "promotion" and draft.serves != rival:
            raise ValueError(f"a promotion has champion and challenger change places: {rival!r} is to serve")
        if draft.challenger != serves:
            raise ValueError(f"who has served before is who watches: {serves!r}, not {draft.challenger!r}")
        return replace(draft, challenger_digest=digest, watches=True)
    if draft.serves != serves:
        raise ValueError(f"{draft.outcome!r} leaves production as it is: serves={serves!r}, not {draft.serves!r}")
    draft = replace(draft, card_digest=digest)
    if draft.outcome == "kept" and before:
        same = ("challenger", "challenger_digest", "contest", "watches")
        return replace(draft, **{name: getattr(before, name) for name in same})
    return draft


def served_before(decisions: list[Decision]) -> str | None:
    """The version that served before the present one was deployed. Rolling back twice goes two back."""
    served: list[str] = []
    for decision in decisions:
        if decision.outcome != "deployed" or decision.serves is None:
            continue
        if decision.strategy in ROLLBACKS and decision.serves in served:
            while served[-1] != decision.serves:
                served.pop()
        elif not served or served[-1] != decision.serves:
            served.append(decision.serves)
    return served[-2] if len(served) > 1 else None


def withdrawn_by(decisions: list[Decision], version: str) -> Decision | None:
    """The rollback that took a version out of production, or the withdrawal that ended its challenge; None where
    somebody has deployed it or made it challenger again since."""
    found, serving, challenged = None, None, False
    for decision in decisions:
        if decision.outcome == "deployed":
            if decision.strategy in ROLLBACKS and serving == version != decision.serves:
                found = decision
            elif decision.serves == version:
                found = None
            serving, challenged = decision.serves, False
        elif decision.outcome == "challenged" and decision.challenger == version:
            found, challenged = None, True
        elif decision.outcome == "withdrawn" and decision.candidate == version and challenged:
            found, challenged = decision, False
    return found


def _key(number: int) -> str:
    return f"decisions/{number:08d}.json"


def _opened(number: int, data: bytes) -> Decision:
    """The decision in `data`, which was read under `number`."""
    try:
        decision = unseal(Decision, data)
        if decision.number != number:
            raise ValueError(f"it is decision {decision.number}")
    except ValueError as error:
        raise CorruptLedger(
            f"{_key(number)} cannot be trusted: {error}. Restore it from a backup; until then a version can "
            f"still be deployed past it, with expected={number} while it is the newest"
        ) from error
    return decision


def _check(draft: Decision) -> None:
    if draft.strategy not in get_args(Strategy):
        raise ValueError(f"unknown strategy {draft.strategy!r}: it is one of {', '.join(get_args(Strategy))}")
    if draft.outcome not in get_args(Outcome):
        raise ValueError(f"unknown outcome {draft.outcome!r}: it is one of {', '.join(get_args(Outcome))}")
    if draft.number < 1:
        raise ValueError(f"expected={draft.number - 1}: it is the newest decision's number, 0 before the first")
    if not draft.reason.strip() or not draft.actor.strip():
        raise ValueError("a decision needs a reason and an actor: say why, and who decides")
    if draft.outcome == "deployed" and draft.serves is None:
        raise ValueError("outcome 'deployed' needs the version that serves from now on")
    if draft.outcome == "challenged" and not (draft.serves and draft.challenger):
        raise ValueError("outcome 'challenged' needs a version in production and one that competes with it")
    if draft.challenger and draft.challenger == draft.serves:
        raise ValueError(f"{draft.serves} cannot compete with itself")
