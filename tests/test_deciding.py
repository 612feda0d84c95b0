"""Deciding by hand without Dagster: what is meant, what is refused, and that nothing past the digests is recorded."""

from __future__ import annotations

import getpass
import json
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
from mnist_pipeline.ledger import Decision, Strategy, withdrawn_by
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.ml.predictor import ONNX
from mnist_pipeline.storage.sealed import canonical, sha256
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


# --- challengers ---


def decide(pipeline: Pipeline, strategy: Any, version: str = "", *, deploy: bool = True) -> Decision:
    case = now(pipeline)
    by_tests = strategy in ("promotion", "automatic_rollback", "quality")
    choice = Choice(strategy, version, "shown") if by_tests else by_hand(case, strategy, version)
    return record(case, choice, deploy=deploy)


def stands(pipeline: Pipeline) -> tuple[Any, ...]:
    newest = pipeline.store.current()
    assert newest
    assert pipeline.store.verify_chain() == []
    return newest.serves, newest.challenger, newest.outcome, newest.contest, newest.watches


def test_a_contest_is_a_chain_of_decisions(pipeline: Pipeline) -> None:
    first, other = str(pipeline.store.production()), pipeline.variant(nudged)
    assert decide(pipeline, "challenge", other).candidate == other
    assert stands(pipeline) == (first, other, "challenged", 2, False)
    decide(pipeline, "quality", "whoever", deploy=False)
    assert stands(pipeline) == (first, other, "kept", 2, False)
    decide(pipeline, "promotion", other)
    assert stands(pipeline) == (other, first, "deployed", 4, True)
    decide(pipeline, "quality", "whoever", deploy=False)
    assert stands(pipeline) == (other, first, "kept", 4, True)
    decide(pipeline, "automatic_rollback", first)
    assert stands(pipeline) == (first, None, "deployed", 0, False)
    rolled_back = withdrawn_by(pipeline.store.decisions(), other)
    assert rolled_back
    assert rolled_back.number == 6


def test_a_deployment_may_be_watched_by_whoever_served_before(pipeline: Pipeline) -> None:
    first, other = str(pipeline.store.production()), pipeline.variant(nudged)
    record(now(pipeline), Choice("quality", other, "shown"), watched=True)
    assert stands(pipeline) == (other, first, "deployed", 2, True)
    decide(pipeline, "automatic_rollback", first)
    assert stands(pipeline) == (first, None, "deployed", 0, False)
    with pytest.raises(ValueError, match="who has served before is who watches"):
        pipeline.store.decide(
            serves=first, challenger=pipeline.variant(lambda network: network.classifier.bias.add_(0.3)),
            strategy="manual", outcome="deployed", candidate=first, reason="x", evidence={}, actor="x", expected=3,
        )  # fmt: skip


def test_whoever_is_deployed_past_the_contest_ends_it(pipeline: Pipeline) -> None:
    other, third = pipeline.variant(nudged), pipeline.variant(lambda network: network.classifier.bias.add_(0.2))
    decide(pipeline, "challenge", other)
    decide(pipeline, "manual", third)
    assert stands(pipeline) == (third, None, "deployed", 0, False)


def test_a_withdrawn_challenger_is_not_the_gates_to_bring_back(pipeline: Pipeline) -> None:
    first, other = str(pipeline.store.production()), pipeline.variant(nudged)
    decide(pipeline, "challenge", other)
    withdrawn = decide(pipeline, "withdraw")
    assert stands(pipeline) == (first, None, "withdrawn", 0, False)
    assert withdrawn_by(pipeline.store.decisions(), other) == withdrawn
    decide(pipeline, "challenge", other)
    assert withdrawn_by(pipeline.store.decisions(), other) is None


def test_a_predecessor_that_watches_no_longer_is_none_the_worse_for_it(pipeline: Pipeline) -> None:
    first, other = str(pipeline.store.production()), pipeline.variant(nudged)
    decide(pipeline, "challenge", other)
    decide(pipeline, "promotion", other)
    decide(pipeline, "withdraw")
    assert withdrawn_by(pipeline.store.decisions(), first) is None


def test_who_cannot_compete_is_refused(pipeline: Pipeline, fresh: Pipeline) -> None:
    first, other = str(pipeline.store.production()), pipeline.variant(nudged)
    letters = pipeline.variant(lambda network: network.classifier.bias.add_(0.2), class_names=list("abcdefghij"))
    decide(pipeline, "challenge", other)
    for version, said in ((first, "in production already"), (other, "the challenger already"), (letters, "other cl")):
        with pytest.raises(DecisionRefused, match=said):
            decide(pipeline, "challenge", version)
    decide(pipeline, "withdraw")
    with pytest.raises(DecisionRefused, match="nobody competes: the challenger is nobody"):
        decide(pipeline, "withdraw")
    flip_a_bit(pipeline.state / "models" / "versions" / other / ONNX)
    with pytest.raises(CorruptVersion):
        decide(pipeline, "challenge", other)
    with pytest.raises(ValueError, match="champion and challenger change places"):
        pipeline.store.decide(
            serves=letters, challenger=first, strategy="promotion", outcome="deployed", candidate=letters,
            reason="no contest", evidence={}, actor="a test", expected=3,
        )  # fmt: skip
    assert len(pipeline.store.decisions()) == 3


def test_a_decision_of_an_older_release_is_read_and_verified(pipeline: Pipeline) -> None:
    """As they were written before there were challengers: the seal is of what stood there then."""
    path = pipeline.state / "models" / "decisions" / "00000001.json"
    record_, new = json.loads(path.read_text()), ("challenger", "challenger_digest", "contest", "watches", "seal")
    old = {name: value for name, value in record_.items() if name not in new}
    path.write_bytes(canonical({**old, "seal": sha256(canonical(old))}))
    assert stands(pipeline) == (old["serves"], None, "deployed", 0, False)
    decide(pipeline, "challenge", pipeline.variant(nudged))
    assert pipeline.store.verify_chain() == []
    path.write_bytes(path.read_bytes().replace(b"quality", b"manual_"))
    assert "cannot be trusted" in pipeline.store.verify_chain()[0]
