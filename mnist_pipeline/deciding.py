"""Deciding by hand: manual, force and rollback go past the gate, but never past the digests; who competes, too.

Here: which version is meant, that it is whole and gives the answers it was stored with, and the record of it.
Used by the assets and the command line alike; knows nothing of Dagster. Not here: the gate (`ml/gate.py`), the chain of
decisions (`ledger.py`).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.ledger import Decision, Outcome, Strategy, served_before
from mnist_pipeline.store import ModelStore

OUTCOMES: dict[Strategy, Outcome] = {"challenge": "challenged", "withdraw": "withdrawn"}  # of others: deployed


class DecisionRefused(Exception):
    """What was asked for cannot be decided; nothing was recorded."""


@dataclass(frozen=True)
class Case:
    """What is decided on, as it was when somebody looked: a decision made by another since then wins."""

    store: ModelStore
    expected: int  # the number of the newest decision, 0 where there is none
    serving: str | None  # the version in production
    request: str = ""  # the same at every attempt; "" where there is only one
    challenger: str | None = None  # the version that competes with it

    @classmethod
    def after(cls, store: ModelStore, before: Decision | None, request: str = "") -> Case:
        """The case whose newest decision is `before`."""
        if before is None:
            return cls(store, 0, None, request)
        return cls(store, before.number, before.serves, request, before.challenger)


@dataclass(frozen=True)
class Choice:
    """The version that is decided on, by which strategy, and why."""

    strategy: Strategy
    version: str
    reason: str


def by_hand(case: Case, strategy: Strategy, version: str = "", reason: str = "", newest: str = "") -> Choice:
    """What a person means who asks for this. newest: what `force` and `challenge` take where no version is named.

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
    if strategy == "challenge":
        return Choice(strategy, version or newest, reason or "to be compared on what people ask")
    if strategy == "withdraw":
        if case.challenger is None or version not in ("", case.challenger):
            raise DecisionRefused(f"{version or 'nobody'} competes: the challenger is {case.challenger or 'nobody'}")
        return Choice(strategy, case.challenger, reason or "withdrawn by hand")
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


def check_choice(case: Case, choice: Choice) -> None:
    """Whether it can be recorded. Raises what `check_version` raises, and DecisionRefused for who cannot compete."""
    if choice.strategy != "withdraw":
        check_version(case.store, choice.version)
    if choice.strategy != "challenge":
        return
    if case.serving is None:
        raise DecisionRefused("nothing is in production that could be challenged: deploy a version first")
    if choice.version in (case.serving, case.challenger):
        role = "in production" if choice.version == case.serving else "the challenger"
        raise DecisionRefused(f"{choice.version} is {role} already")
    if case.store.card(choice.version).class_names != case.store.card(case.serving).class_names:
        raise DecisionRefused(f"{choice.version} knows other classes than {case.serving}, so they cannot compete")


def record(
    case: Case,
    choice: Choice,
    evidence: Mapping[str, Any] | None = None,
    *,
    deploy: bool = True,
    watched: bool = False,
) -> Decision:
    """Write it down; deploy=False: all stays as it is. watched: by the version that has served until now, as after a
    promotion. Raises what `check_choice` raises, and LostRace."""
    if deploy:
        check_choice(case, choice)
    outcome = OUTCOMES.get(choice.strategy, "deployed") if deploy else "kept"
    rivals = {"challenge": choice.version, "promotion": case.serving}
    others = case.serving if watched else None
    return case.store.decide(
        serves=choice.version if outcome == "deployed" else case.serving,
        challenger=rivals.get(choice.strategy, others) if deploy else None,
        strategy=choice.strategy,
        outcome=outcome,
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
