"""What was answered under a decision, held against the ledger: the only thing that knows of decisions cut off its end.

No chain can know that its newest links are gone, nor that others were put in their place. But each night says in its
manifest, and each answer of the service in its row, under which decision which version answered. Not here: the chain
itself (`ledger.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mnist_pipeline.ledger import CorruptLedger, Ledger
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.traffic import Traffic

NIGHTS, PARTS = 31, 20  # that are looked at, the newest: what was decided before is held by the chain


@dataclass(frozen=True)
class Witness:
    """where: what says so; decision: the newest when it answered; version: which then served."""

    where: str
    decision: int
    version: str


def contradictions(ledger: Ledger, nights: NightTables, traffic: Traffic) -> list[str]:
    """Where answers know of other decisions than the ledger; [] where they agree. Raises StoreUnavailable."""
    newest = max(ledger.numbers(), default=0)
    said = {(each.decision, each.version): each for each in (*_of_nights(nights), *_of_service(traffic))}
    return [why for _, each in sorted(said.items()) if (why := _against(ledger, newest, each))]


def _against(ledger: Ledger, newest: int, said: Witness) -> str:
    """Why both cannot be true; "" where they can."""
    if said.decision > newest:
        return (
            f"cut off: {said.where} was answered under decision {said.decision}, and the newest is "
            f"{newest or 'none'}: restore decisions/ from a backup"
        )
    try:
        serves = ledger.read(said.decision).serves
    except CorruptLedger as error:
        return str(error)
    if serves == said.version:
        return ""
    return (
        f"replaced: {said.where} was answered by {said.version} under decision {said.decision}, which has "
        f"{serves or 'nothing'} serve: restore decisions/ from a backup"
    )


def _of_nights(nights: NightTables) -> Iterator[Witness]:
    """By their manifests, which are small."""
    for night in nights.nights()[:NIGHTS]:
        if manifest := nights.manifest(night):
            yield Witness(f"night {night}", manifest["decision"], manifest["model_version"])


def _of_service(traffic: Traffic) -> Iterator[Witness]:
    """By the newest parts of its log."""
    for part, decision, version in traffic.served_under(PARTS):
        yield Witness(part, decision, version)
