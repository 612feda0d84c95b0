"""Deciding by hand: manual, force and rollback go past the gate, but never past the digests.

Here: which version is meant, that it is whole and gives the answers it was stored with, and the record of it.
Used by the asset and the command line alike; knows nothing of Dagster. Not here: the gate (`ml/gate.py`), the chain of
decisions (`ledger.py`).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.ledger import Decision, Strategy, served_before
from mnist_pipeline.store import ModelStore


class DecisionRefused(Exception):
    """What was asked for cannot be decided; nothing was recorded."""


@dataclass(frozen=True)
class Case:
    """What is decided on, as it was when somebody looked: a decision made by another since then wins."""

    store: ModelStore
    expected: int  # the number of the newest decision, 0 where there is none
    serving: str | None  # the version in production
    request: str = ""  # the same at every attempt; "" where there is only one

    @classmethod
    def after(cls, store: ModelStore, before: Decision | None, request: str = "") -> Case:
        """The case whose newest decision is `before`."""
        return cls(store, before.number, before.serves, request) if before else cls(store, 0, None, request)


@dataclass(frozen=True)
class Choice:
    """The version that is decided on, by which strategy, and why."""

    strategy: Strategy
    version: str
    reason: str


def by_hand(case: Case, strategy: Strategy, version: str = "", reason: str = "", newest: str = "") -> Choice:
    """What a person means who asks for this. newest: what `force` takes where no version is named.

    Raises DecisionRefused where that cannot be told, CorruptLedger where a rollback cannot read what served before.
    """
    if strategy == "manual":
        if not version:
            known = ", ".join(case.store.versions())
            raise DecisionRefused(f"manual needs `version`; the store has: {known}")
        return Choice(strategy, version, reason or "chosen by hand")
    if strategy == "force":
        if not reason.strip():
            raise DecisionRefused("force goes past the gate, so it needs a `reason`, which is kept in the ledger")
        return Choice(strategy, version or newest, reason)
    chosen = version or before_that(case.store.decisions())
    return Choice(strategy, chosen, reason or f"rolled back from {case.serving or 'nothing'}")


def before_that(decisions: list[Decision]) -> str:
    """The version that served before the present one was deployed. Raises DecisionRefused if none did."""
    before = served_before(decisions)
    if before is None:
        raise DecisionRefused("there is nothing to roll back to: at most one version has ever served")
    return before


def check_version(store: ModelStore, version: str) -> None:
    """What is to serve must be whole and must give its golden answers. Raises UnknownVersion, CorruptVersion,
    WrongAnswers."""
    from mnist_pipeline.ml.predictor import Predictor

    Predictor.load(store.load(version))


def record(case: Case, choice: Choice, evidence: Mapping[str, Any] | None = None, *, deploy: bool = True) -> Decision:
    """Write it down; deploy=False: production is kept. Raises what `check_version` raises, and LostRace."""
    if deploy:
        check_version(case.store, choice.version)
    return case.store.decide(
        serves=choice.version if deploy else case.serving,
        strategy=choice.strategy,
        outcome="deployed" if deploy else "kept",
        candidate=choice.version,
        reason=choice.reason,
        evidence=evidence or {},
        actor=who_decides(),
        expected=case.expected,
        request=case.request,
    )


def who_decides() -> str:
    """The name of this user; in a container whose user has none, its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
