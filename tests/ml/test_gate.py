"""The gate: it lets through what is proven good, and nothing else."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import binom

from mnist_pipeline.ml.gate import Comparison, WrongEvidence, check_evidence, compare, judge

NO_WORSE = Comparison(candidate_only=3, production_only=3, images=1_000, p_worse=0.66)
WORSE = Comparison(candidate_only=3, production_only=30, images=1_000, p_worse=1e-6)
GOOD = {"accuracy": 0.99, "macro_f1": 0.98}


# --- judge ---


@pytest.mark.parametrize("comparison", [None, NO_WORSE])
def test_a_candidate_above_every_minimum_is_deployed(comparison: Comparison | None) -> None:
    verdict = judge(GOOD, {"accuracy": 0.95, "macro_f1": 0.9}, comparison)
    assert verdict.deploy
    assert verdict.reason.startswith("deployed: accuracy 0.99 above 0.95, macro_f1 0.98 above 0.9; ")
    assert verdict.reason.endswith(comparison.sentence() if comparison else "nothing was in production")


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ({"macro_f1": 0.98}, "accuracy is not in the report"),
        ({"accuracy": math.nan}, "accuracy is nan"),
        ({"accuracy": math.inf}, "accuracy is inf"),
        ({"accuracy": 0.95}, "accuracy 0.95 is not above 0.95"),
        ({"accuracy": 0.94}, "accuracy 0.94 is not above 0.95"),
    ],
)
@pytest.mark.parametrize("comparison", [None, NO_WORSE])
def test_the_gate_fails_closed(metrics: dict[str, float], fault: str, comparison: Comparison | None) -> None:
    verdict = judge(metrics, {"accuracy": 0.95}, comparison)
    assert not verdict.deploy
    assert verdict.reason == f"not deployed: {fault}"


def test_a_minimum_that_is_no_number_lets_nothing_through() -> None:
    assert not judge(GOOD, {"accuracy": math.nan}, None).deploy


def test_a_candidate_worse_than_production_is_refused_however_good() -> None:
    verdict = judge(GOOD, {"accuracy": 0.95}, WORSE)
    assert not verdict.deploy
    assert verdict.reason == f"not deployed: {WORSE.sentence()}"


def test_all_faults_are_told_at_once() -> None:
    verdict = judge({"accuracy": 0.9}, {"accuracy": 0.95, "calibrated": 0.1}, WORSE)
    assert verdict.reason.split("; ") == [
        "not deployed: accuracy 0.9 is not above 0.95",
        "calibrated is not in the report",
        WORSE.sentence(),
    ]


def test_without_a_minimum_it_is_said_that_there_was_none() -> None:
    assert "no minimum was set" in judge(GOOD, {}, None).reason


def test_the_evidence_is_what_was_judged_and_fits_into_json() -> None:
    evidence = judge(GOOD, {"accuracy": 0.95}, WORSE).evidence
    assert (evidence["metrics"], evidence["minimums"]) == (GOOD, {"accuracy": 0.95})
    assert evidence["comparison"]["production_only"] == 30
    assert evidence["comparison"]["sentence"] == WORSE.sentence()
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert "comparison" not in judge(GOOD, {}, None).evidence


@given(
    metrics=st.dictionaries(st.sampled_from("abc"), st.floats()),
    minimums=st.dictionaries(st.sampled_from("abc"), st.floats(allow_nan=False)),
    worse=st.booleans(),
)
def test_nothing_is_deployed_unless_every_number_is_there_finite_and_above(
    metrics: dict[str, float], minimums: dict[str, float], worse: bool
) -> None:
    reached = all(
        name in metrics and math.isfinite(metrics[name]) and metrics[name] > least for name, least in minimums.items()
    )
    assert judge(metrics, minimums, WORSE if worse else NO_WORSE).deploy is (reached and not worse)


# --- compare ---

TRUTH = np.zeros(100, int)


def answers(wrong: slice) -> np.ndarray:
    labels = TRUTH.copy()
    labels[wrong] = 1
    return labels


def test_only_images_that_one_of_the_two_got_right_count() -> None:
    found = compare(TRUTH, answers(slice(0, 12)), answers(slice(10, 15)))
    assert (found.candidate_only, found.production_only, found.images) == (3, 10, 100)


@pytest.mark.parametrize(("candidate", "production"), [(0, 0), (1, 0), (5, 0), (4, 0), (0, 5), (8, 3), (20, 20)])
def test_the_p_value_is_that_of_mcnemars_exact_test(candidate: int, production: int) -> None:
    """candidate, production: how many images only this one got wrong."""
    found = compare(TRUTH, answers(slice(0, candidate)), answers(slice(candidate, candidate + production)))
    expected = binom.sf(candidate - 1, candidate + production, 0.5)
    assert found.p_worse == pytest.approx(expected)
    assert found.worse is bool(expected < 0.05)


@pytest.mark.parametrize("both", [slice(0, 0), slice(0, 100)], ids=["all right", "all wrong"])
def test_the_same_answers_are_no_worse(both: slice) -> None:
    found = compare(TRUTH, answers(both), answers(both))
    assert (found.candidate_only, found.production_only, found.p_worse, found.worse) == (0, 0, 1.0, False)


LABELS = st.integers(1, 60).flatmap(
    lambda count: st.tuples(*[arrays.arrays(np.int64, count, elements=st.integers(0, 3)) for _ in range(3)])
)


@given(LABELS)
def test_a_comparison_is_the_same_from_the_other_side(labels: tuple[np.ndarray, ...]) -> None:
    truth, one, other = labels
    there, back = compare(truth, one, other), compare(truth, other, one)
    assert (there.candidate_only, there.production_only) == (back.production_only, back.candidate_only)
    assert not (there.worse and back.worse)
    ties = binom.pmf(there.production_only, there.production_only + there.candidate_only, 0.5)
    assert there.p_worse + back.p_worse == pytest.approx(1 + ties)


def test_the_sentence_tells_a_person_which_way_it_went() -> None:
    assert WORSE.sentence().startswith("worse than production beyond noise: -2.70% on the same 1,000 images")
    assert NO_WORSE.sentence().startswith("not worse than production beyond noise: +0.00%")


# --- evidence ---

REPORT = {"model_digest": "m" * 64, "data_digest": "d" * 64}


def test_evidence_of_this_model_on_this_data_is_taken() -> None:
    check_evidence(REPORT, "m" * 64, "d" * 64)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({**REPORT, "model_digest": "x" * 64}, r"of another model \(xxxxxxxxxxxx, expected mmmmmmmmmmmm\)"),
        ({**REPORT, "data_digest": "x" * 64}, r"of another data \(xxxxxxxxxxxx, expected dddddddddddd\)"),
        ({"data_digest": "d" * 64}, r"of another model \(None, expected"),
        ({**REPORT, "data_digest": ("d" * 64)[:12]}, "of another data"),
        ({}, "materialize model_evaluation for this model first"),
    ],
    ids=["another model", "other data", "no model", "a shortened digest", "nothing"],
)
def test_evidence_of_something_else_is_refused(report: dict[str, str], message: str) -> None:
    with pytest.raises(WrongEvidence, match=message):
        check_evidence(report, "m" * 64, "d" * 64)
