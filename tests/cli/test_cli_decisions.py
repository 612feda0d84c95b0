"""`mnist-pipeline deploy`, `rollback` and `decisions`: exactly one decision, or none and a reason."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from shutil import rmtree

import pytest
from commands import document, nudged, rows, told
from digit_files import png, strokes
from people import answered
from pipelines import NIGHT, Pipeline, flip_a_bit

from mnist_pipeline.cli import decisions as commands_about_decisions
from mnist_pipeline.ml.predictor import ONNX
from mnist_pipeline.storage.blobs import DiskBlobs, StoreUnreachable
from mnist_pipeline.store import ModelStore


def count(pipeline: Pipeline) -> int:
    assert pipeline.store.verify_chain() == []
    return len(pipeline.store.decisions())


# --- deploy ---


def test_deploy_makes_one_decision_and_prints_it(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    result = told(pipeline, "deploy", other, "--reason", "reads sevens")
    assert result.exit_code == 0
    assert result.stdout == f"decision 2 was made: manual, reads sevens\nserves {other}, before {first}\n"
    assert result.stderr == f"in dev, {pipeline.state}/models\n"
    decision = pipeline.store.current()
    assert decision is not None
    assert (decision.number, decision.serves, decision.strategy) == (2, other, "manual")
    assert (decision.reason, decision.actor) == ("reads sevens", getpass.getuser())
    assert count(pipeline) == 2


def test_scripts_get_the_decision_as_it_stands_in_the_ledger(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    said = document(pipeline, "deploy", other)
    assert (said.pop("served_before"), said.pop("dry_run")) == (first, False)
    assert said == vars(pipeline.store.current())
    assert said["reason"] == "chosen by hand"


def test_force_is_recorded_as_such_and_needs_a_reason(pipeline: Pipeline) -> None:
    other = pipeline.variant(nudged(0.1))
    for reason in ([], ["--reason", ""], ["--reason", " "]):
        result = told(pipeline, "deploy", other, "--force", *reason)
        assert (result.exit_code, result.stdout) == (5, "")
        assert "needs a `reason`" in result.stderr
    assert count(pipeline) == 1
    assert document(pipeline, "deploy", other, "--force", "--reason", "must")["strategy"] == "force"


@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_a_dry_run_checks_everything_and_records_nothing(pipeline: Pipeline, command: str) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    said = document(pipeline, command, other, "--dry-run")
    assert (said["number"], said["serves"], said["served_before"], said["dry_run"]) == (2, other, first, True)
    assert "decision 2 would be made; nothing was recorded" in told(pipeline, command, other, "--dry-run").stdout
    flip_a_bit(pipeline.state / "models" / "versions" / other / ONNX)
    assert told(pipeline, command, other, "--dry-run").exit_code == 7
    assert count(pipeline) == 1


@pytest.mark.parametrize(("version", "code"), [("digitcnn-9", 4), ("../../x", 2), ("a/../b", 2), ("", 5)])
@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_what_is_no_stored_version_is_refused(pipeline: Pipeline, command: str, version: str, code: int) -> None:
    result = told(pipeline, command, version)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert count(pipeline) == 1


@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_a_damaged_version_is_never_deployed(pipeline: Pipeline, command: str) -> None:
    other = pipeline.variant(nudged(0.1))
    flip_a_bit(pipeline.state / "models" / "versions" / other / ONNX)
    result = told(pipeline, command, other)
    assert (result.exit_code, result.stdout) == (7, "")
    assert f"version {other}, {ONNX}" in result.stderr
    assert count(pipeline) == 1


def test_wrong_settings_are_told_before_anything_is_done(pipeline: Pipeline) -> None:
    version = pipeline.value("digit_classifier")
    unknown = told(pipeline, "deploy", version, MNIST_PIPELINE_ENV="test")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "MNIST_PIPELINE_ENV is one of dev, prod" in unknown.stderr
    missing = told(pipeline, "deploy", version, MNIST_PIPELINE_ENV="prod")
    assert missing.exit_code == 2
    assert "MNIST_S3_BUCKET: the bucket" in missing.stderr


# --- rollback ---


def test_rolling_back_twice_goes_two_back_and_then_there_is_nothing_left(pipeline: Pipeline) -> None:
    first = pipeline.value("digit_classifier")
    second, third = pipeline.variant(nudged(0.1)), pipeline.variant(nudged(0.2))
    for version in (second, third):
        assert told(pipeline, "deploy", version).exit_code == 0
    one = document(pipeline, "rollback")
    assert (one["serves"], one["strategy"], one["reason"]) == (second, "rollback", f"rolled back from {third}")
    assert document(pipeline, "rollback", "--reason", "both are bad")["serves"] == first
    assert pipeline.store.production() == first
    result = told(pipeline, "rollback")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "nothing to roll back to" in result.stderr
    assert count(pipeline) == 5
    assert document(pipeline, "rollback", third)["serves"] == third


def test_before_the_first_deployment_there_is_nothing_to_roll_back_to(fresh: Pipeline) -> None:
    assert told(fresh, "rollback").exit_code == 5


# --- races, and a ledger that is damaged ---


class Overtaken(DiskBlobs):
    """A store in which somebody else decides in the moment before each decision is written."""

    def create(self, key: str, data: bytes) -> None:
        if key.startswith("decisions/"):
            rival = ModelStore(DiskBlobs(self.root))
            newest = rival.decisions()[-1]
            same = {"serves": newest.serves, "candidate": newest.serves, "outcome": "deployed", "evidence": {}}
            rival.decide(**same, strategy="force", reason="I was first", actor="rival", expected=newest.number)
        super().create(key, data)


class Mute(DiskBlobs):
    """A store that loses the answer to a decision, which it has written."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        if key.startswith("decisions/"):
            raise StoreUnreachable("cannot write: no whole answer came")


def over(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, blobs: type[DiskBlobs]) -> None:
    """Have commands work over such a store."""
    store = ModelStore(blobs(Path(pipeline.state / "models")))
    monkeypatch.setattr(commands_about_decisions, "opened", lambda: store)


def test_who_loses_a_race_is_told_who_won(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    other = pipeline.variant(nudged(0.1))
    over(monkeypatch, pipeline, Overtaken)
    result = told(pipeline, "deploy", other)
    assert (result.exit_code, result.stdout) == (6, "")
    assert "decision 2 was made first: force by rival" in result.stderr
    assert "expected=2" in result.stderr
    assert count(pipeline) == 2


def test_whether_a_decision_without_an_answer_was_recorded_is_to_be_looked_up(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(monkeypatch, pipeline, Mute)
    result = told(pipeline, "deploy", pipeline.value("digit_classifier"))
    assert (result.exit_code, result.stdout) == (8, "")
    assert "whether the decision was recorded is not known: see `mnist-pipeline decisions`" in result.stderr


def test_who_names_the_newest_decision_decides_only_after_that_one(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    assert document(pipeline, "deploy", other, "--expected", "1")["number"] == 2
    late = told(pipeline, "deploy", first, "--expected", "1", "--dry-run")
    assert (late.exit_code, late.stdout) == (6, "")
    assert f"production serves {other}" in late.stderr
    early = told(pipeline, "rollback", "--expected", "3")
    assert early.exit_code == 5
    assert "--expected 3, but the newest decision is 2" in early.stderr
    assert count(pipeline) == 2


def test_a_damaged_newest_decision_can_be_overcome_by_naming_it(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    told(pipeline, "deploy", other)
    flip_a_bit(pipeline.state / "models" / "decisions" / "00000002.json")
    stuck = told(pipeline, "deploy", first)
    assert (stuck.exit_code, stuck.stdout) == (7, "")
    assert "decisions/00000002.json cannot be trusted" in stuck.stderr
    assert told(pipeline, "rollback", "--expected", "2").exit_code == 7  # what served before it cannot be told
    said = document(pipeline, "deploy", first, "--expected", "2")
    assert (said["number"], said["serves"], said["served_before"]) == (3, first, None)
    assert pipeline.store.production() == first


# --- decisions ---


def test_decisions_are_listed_the_newest_first(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    told(pipeline, "deploy", other, "--reason", "demo")
    head, *listed = rows(told(pipeline, "decisions"))
    assert head == ["no", "when (UTC)", "outcome", "strategy", "serves", "by", "reason", "challenger"]
    assert [row[0] for row in listed] == ["2", "1"]
    assert [*listed[0][2:5], listed[0][6]] == ["deployed", "manual", other, "demo"]
    said = document(pipeline, "decisions")
    assert (said["of"], said["problems"], said["verified"]) == (2, [], False)
    assert said["decisions"] == [vars(each) for each in reversed(pipeline.store.decisions())]
    limited = document(pipeline, "decisions", "--limit", "1")
    assert [each["number"] for each in limited["decisions"]] == [2]
    assert limited["of"] == 2
    assert first in told(pipeline, "decisions", "--limit", "9").stdout
    assert told(pipeline, "decisions", "--limit", "0").exit_code == 2


def test_none_is_no_fault(fresh: Pipeline) -> None:
    result = told(fresh, "decisions", "--verify")
    assert (result.exit_code, result.stdout) == (0, "no decisions yet\n")


def test_a_whole_chain_is_said_to_be_whole(finished: Pipeline) -> None:
    result = told(finished, "decisions", "--verify")
    assert result.exit_code == 0
    assert result.stderr == (
        "decisions in the ledger: 1, none changed, none missing between; "
        "nothing was answered since that would know of any cut off their end\n"
    )
    assert document(finished, "decisions", "--verify")["verified"] is True


def test_each_problem_of_the_chain_is_named(pipeline: Pipeline) -> None:
    for reason in ("one", "two", "three"):
        told(pipeline, "deploy", pipeline.value("digit_classifier"), "--reason", reason)
    folder = pipeline.state / "models" / "decisions"
    flip_a_bit(folder / "00000002.json")
    listed = told(pipeline, "decisions")
    assert listed.exit_code == 1
    assert [row[0] for row in rows(listed)[1:]] == ["4", "3", "1"]
    assert "decisions/00000002.json cannot be trusted" in listed.stderr
    assert told(pipeline, "decisions", "--limit", "2").exit_code == 0  # that one is not looked at
    (folder / "00000003.json").unlink()
    result = told(pipeline, "decisions", "--verify", "--limit", "1")
    assert result.exit_code == 1
    problems = pipeline.store.verify_chain()
    assert len(problems) == 2
    assert all(problem in result.stderr for problem in problems)
    assert document(pipeline, "decisions", "--verify", code=1)["problems"] == problems


def test_a_ledger_whose_end_was_cut_off_is_told_by_what_was_answered(pipeline: Pipeline) -> None:
    """No chain can know; the night and the service do."""
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    assert document(pipeline, "deploy", other)["number"] == 2
    answered(pipeline.state, "r-1", strokes(1), [1], version=other, decision=2)
    answered(pipeline.state, "r-2", strokes(1), [1], version="v-9", decision=2, role="shadow")
    assert told(pipeline, "decisions", "--verify").exit_code == 0
    (pipeline.state / "models" / "decisions" / "00000002.json").unlink()
    assert pipeline.store.verify_chain() == []
    (problem,) = document(pipeline, "decisions", "--verify", code=1)["problems"]
    assert problem.startswith("cut off: ")
    assert "was answered under decision 2, and the newest is 1" in problem
    document(pipeline, "deploy", first, "--reason", "something else")
    (problem,) = document(pipeline, "decisions", "--verify", code=1)["problems"]
    assert f"was answered by {other} under decision 2, which has {first} serve" in problem
    assert told(pipeline, "decisions").exit_code == 0  # who only lists asks nobody


def test_how_far_the_end_is_known_is_told_and_without_a_witness_nothing_is_claimed_of_it(pipeline: Pipeline) -> None:
    name = pipeline.value("digit_classifier")
    for reason in ("one", "two"):
        document(pipeline, "deploy", name, "--reason", reason)
    answered(pipeline.state, "r-1", strokes(1), [1], version=name, decision=3)
    assert "answers know of none later than 3; whether any" in told(pipeline, "decisions", "--verify").stderr
    (pipeline.state / "models" / "decisions" / "00000003.json").unlink()
    assert told(pipeline, "decisions", "--verify").exit_code == 1
    rmtree(pipeline.state / "prediction_log")  # and with it whoever knew
    result = told(pipeline, "decisions", "--verify")
    assert (result.exit_code, "nothing was answered since" in result.stderr) == (0, True)


@pytest.mark.parametrize(("earlier", "code"), [(60.0, 0), (3_600.0, 1)])
def test_a_newest_decision_put_in_place_of_one_of_the_same_version_is_told_by_its_time(
    pipeline: Pipeline, earlier: float, code: int
) -> None:
    """Clocks may differ by minutes."""
    name = pipeline.value("digit_classifier")
    answered(pipeline.state, "r-1", strokes(1), [1], version=name, decision=2, at=time.time() - earlier)
    document(pipeline, "deploy", name, "--reason", "another story")
    result = told(pipeline, "decisions", "--verify")
    assert result.exit_code == code
    assert ("replaced: " in result.stderr and "under decision 2, which was made at" in result.stderr) is bool(code)


def test_a_night_is_a_witness_too(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    document(pipeline, "deploy", other)
    pipeline.inbox.mkdir()
    (pipeline.inbox / "a.png").write_bytes(png(strokes(1)[0]))
    pipeline.run("batch_digit_predictions", night=NIGHT)
    assert told(pipeline, "decisions", "--verify").exit_code == 0
    (pipeline.state / "models" / "decisions" / "00000002.json").unlink()
    (problem,) = document(pipeline, "decisions", "--verify", code=1)["problems"]
    assert problem.startswith(f"cut off: night {NIGHT} was answered under decision 2")
    document(pipeline, "deploy", first)
    (problem,) = document(pipeline, "decisions", "--verify", code=1)["problems"]
    assert problem.startswith(f"replaced: night {NIGHT} was answered by {other}")


def test_a_part_of_the_log_that_is_damaged_is_no_fault_of_the_ledger(pipeline: Pipeline) -> None:
    answered(pipeline.state, "r-1", strokes(1), [1], version=pipeline.value("digit_classifier"))
    (part,) = (pipeline.state / "prediction_log").rglob("*.parquet")
    part.write_bytes(b"PAR1")
    result = told(pipeline, "decisions", "--verify")
    assert result.exit_code == 0
    assert f"{part} cannot be read" in result.stderr


def test_a_store_that_cannot_be_read_is_told(fresh: Pipeline) -> None:
    (fresh.state / "models").mkdir(parents=True)
    (fresh.state / "models" / "decisions").symlink_to("decisions")  # leads to itself
    result = told(fresh, "decisions")
    assert (result.exit_code, result.stdout) == (8, "")
    assert result.stderr.startswith("error: cannot ")


# --- challengers ---


def test_a_challenge_and_its_end_are_one_decision_each(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    would = document(pipeline, "challenge", other, "--dry-run")
    assert (would["serves"], would["challenger"], would["dry_run"]) == (first, other, True)
    said = told(pipeline, "challenge", other, "--reason", "newer").stdout
    assert said == f"decision 2 was made: challenge, newer\nserves {first}, before {first}\nchallenger {other}\n"
    assert other in rows(told(pipeline, "decisions"))[1]
    assert told(pipeline, "challenge", other).exit_code == 5
    assert told(pipeline, "withdraw", "--expected", "1").exit_code == 6
    ended = document(pipeline, "withdraw")
    assert (ended["serves"], ended["challenger"], ended["candidate"]) == (first, None, other)
    assert told(pipeline, "withdraw").exit_code == 5
    assert told(pipeline, "decisions", "--verify").exit_code == 0
    assert count(pipeline) == 3
