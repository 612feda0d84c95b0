"""Deciding by hand without Dagster: what is meant, what is refused, and that nothing past the digests is recorded."""

from __future__ import annotations

import getpass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import Pipeline, flip_a_bit

from mnist_pipeline.deciding import (
    Case,
    Choice,
    DecisionRefused,
    before_that,
    by_hand,
    check_version,
    record,
    who_decides,
)
from mnist_pipeline.ledger import Decision, Strategy
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.ml.predictor import ONNX
from mnist_pipeline.store import CorruptVersion, LostRace, UnknownVersion


def nudged(network: DigitCNN) -> None:
    """Another network with the same answers."""
    network.classifier.bias.add_(0.1)


def now(pipeline: Pipeline) -> Case:
    return Case.after(pipeline.store, pipeline.store.current())


def test_a_case_is_what_stood_when_somebody_looked(finished: Pipeline) -> None:
    store, version = finished.store, finished.value("digit_classifier")
    assert now(finished) == Case(store, 1, version)
    assert Case.after(store, None, "a run") == Case(store, 0, None, "a run")


def test_each_strategy_says_which_version_and_why(finished: Pipeline) -> None:
    case = now(finished)
    assert by_hand(case, "manual", "a") == Choice("manual", "a", "chosen by hand")
    assert by_hand(case, "manual", "a", "demo") == Choice("manual", "a", "demo")
    assert by_hand(case, "force", "", "must", newest="n") == Choice("force", "n", "must")
    assert by_hand(case, "force", "a", "must", newest="n") == Choice("force", "a", "must")
    assert by_hand(case, "rollback", "a") == Choice("rollback", "a", f"rolled back from {case.serving}")
    assert by_hand(Case(case.store, 0, None), "rollback", "a").reason == "rolled back from nothing"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"strategy": "manual"}, "manual needs `version`; the store has: digitcnn-"),
        ({"strategy": "force", "version": "a"}, "needs a `reason`"),
        ({"strategy": "force", "version": "a", "reason": "  "}, "needs a `reason`"),
        ({"strategy": "rollback"}, "nothing to roll back to"),
    ],
)
def test_what_cannot_be_told_is_refused(finished: Pipeline, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(DecisionRefused, match=said):
        by_hand(now(finished), **asked)


def test_a_choice_is_recorded_and_a_later_look_finds_it(pipeline: Pipeline) -> None:
    case, other = now(pipeline), pipeline.variant(nudged)
    decision = record(case, Choice("manual", other, "demo"), {"seen": 1})
    assert (decision.serves, decision.reason, decision.evidence) == (other, "demo", {"seen": 1})
    assert decision.actor == getpass.getuser()
    assert now(pipeline) == Case(case.store, 2, other)
    with pytest.raises(LostRace, match="decision 2 was made first"):
        record(case, Choice("manual", other, "demo"))
    kept = record(now(pipeline), Choice("quality", case.serving or "", "not better"), deploy=False)
    assert (kept.outcome, kept.serves, kept.candidate) == ("kept", other, case.serving)


def test_a_damaged_version_is_neither_checked_nor_recorded(pipeline: Pipeline) -> None:
    case, other = now(pipeline), pipeline.variant(nudged)
    flip_a_bit(pipeline.state / "models" / "versions" / other / ONNX)
    for door in (lambda: check_version(case.store, other), lambda: record(case, Choice("force", other, "must"))):
        with pytest.raises(CorruptVersion, match="Do not serve it"):
            door()
    with pytest.raises(UnknownVersion):
        check_version(case.store, "nobody-knows")
    assert now(pipeline) == case


def test_a_user_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)
    assert who_decides() == "uid 123456789"


def recorded(number: int, serves: str, strategy: Strategy, outcome: Any) -> Decision:
    return Decision(number, serves, "", strategy, outcome, serves, "because", {}, "somebody", "", "")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "rollback", "keep"]), max_size=30))
def test_rollbacks_undo_deployments_one_by_one(steps: list[str]) -> None:
    """Against the plain model: a pile of versions; deploying puts one on top, rolling back takes one off."""
    pile: list[str] = []
    history: list[Decision] = []
    for step in steps:
        if step == "keep":
            if pile:
                history.append(recorded(len(history) + 1, pile[-1], "quality", "kept"))
        elif step != "rollback":
            history.append(recorded(len(history) + 1, step, "manual", "deployed"))
            if not pile or pile[-1] != step:
                pile.append(step)
        elif len(pile) < 2:
            with pytest.raises(DecisionRefused):
                before_that(history)
        else:
            pile.pop()
            assert before_that(history) == pile[-1]
            history.append(recorded(len(history) + 1, pile[-1], "rollback", "deployed"))
