"""The gate: it lets through what is proven good, and nothing else."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.ml.gate import Incomparable, Unopposed, WrongEvidence, check_evidence, judge
from mnist_pipeline.ml.paired import Comparison

BETTER = Comparison(30, 3, 1_000, p_better=1e-6, p_worse=1.0, margin=0.0, p_within=1e-6)
NOISE = Comparison(3, 3, 1_000, p_better=0.66, p_worse=0.66, margin=0.0, p_within=0.66)
WITHIN = Comparison(3, 3, 1_000, p_better=0.66, p_worse=0.66, margin=0.01, p_within=0.001)
WORSE = Comparison(3, 30, 1_000, p_better=1.0, p_worse=1e-6, margin=0.0, p_within=1.0)
GOOD = {"accuracy": 0.99, "macro_f1": 0.98}
FIRST = Unopposed("nothing was in production")


# --- judge ---


@pytest.mark.parametrize("compared", [FIRST, BETTER, WITHIN])
def test_a_candidate_above_every_minimum_is_deployed(compared: Comparison | Unopposed) -> None:
    verdict = judge(GOOD, {"accuracy": 0.95, "macro_f1": 0.9}, compared)
    assert verdict.deploy
    assert verdict.reason.startswith("deployed: accuracy 0.99 above 0.95, macro_f1 0.98 above 0.9; ")
    assert verdict.reason.endswith(
        compared.sentence() if isinstance(compared, Comparison) else "nothing was in production"
    )


@pytest.mark.parametrize("minimums", [{}, {"accuracy": 0.95}, {"accuracy": 0.995}])
def test_whoever_could_not_be_compared_with_production_is_refused_however_good(minimums: dict[str, float]) -> None:
    verdict = judge(GOOD, minimums, Incomparable("production could not be asked"))
    assert not verdict.deploy
    assert verdict.reason.startswith("not deployed: ")
    assert verdict.reason.endswith("production could not be asked")
    assert verdict.evidence["not_compared"] == "production could not be asked"


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
@pytest.mark.parametrize("compared", [FIRST, BETTER, WITHIN])
def test_the_gate_fails_closed(metrics: dict[str, float], fault: str, compared: Comparison | Unopposed) -> None:
    verdict = judge(metrics, {"accuracy": 0.95}, compared)
    assert not verdict.deploy
    assert verdict.reason == f"not deployed: {fault}"


def test_a_minimum_that_is_no_number_lets_nothing_through() -> None:
    assert not judge(GOOD, {"accuracy": math.nan}, FIRST).deploy


def test_a_candidate_worse_than_production_is_refused_however_good() -> None:
    verdict = judge(GOOD, {"accuracy": 0.95}, WORSE)
    assert not verdict.deploy
    assert verdict.reason == f"not deployed: {WORSE.sentence()}"


def test_a_difference_within_noise_keeps_production_and_says_so() -> None:
    """Not as a fault: nothing is wrong with the candidate, and nobody has to be told at night."""
    verdict = judge(GOOD, {"accuracy": 0.95}, NOISE)
    assert not verdict.deploy
    assert verdict.reason == (
        "kept: no better than production beyond noise, so production stays: +0.00% on the same 1,000 images "
        "(only the candidate right on 3, only production on 3, p = 0.660)"
    )
    assert judge({"accuracy": 0.9}, {"accuracy": 0.95}, NOISE).reason.startswith("not deployed: accuracy 0.9 is not")


def test_all_faults_are_told_at_once() -> None:
    verdict = judge({"accuracy": 0.9}, {"accuracy": 0.95, "calibrated": 0.1}, WORSE)
    assert verdict.reason.split("; ") == [
        "not deployed: accuracy 0.9 is not above 0.95",
        "calibrated is not in the report",
        WORSE.sentence(),
    ]


def test_without_a_minimum_it_is_said_that_there_was_none() -> None:
    assert "no minimum was set" in judge(GOOD, {}, FIRST).reason


def test_the_evidence_is_what_was_judged_and_fits_into_json() -> None:
    evidence = judge(GOOD, {"accuracy": 0.95}, WORSE).evidence
    assert (evidence["metrics"], evidence["minimums"]) == (GOOD, {"accuracy": 0.95})
    assert evidence["comparison"]["production_only"] == 30
    assert evidence["comparison"]["sentence"] == WORSE.sentence()
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert (evidence["comparison"]["p_worse"], evidence["comparison"]["passes"]) == (1e-6, False)
    alone = judge(GOOD, {}, FIRST).evidence
    assert (alone["not_compared"], "comparison" in alone) == (FIRST.why, False)


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
    assert judge(metrics, minimums, WORSE if worse else BETTER).deploy is (reached and not worse)


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
