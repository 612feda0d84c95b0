"""ab_report: what it reads from traffic and feedback, and the one decision that it makes of it, or none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pipelines import Pipeline, metadata

from mnist_pipeline.assets.contest import NOBODY
from mnist_pipeline.automation import contest_job
from mnist_pipeline.contests import contest_in, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, by_hand, record
from mnist_pipeline.ledger import Decision
from mnist_pipeline.sensors.contest import contests
from mnist_pipeline.sensors.findings import alerts_of
from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Parts, Predicted
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.traffic import Traffic

NAMES = [str(digit) for digit in range(10)]


@pytest.fixture
def contested(pipeline: Pipeline) -> tuple[Pipeline, str, str]:
    """With a version that competes."""
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    decide(pipeline, "challenge", other)
    return pipeline, str(pipeline.store.production()), other


def decide(pipeline: Pipeline, strategy: Any, version: str = "", **evidence: Any) -> Decision:
    case = Case.after(pipeline.store, pipeline.store.current())
    if strategy == "promotion":
        return record(case, Choice(strategy, version, "it was better"), evidence)
    return record(case, by_hand(case, strategy, version, "a test"), evidence)


def answered(
    state: Path,
    role: str,
    version: str,
    labels: list[int],
    *,
    confidence: float = 0.9,
    same: bool = False,
    first: int = 0,
) -> None:
    """A part of the log with a request for each label. same: always the same image."""
    log, at = PredictionLog(Parts(DiskShelf(state / "prediction_log"))), time.time()
    for i, label in enumerate(labels, first):
        image = np.full((1, 28, 28), 0 if same else i % 256, np.uint8)
        image[0, 0, 0] = 0 if same else i // 256
        shares = np.full((1, 10), (1 - confidence) / 9)
        shares[0, label] = confidence
        door = "predict"
        log.add(Predicted(at + i * 1e-3, f"r{i}", door, role, version, 2, NAMES, image, shares))
    log.flush()


def corrected(state: Path, labels: dict[int, str]) -> None:
    kept = Feedback(DiskShelf(state / "feedback"))
    for request, label in labels.items():
        kept.keep(str(request).encode(), "png", label, request_id=f"r{request}", model_version="")


def reported(pipeline: Pipeline, **config: Any) -> dict[str, Any]:
    return metadata(pipeline.run("ab_report", ab_report=config), "ab_report")


def serves(pipeline: Pipeline) -> tuple[str | None, str | None, str]:
    newest = pipeline.store.current()
    assert newest
    assert pipeline.store.verify_chain() == []
    return newest.serves, newest.challenger, newest.strategy


def traffic(pipeline: Pipeline) -> Traffic:
    return Traffic(DiskShelf(pipeline.state / "prediction_log"), DiskShelf(pipeline.state / "feedback"))


# --- what it decides ---


def test_without_a_challenger_it_says_so(pipeline: Pipeline) -> None:
    assert reported(pipeline)["sentence"] == NOBODY
    assert len(pipeline.store.decisions()) == 1


def test_without_traffic_the_contest_goes_on(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    said = reported(pipeline)
    assert (said["images"], said["advice"]) == (0, "go_on")
    assert serves(pipeline) == (first, other, "challenge")


def test_a_bad_challenger_is_withdrawn_and_everything_is_in_the_ledger(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [i % 10 for i in range(150)])
    answered(pipeline.state, "shadow", other, [(i + (i % 3 == 0)) % 10 for i in range(150)])
    said = reported(pipeline)
    assert (said["strategy"], said["decision"], said["images"]) == ("withdraw", 3, 150)
    assert "they disagree too often, shown after" in said["sentence"]
    assert serves(pipeline) == (first, None, "withdraw")
    evidence = pipeline.store.decisions()[-1].evidence
    assert evidence["differing_answers"] == pytest.approx(1 / 3)
    assert evidence["tests"]["they disagree too often"]["answered_after"] < 150
    assert pipeline.value("ab_report")["strategy"] == "withdraw"
    kept = pipeline.run("production_digit_classifier", production_digit_classifier={"strategy": "quality"})
    assert metadata(kept, "production_digit_classifier")["challenger"] == "nobody"


def test_it_only_says_so_where_it_may_not_act(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    said = reported(pipeline, act=False)
    assert (said["advice"], "strategy" in said) == ("withdraw", False)
    assert serves(pipeline) == (first, other, "challenge")
    assert reported(pipeline, act=False, disagreement=0.99)["advice"] == "go_on"


def test_who_is_shown_to_be_better_is_promoted_and_its_predecessor_watches_until_it_is_better(
    contested: tuple[Pipeline, str, str],
) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 30)
    answered(pipeline.state, "shadow", other, [2] * 30)
    corrected(pipeline.state, dict.fromkeys(range(28), "2"))
    assert reported(pipeline)["strategy"] == "promotion"
    assert serves(pipeline) == (other, first, "promotion")
    newest = pipeline.store.current()
    assert newest
    assert (newest.watches, newest.contest) == (True, 3)
    assert reported(pipeline)["sentence"].startswith("production holds its own against its predecessor")
    answered(pipeline.state, "champion", other, [5] * 30, first=100)
    answered(pipeline.state, "shadow", first, [6] * 30, first=100)
    corrected(pipeline.state, dict.fromkeys(range(100, 130), "6"))
    said = reported(pipeline)
    assert (said["strategy"], said["champion"]) == ("automatic_rollback", other)
    assert serves(pipeline) == (first, None, "automatic_rollback")
    again = pipeline.run("production_digit_classifier")
    assert metadata(again, "production_digit_classifier")["serves_now"] == first


def test_alike_and_passed_by_the_gate_is_promoted_without_a_word_of_people(pipeline: Pipeline) -> None:
    first = str(pipeline.store.production())
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    decide(pipeline, "challenge", other, against=first, passed=True)
    answered(pipeline.state, "champion", first, [i % 10 for i in range(600)])
    answered(pipeline.state, "shadow", other, [i % 10 for i in range(600)])
    assert reported(pipeline, least=601)["advice"] == "go_on"
    assert reported(pipeline)["strategy"] == "promotion"
    assert serves(pipeline) == (other, first, "promotion")


# --- what counts ---


def counted(contested: tuple[Pipeline, str, str], **more: Any) -> Any:
    pipeline, _, _ = contested
    contest = contest_in(pipeline.store)
    assert contest
    return pairs_of(contest, traffic(pipeline), now(), **more)


def test_an_image_that_is_asked_again_counts_once(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 500, same=True)
    answered(pipeline.state, "shadow", other, [2] * 500, same=True)
    assert len(counted(contested).unlike) == 1


def test_silence_counts_for_the_answer_that_was_shown_unless_labels_are_blind(
    contested: tuple[Pipeline, str, str],
) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 4)
    answered(pipeline.state, "shadow", other, [2] * 4)
    corrected(pipeline.state, {0: "2", 1: "1", 2: "7"})
    pairs = counted(contested)
    assert (pairs.wins.tolist(), pairs.losses.tolist(), pairs.labels) == ([True, False, False], [False, True], 3)
    assert counted(contested, only_corrections=False).wins.tolist() == [True, False]


def test_where_both_answer_people_each_is_paired_with_the_last_one_before_it(
    contested: tuple[Pipeline, str, str],
) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "challenger", other, [3] * 10, confidence=0.1)  # before any of the champion's
    answered(pipeline.state, "champion", first, [1] * 40, first=50)
    answered(pipeline.state, "challenger", other, [2] * 30, first=100, confidence=0.5)
    corrected(pipeline.state, dict.fromkeys(range(100, 120), "9"))
    pairs = counted(contested)
    assert (len(pairs.unlike), len(pairs.surer)) == (0, 30)
    assert pairs.surer.mean() == pytest.approx(-0.4)
    assert pairs.losses.sum() == 20
    assert reported(pipeline)["strategy"] == "withdraw"


def test_answers_of_others_and_from_before_do_not_count(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, _first, other = contested
    answered(pipeline.state, "champion", "another-1", [1] * 20)
    answered(pipeline.state, "shadow", other, [2] * 20)
    assert len(counted(contested).unlike) == 0


# --- by itself ---


def tick(pipeline: Pipeline, cursor: str | None = None) -> Any:
    resources = {name: (pipeline.definitions.resources or {})[name] for name in ("models", "served")}
    with dg.build_sensor_context(instance=pipeline.instance, cursor=cursor, resources=resources) as context:
        return contests(context)


def test_the_sensor_is_cheap_without_a_contest_and_asks_for_a_report_once_an_hour(
    contested: tuple[Pipeline, str, str],
) -> None:
    pipeline, _, _ = contested
    asked = tick(pipeline)
    assert len(asked.run_requests) == 1
    assert "neither side is shown" in str(tick(pipeline, asked.cursor).skip_message)
    decide(pipeline, "withdraw")
    assert tick(pipeline).skip_message == "nobody competes"


def test_evidence_is_acted_on_at_once_and_not_again_and_again(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    cursor = tick(pipeline).cursor
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    asked = tick(pipeline, cursor)
    assert len(asked.run_requests) == 1
    assert "asked for again in a while" in str(tick(pipeline, asked.cursor).skip_message)


def test_two_reports_are_never_made_at_once(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, _, _ = contested
    job = pipeline.definitions.resolve_job_def(contest_job.name)
    pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert tick(pipeline).skip_message == "a report is being made"


def alert_of(pipeline: Pipeline) -> tuple[str, str, str]:
    """Kind, title and cause of the one alert that a report leads to."""
    ran = pipeline.run("ab_report")
    run = pipeline.instance.get_run_by_id(ran.run_id)
    assert run
    events = [each.dagster_event for each in pipeline.instance.all_logs(ran.run_id) if each.dagster_event]
    (alert,) = alerts_of(run, events, "http://ui")
    return alert.kind, alert.title, alert.cause


def test_the_end_of_a_contest_is_told(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    kind, title, cause = alert_of(pipeline)
    assert (kind, title) == ("challenger_withdrawn", f"Challenger withdrawn: {other}")
    assert "they disagree too often" in cause


def test_a_promotion_is_told_and_so_is_that_it_was_taken_back(contested: tuple[Pipeline, str, str]) -> None:
    """Each names the version that it is about: who came, and who went."""
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 30)
    answered(pipeline.state, "shadow", other, [2] * 30)
    corrected(pipeline.state, dict.fromkeys(range(28), "2"))
    kind, title, cause = alert_of(pipeline)
    assert (kind, title) == ("challenger_promoted", f"Challenger promoted: {other}")
    assert "the challenger is right more often" in cause
    answered(pipeline.state, "champion", other, [5] * 30, first=100)
    answered(pipeline.state, "shadow", first, [6] * 30, first=100)
    corrected(pipeline.state, dict.fromkeys(range(100, 130), "6"))
    kind, title, cause = alert_of(pipeline)
    assert (kind, title) == ("rolled_back", f"Rolled back to its predecessor: {other}")
    assert "the predecessor is right more often" in cause
