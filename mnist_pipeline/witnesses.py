"""What was answered under a decision, held against the ledger: the only thing that knows of decisions cut off its end.

No chain can know that its newest links are gone, nor that others were put in their place. But each night says in its
manifest, and each answer of the service in its row, under which decision which version answered. Not here: the chain
itself (`ledger.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mnist_pipeline.ledger import CorruptLedger, Decision, Ledger
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.traffic import Traffic

NIGHTS, PARTS = 31, 20  # that are looked at, the newest: what was decided before is held by the chain
CLOCKS = timedelta(minutes=5)  # by which those of the service and of who decides may differ


@dataclass(frozen=True)
class Witness:
    """where: what says so; decision: the newest when it answered; version: which then served; time: when, if known."""

    where: str
    decision: int
    version: str
    time: datetime | None = None


def witnesses(nights: NightTables, traffic: Traffic) -> list[Witness]:
    """What the newest nights and parts of the log say. Raises StoreUnavailable."""
    return [*_of_nights(nights), *_of_service(traffic)]


def contradictions(ledger: Ledger, heard: Iterable[Witness]) -> list[str]:
    """Where answers know of other decisions than the ledger, a line a decision; [] where they agree."""
    newest, found = max(ledger.numbers(), default=0), dict[tuple[int, str], str]()
    for each in heard:
        if why := _against(ledger, newest, each):
            found[each.decision, each.version] = why
    return [why for _, why in sorted(found.items())]


def known_up_to(heard: Iterable[Witness]) -> str:
    """How far it is known that nothing was cut off the end, in words."""
    newest = max((each.decision for each in heard), default=0)
    if not newest:
        return "nothing was answered since that would know of any cut off their end"
    return f"answers know of none later than {newest}; whether any was cut off after that, only a copy elsewhere tells"


def _against(ledger: Ledger, newest: int, said: Witness) -> str:
    """Why both cannot be true; "" where they can."""
    if said.decision > newest:
        return (
            f"cut off: {said.where} was answered under decision {said.decision}, and the newest is "
            f"{newest or 'none'}: restore decisions/ from a backup"
        )
    try:
        decision = ledger.read(said.decision)
    except CorruptLedger as error:
        return str(error)
    serves = decision.serves
    if serves == said.version:
        return _too_late(decision, said)
    return (
        f"replaced: {said.where} was answered by {said.version} under decision {said.decision}, which has "
        f"{serves or 'nothing'} serve: restore decisions/ from a backup"
    )


def _too_late(decision: Decision, said: Witness) -> str:
    """Another decision may have been put in its place that lets the same version serve."""
    if said.time is None or datetime.fromisoformat(decision.time) <= said.time + CLOCKS:
        return ""
    return (
        f"replaced: {said.where} was answered at {said.time:%Y-%m-%d %H:%M} UTC under decision {said.decision}, which "
        f"was made at {decision.time} only: restore decisions/ from a backup"
    )


def _of_nights(nights: NightTables) -> Iterator[Witness]:
    """By their manifests, which are small."""
    for night in nights.nights()[:NIGHTS]:
        if manifest := nights.manifest(night):
            yield Witness(f"night {night}", manifest["decision"], manifest["model_version"])


def _of_service(traffic: Traffic) -> Iterator[Witness]:
    """By the newest parts of its log."""
    for witness in traffic.served_under(PARTS):
        yield Witness(*witness)
