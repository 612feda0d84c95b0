"""ab_report: what it reads from traffic and feedback, and the one decision that it makes of it, or none."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from people import in_a_file
from pipelines import Pipeline, metadata

from mnist_pipeline.assets.contest import ASKED_AS, NOBODY, looked_at
from mnist_pipeline.automation import contest_job
from mnist_pipeline.contests import WATCHED, contest_in, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, by_hand, record
from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.sequential import spent
from mnist_pipeline.sensors import contest as contest_sensor
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


def answered_many(state: Path, role: str, version: str, request_id: str, labels: list[int]) -> None:
    """One request with several images."""
    log = PredictionLog(Parts(DiskShelf(state / "prediction_log")))
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(len(labels))
    shares = np.eye(10)[labels]
    log.add(Predicted(time.time(), request_id, "predict", role, version, 2, NAMES, images, shares))
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


@pytest.mark.parametrize("with_a_share", [False, True])
def test_alike_and_passed_by_the_gate_is_promoted_without_a_word_of_people(
    pipeline: Pipeline, with_a_share: bool
) -> None:
    first = str(pipeline.store.production())
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    decide(pipeline, "challenge", other, against=first, passed=True)
    answered(pipeline.state, "champion", first, [i % 10 for i in range(600)])
    answered(pipeline.state, "shadow", other, [i % 10 for i in range(600)])
    answered(pipeline.state, "challenger", other, [i % 10 for i in range(60 * with_a_share)], first=1_000)
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
    """Nothing is said by silence, for the answers of both were shown; nor by other images on how alike they are."""
    pipeline, first, other = contested
    answered(pipeline.state, "challenger", other, [3] * 10, confidence=0.1)  # before any of the champion's
    answered(pipeline.state, "champion", first, [1] * 40, first=50)
    answered(pipeline.state, "challenger", other, [2] * 30, first=100, confidence=0.5)
    corrected(pipeline.state, dict.fromkeys(range(100, 120), "9"))
    pairs = counted(contested)
    assert (len(pairs.unlike), len(pairs.surer), pairs.labels) == (0, 0, 20)
    assert pairs.beside.tolist() == [False] * 20
    assert len(counted(contested, only_corrections=False).beside) == 0  # nobody has labelled both of a pair
    said = reported(pipeline)
    assert (said["strategy"], "wrong more often, each on requests of its own" in said["sentence"]) == ("withdraw", True)


def test_a_challenger_with_a_share_is_judged_on_what_it_answered_in_the_shadow_of_the_others_too(
    contested: tuple[Pipeline, str, str],
) -> None:
    """Of 60 requests the champion answers 50, the challenger 10; people correct two of each."""
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 50)
    answered(pipeline.state, "shadow", other, [2] * 25 + [1] * 25, confidence=0.5)
    answered(pipeline.state, "challenger", other, [3] * 10, first=100)
    corrected(pipeline.state, {0: "2", 49: "7", 100: "9", 101: "9"})
    pairs = counted(contested)
    assert (len(pairs.unlike), pairs.unlike.sum()) == (50, 25)
    assert pairs.surer.mean() == pytest.approx(-0.4)
    assert (len(pairs.wins), pairs.wins.sum(), pairs.losses.tolist()) == (25, 1, [False])
    assert pairs.beside.tolist() == [False]  # 101 beside 48, which nobody put right; of 100 and 49 neither was right
    assert pairs.labels == 4
    assert reported(pipeline)["strategy"] == "withdraw"


def test_answers_of_others_and_from_before_do_not_count(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, _first, other = contested
    answered(pipeline.state, "champion", "another-1", [1] * 20)
    answered(pipeline.state, "shadow", other, [2] * 20)
    assert len(counted(contested).unlike) == 0


def test_labels_in_a_file_count_like_those_of_the_page_and_before_them(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 4)
    answered(pipeline.state, "shadow", other, [2] * 4)
    corrected(pipeline.state, {0: "1"})
    in_a_file(pipeline.state, "x.csv", "request_id,label", "r0,2", "r1,2", "r2,1", "elsewhere,3")
    in_a_file(pipeline.state, "y.csv", "file,label", "night.png,2")
    pairs = counted(contested)
    assert (pairs.wins.tolist(), pairs.losses.tolist(), pairs.labels) == (
        [True, True, False, False],
        [False, False, True],
        3,
    )


def test_a_label_may_say_which_image_of_a_request_it_is_about(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered_many(pipeline.state, "champion", first, "many", [1, 1, 1])
    answered_many(pipeline.state, "shadow", other, "many", [2, 2, 2])
    in_a_file(pipeline.state, "x.csv", "request_id,label", "many,2")  # which of the three?
    assert counted(contested).labels == 0
    in_a_file(pipeline.state, "y.csv", "request_id,label,index", "many,2,1")
    pairs = counted(contested)
    assert (pairs.wins.tolist(), pairs.labels) == ([False, True, False], 1)


def test_what_the_gate_has_seen_is_tolerable(pipeline: Pipeline) -> None:
    """It is better on a tenth of all images, so that much they are bound to disagree."""
    first = str(pipeline.store.production())
    other = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    saw = {"candidate_only": 34, "production_only": 2, "images": 360}
    decide(pipeline, "challenge", other, against=first, passed=True, comparison=saw)
    answered(pipeline.state, "champion", first, [0] * 400)
    answered(pipeline.state, "shadow", other, [int(i % 10 == 0) for i in range(400)])
    said = reported(pipeline, act=False)
    assert (said["advice"], said["tolerable"]) == ("go_on", pytest.approx(0.15))
    assert reported(pipeline, act=False, disagreement=0.001)["advice"] == "go_on"
    answered(pipeline.state, "champion", first, [0] * 200, first=400)
    answered(pipeline.state, "shadow", other, [1] * 200, first=400)
    assert reported(pipeline)["strategy"] == "withdraw"


def test_each_week_of_watching_begins_anew_with_less_of_alpha(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    decide(pipeline, "promotion", other)
    answered(pipeline.state, "champion", other, [1] * 9)
    answered(pipeline.state, "shadow", first, [2] * 9)
    corrected(pipeline.state, dict.fromkeys(range(9), "2"))
    contest = contest_in(pipeline.store)
    assert contest
    rules = pipeline.judging.of_contests()
    begun = datetime.fromisoformat(contest.began.time)
    alphas = []
    for week in range(3):
        at = begun + week * WATCHED + timedelta(hours=1)
        pairs, finding = looked_at(pipeline.store, contest, traffic(pipeline), at, **rules)
        assert (contest.week(at), len(pairs.wins)) == (week + 1, 9 if week == 0 else 0)
        alphas.append(sum(each.alpha for each in finding.tests))
    assert alphas == pytest.approx([spent(0.05, week) for week in (1, 2, 3)])
    assert reported(pipeline)["strategy"] == "automatic_rollback"


# --- what the environment says ---


@pytest.mark.parametrize(
    ("env", "advice"),
    [
        ({}, "withdraw"),
        ({"MNIST_CONTEST_DISAGREEMENT": "0.5"}, "go_on"),
        ({"MNIST_CONTEST_DISAGREEMENT": "0.5", "MNIST_CONTEST_LESS_SURE": "0"}, "withdraw"),
        ({"MNIST_CONTEST_ALPHA": "1e-6"}, "go_on"),
    ],
)
def test_the_rules_are_those_of_the_environment_for_the_report_and_the_sensor(
    contested: tuple[Pipeline, str, str], env: dict[str, str], advice: str, tmp_path: Path
) -> None:
    _, first, other = contested
    pipeline = contested[0].copy(tmp_path / "copy", **env)
    answered(pipeline.state, "champion", first, [1] * 40)
    answered(pipeline.state, "shadow", other, [2] * 5 + [1] * 35, confidence=0.885)
    answered(pipeline.state, "champion", first, [1] * 400, first=100)
    answered(pipeline.state, "shadow", other, [1] * 400, first=100, confidence=0.885)
    assert reported(pipeline, act=False)["advice"] == advice
    tick(pipeline)
    assert serves(pipeline)[2] == ("withdraw" if advice == "withdraw" else "challenge")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MNIST_CONTEST_ALPHA", "0.6", "it is 1e-06 to 0.5"),
        ("MNIST_CONTEST_ALPHA", "nan", "it is 1e-06 to 0.5"),
        ("MNIST_CONTEST_DISAGREEMENT", "5 %", "is no number"),
        ("MNIST_CONTEST_LESS_SURE", "-1", "it is 0 to 0.9"),
        ("MNIST_CONTEST_LEAST_IMAGES", "1.5", "it is a whole number"),
        ("MNIST_CONTEST_LABELS", "all", "it is one of corrections, sampled"),
        ("MNIST_GATE_MARGIN", "0.6", "it is 0 to 0.5"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_its_name(tmp_path: Path, variable: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}.*{said}"):
        Pipeline(tmp_path, **{variable: value})


def test_how_many_images_and_what_silence_means_are_for_the_environment_too(
    contested: tuple[Pipeline, str, str], tmp_path: Path
) -> None:
    given = {"MNIST_CONTEST_LEAST_IMAGES": "9", "MNIST_CONTEST_LABELS": "sampled"}
    rules = contested[0].copy(tmp_path / "copy", **given).judging.of_contests({"least": None, "alpha": 0.01})
    assert (rules["least"], rules["only_corrections"], rules["alpha"]) == (9, False, 0.01)
    assert contested[0].judging.of_contests()["only_corrections"] is True


# --- by itself ---


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each tick, and none that has to wait because the one before took a while."""
    monkeypatch.setattr("mnist_pipeline.sensors.contest.LOOKS_S", (0.0,))
    monkeypatch.setattr("mnist_pipeline.sensors.contest.PAUSES", 0)


def tick(pipeline: Pipeline, cursor: str | None = None) -> Any:
    resources = {name: (pipeline.definitions.resources or {})[name] for name in ("models", "served", "judging")}
    with dg.build_sensor_context(instance=pipeline.instance, cursor=cursor, resources=resources) as context:
        return contests(context)


def why_not(ticked: Any) -> str:
    """Why nothing was asked for."""
    assert ticked.run_requests == []
    return str(ticked.skip_reason.skip_message)


def test_the_sensor_is_cheap_without_a_contest_and_asks_for_a_report_once_an_hour(
    contested: tuple[Pipeline, str, str],
) -> None:
    pipeline, _, _ = contested
    asked = tick(pipeline)
    assert len(asked.run_requests) == 1
    assert "neither side is shown" in why_not(tick(pipeline, asked.cursor))
    decide(pipeline, "withdraw")
    assert why_not(tick(pipeline)) == "nobody competes"


def test_evidence_is_acted_on_at_once_and_told_once(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    cursor = tick(pipeline).cursor
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    asked = tick(pipeline, cursor)
    assert serves(pipeline) == (first, None, "withdraw")
    (request,) = asked.run_requests
    again = tick(pipeline, cursor)  # as if the tick had broken off after its decision
    assert [each.run_key for each in again.run_requests] == [request.run_key]
    assert why_not(tick(pipeline, asked.cursor)) == "nobody competes"
    assert len(pipeline.store.decisions()) == 3


def test_what_the_sensor_has_decided_is_reported_with_its_evidence(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    (request,) = tick(pipeline).run_requests
    job = pipeline.definitions.resolve_job_def(contest_job.name)
    assert request.tags == {ASKED_AS: "contests/2"}
    ran = job.execute_in_process(instance=pipeline.instance, tags=request.tags)
    said = metadata(ran, "ab_report")
    assert (said["strategy"], said["decision"], said["images"], said["challenger"]) == ("withdraw", 3, 60, other)
    assert "they disagree too often" in said["sentence"]
    assert "evidence" in said
    assert len(pipeline.store.decisions()) == 3


def test_who_decides_while_the_sensor_looks_wins(
    contested: tuple[Pipeline, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, first, other = contested
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    looked = contest_sensor.looked_at

    def meanwhile(*given: Any, **rules: Any) -> Any:
        found = looked(*given, **rules)
        decide(pipeline, "manual", other)
        return found

    monkeypatch.setattr(contest_sensor, "looked_at", meanwhile)
    assert "decision 3 was made first: manual" in why_not(tick(pipeline))
    assert serves(pipeline) == (other, None, "manual")


def test_after_a_look_that_took_long_the_next_has_to_wait(
    contested: tuple[Pipeline, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, first, other = contested
    monkeypatch.setattr(contest_sensor, "PAUSES", 1e6)
    cursor = tick(pipeline).cursor
    answered(pipeline.state, "champion", first, [1] * 60)
    answered(pipeline.state, "shadow", other, [2] * 60)
    assert "took a while" in why_not(tick(pipeline, cursor))
    assert serves(pipeline) == (first, other, "challenge")


def test_two_reports_are_never_made_at_once(contested: tuple[Pipeline, str, str]) -> None:
    pipeline, _, _ = contested
    job = pipeline.definitions.resolve_job_def(contest_job.name)
    pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert why_not(tick(pipeline)) == "a report is being made"


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
