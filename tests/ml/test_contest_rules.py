"""From pairs of answers to a verdict: every way to be promoted, withdrawn or rolled back, and none without evidence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mnist_pipeline.ml.contest import ALIKE, AS_SURE, BETTER, SURER, UNLIKE, UNSURE, WORSE, Pairs, Rules, judged

ALL, NONE = np.ones(30, bool), np.zeros(30, bool)
FINE = Pairs(unlike=np.zeros(800, bool), surer=np.full(800, 0.01))
EVERY_THIRD = np.arange(100) % 3 == 0


@pytest.mark.parametrize(
    ("pairs", "rules", "act", "said"),
    [
        (Pairs(), Rules(gate=True), "go_on", "the contest goes on: after 0 answers neither side is shown"),
        (FINE, Rules(gate=True), "promotion", "the challenger takes production's place: they disagree seldom enough"),
        (FINE, Rules(), "go_on", "neither people nor the gate have found it better"),
        (FINE, Rules(gate=True, least=801), "go_on", "after 800 answers neither side"),
        (Pairs(unlike=EVERY_THIRD, surer=np.zeros(100)), Rules(), "withdraw", f"is withdrawn: {UNLIKE}, shown after"),
        (Pairs(surer=np.full(100, -0.4)), Rules(), "withdraw", f"is withdrawn: {UNSURE}, shown after"),
        (Pairs(losses=ALL), Rules(), "withdraw", f"is withdrawn: {WORSE}, shown after"),
        (Pairs(wins=ALL), Rules(), "promotion", f"takes production's place: {BETTER}, shown after"),
        (Pairs(wins=NONE, losses=NONE), Rules(), "go_on", "neither side is shown"),
        (Pairs(wins=ALL), Rules(watches=True), "automatic_rollback", "the predecessor is right more often, shown"),
        (Pairs(surer=np.full(100, 0.4)), Rules(watches=True), "automatic_rollback", f"predecessor: {SURER}, shown"),
        (Pairs(surer=np.full(100, -0.4), losses=ALL), Rules(watches=True), "go_on", "holds its own against its"),
        (Pairs(unlike=EVERY_THIRD, surer=np.zeros(100)), Rules(watches=True), "go_on", "nothing shows that"),
    ],
)
def test_what_follows_from_the_answers(pairs: Pairs, rules: Rules, act: str, said: str) -> None:
    finding = judged(pairs, rules)
    assert finding.act == act
    assert said in finding.sentence


def test_what_people_say_outweighs_that_answers_differ() -> None:
    """Who is right more often is bound to answer differently."""
    both = Pairs(unlike=EVERY_THIRD, surer=np.zeros(100), wins=ALL, losses=~ALL)
    assert judged(both, Rules()).act == "promotion"


def test_each_rule_makes_a_difference() -> None:
    some = Pairs(unlike=np.arange(300) % 5 == 0, surer=np.full(300, -0.1))
    assert judged(some, Rules(less_sure=0.2)).act == "withdraw"
    assert judged(some, Rules(less_sure=0.2, disagreement=0.3)).act == "go_on"
    assert judged(some, Rules(disagreement=0.3)).act == "withdraw"
    assert judged(Pairs(wins=ALL[:8]), Rules()).act == "promotion"
    assert judged(Pairs(wins=ALL[:8]), Rules(alpha=0.01)).act == "go_on"


def test_the_error_is_shared_among_the_ways_to_go_wrong() -> None:
    alphas = {each.name: each.alpha for each in judged(Pairs(), Rules(alpha=0.06)).tests}
    assert alphas[UNLIKE] + alphas[UNSURE] + alphas[WORSE] == pytest.approx(0.06)
    assert alphas[BETTER] + max(alphas[ALIKE], alphas[AS_SURE]) == pytest.approx(0.06)


def test_the_evidence_fits_into_the_ledger() -> None:
    evidence = judged(Pairs(unlike=np.ones(3_000, bool), surer=np.full(3_000, -1.0)), Rules()).evidence()
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert evidence[UNLIKE]["observations"] == 3_000
