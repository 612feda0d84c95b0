"""From pairs of answers to a verdict: every way to be promoted, withdrawn or rolled back, and none without evidence."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from mnist_pipeline.ml.contest import (
    ALIKE,
    AS_SURE,
    BETTER,
    BETTER_BESIDE,
    SURER,
    UNLIKE,
    UNSURE,
    WORSE,
    WORSE_BESIDE,
    Pairs,
    Rules,
    judged,
)
from mnist_pipeline.ml.sequential import spent

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
        (Pairs(beside=ALL), Rules(), "promotion", f"takes production's place: {BETTER_BESIDE}, shown after"),
        (Pairs(beside=NONE), Rules(), "withdraw", f"is withdrawn: {WORSE_BESIDE}, shown after"),
        (Pairs(unlike=EVERY_THIRD, surer=np.zeros(100)), Rules(gate=True, expected=0.3), "go_on", "neither side"),
        (Pairs(unlike=EVERY_THIRD, surer=np.zeros(100)), Rules(gate=True, expected=1.0), "go_on", "neither side"),
        (Pairs(unlike=EVERY_THIRD, surer=np.zeros(100)), Rules(gate=True, expected=0.05), "withdraw", UNLIKE),
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
    assert judged(Pairs(wins=ALL[:10]), Rules()).act == "promotion"
    assert judged(Pairs(wins=ALL[:10]), Rules(alpha=0.01)).act == "go_on"


def test_the_error_is_shared_among_the_ways_to_go_wrong() -> None:
    alphas = {each.name: each.alpha for each in judged(Pairs(), Rules(alpha=0.06)).tests}
    assert sum(alphas[each] for each in (UNLIKE, UNSURE, WORSE, WORSE_BESIDE)) == pytest.approx(0.06)
    assert alphas[BETTER] + alphas[BETTER_BESIDE] + max(alphas[ALIKE], alphas[AS_SURE]) == pytest.approx(0.06)


def test_the_evidence_fits_into_the_ledger() -> None:
    evidence = judged(Pairs(unlike=np.ones(3_000, bool), surer=np.full(3_000, -1.0)), Rules()).evidence()
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert evidence[UNLIKE]["observations"] == 3_000


# --- how contests end, simulated ---

CONTESTS, ANSWERS = 40, 2_000


def contest(rng: np.random.Generator, champion: float, challenger: float) -> Pairs:
    """Answers of two models with these shares of errors, half of the better one's in common."""
    shared = min(champion, challenger) / 2
    hard = rng.random(ANSWERS) < shared
    ours, his = (hard | (rng.random(ANSWERS) < (each - shared) / (1 - shared)) for each in (champion, challenger))
    sure = rng.normal(0, 0.05, ANSWERS) + 0.3 * (ours.astype(float) - his)
    return Pairs(unlike=ours != his, surer=np.clip(sure, -1, 1))


def ends(champion: float, challenger: float, rules: Rules) -> list[str]:
    rng = np.random.default_rng(0)
    return [judged(contest(rng, champion, challenger), rules).act for _ in range(CONTESTS)]


def test_who_is_much_better_by_the_gate_s_evidence_is_promoted_and_not_withdrawn_for_differing() -> None:
    """1 % errors against 8 %: on 8 % of all images only one of them is right, and that the gate has seen."""
    assert ends(0.08, 0.01, Rules(gate=True, expected=0.08)) == ["promotion"] * CONTESTS
    assert (
        ends(0.08, 0.01, Rules()).count("withdraw") > CONTESTS / 2
    )  # by no gate passed, it has to be like the champion


def test_who_is_not_what_the_gate_has_seen_is_withdrawn_within_200_answers() -> None:
    """Better by its evidence, and wrong on every fourth image of people."""
    rng = np.random.default_rng(1)
    for _ in range(CONTESTS):
        finding = judged(contest(rng, 0.02, 0.25), Rules(gate=True, expected=0.02))
        after = [each.answered_after or ANSWERS for each in finding.tests if each.name in (UNLIKE, UNSURE)]
        assert finding.act == "withdraw"
        assert min(after) <= 200


WEEKS, A_WEEK, YEARS = 52, 150, 60


def went_back(rng: np.random.Generator, alpha_of_week: Callable[[int], float]) -> bool:
    """Whether a year of watching ended in a rollback, where both are equally often right."""
    weeks = ((rng.random(A_WEEK) < 0.5, Rules(alpha=alpha_of_week(week), watches=True)) for week in range(1, WEEKS + 1))
    return any(judged(Pairs(wins=wins), rules).act == "automatic_rollback" for wins, rules in weeks)


def test_in_a_year_of_watching_an_equal_model_is_rolled_back_no_more_often_than_said() -> None:
    """With the whole of alpha every week it would be, in a good part of all years."""
    rng = np.random.default_rng(2)
    spending = [went_back(rng, lambda week: spent(0.05, week)) for _ in range(YEARS)]
    anew = [went_back(rng, lambda week: 0.05) for _ in range(YEARS)]
    assert np.mean(spending) <= 0.05
    assert np.mean(anew) > 0.2


def test_what_is_worse_is_still_found_in_the_last_week_of_a_year() -> None:
    last = Rules(alpha=spent(0.05, WEEKS), watches=True)
    assert judged(Pairs(wins=np.ones(25, bool)), last).act == "automatic_rollback"


def test_all_weeks_together_spend_alpha_and_no_more() -> None:
    parts = [spent(0.05, week) for week in range(1, 5_000)]
    assert parts == sorted(parts, reverse=True)
    assert 0.0499 < sum(parts) < 0.05
