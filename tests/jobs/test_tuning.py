"""The job `tuning`, run as people run it: with a configuration, against a state folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import BARELY, DATA, Pipeline, at_home, call
from studied import failure, kept, steps, studies, study, tune

from mnist_pipeline.files import AssetFiles
from mnist_pipeline.jobs.targets import names, target_named
from mnist_pipeline.jobs.tuning import compare_with_current
from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.digits import DigitData, to_tensors
from mnist_pipeline.ml.tuning.network import SPACE
from mnist_pipeline.studies import FAILED, PRUNED, RUNNING, SCORED

HASTY = {**BARELY, "learning_rate": 6e-4}  # hardly learns anything: nearly every other configuration is better
MISSING = "cuda" if sys.platform == "darwin" else "mps"  # a device that this machine does not have


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The embedded digits, split, and nothing trained."""
    made = Pipeline(tmp_path_factory.mktemp("cut") / "state")
    made.run(*DATA)
    return made


@pytest.fixture
def own(cut: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of it to work on."""
    return cut.copy(tmp_path / "state")


def put(pipeline: Pipeline, data: DigitData) -> None:
    """In the place of what processed_mnist_data has made."""
    from safetensors.numpy import save

    arrays, origin = to_tensors(data)
    shelf = (pipeline.definitions.resources or {})["io_manager"].open()
    AssetFiles(shelf).shelf.put("processed_mnist_data.safetensors", save(arrays, origin))


# --- fanning out ---


def test_as_many_trials_as_asked_for_each_a_step_and_today_first(own: Pipeline) -> None:
    result = tune(own, 3)
    assert result.success
    assert steps(result, "STEP_SUCCESS").count("try_configuration") == 3
    trials = study(own).trials()
    assert [trial.state for trial in trials] == [SCORED] * 3
    assert trials[0].settings == configure("fast", **BARELY).model_dump()
    assert [trial.step for trial in trials] == [f"try_configuration[00{i}]" for i in range(3)]
    for trial in trials[1:]:
        changed = {name for name, value in trial.settings.items() if value != trials[0].settings[name]}
        assert changed <= SPACE.keys() - BARELY.keys()
        assert len(changed) > 3


@pytest.mark.slow
def test_a_bad_trial_ends_early_and_counts_as_pruned_and_not_as_failed(own: Pipeline) -> None:
    result = tune(own, 9)
    assert result.success
    pruned = [trial for trial in study(own).trials() if trial.state == PRUNED]
    assert pruned
    assert all("is behind the median of the others" in trial.reason for trial in pruned)
    told = result.output_for_node("rank_trials")
    facts = [event.step_output_data for event in result.all_events if event.is_successful_output]
    (ranking,) = (each.metadata for each in facts if each.step_output_handle.step_key == "rank_trials")
    assert (ranking["tried"].value, ranking["pruned"].value, ranking["failed"].value) == (9, len(pruned), 0)
    assert str(ranking["trials"].value).count("pruned: ") == len(pruned)
    assert told["best"] == study(own).ranked()[0].number


def test_no_trial_begins_when_the_time_is_up_but_the_first(own: Pipeline) -> None:
    result = tune(own, 4, seconds=1e-6)
    assert result.success
    assert len(study(own).trials()) == 1
    assert own.messages(result).count("not begun: the time is up") == 3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_study_and_another_seed_another(cut: Pipeline, tmp_path: Path) -> None:
    def scores(name: str, seed: int) -> list[tuple[dict[str, Any], Any]]:
        there = cut.copy(tmp_path / name)
        assert tune(there, 2, seed=seed).success
        return [(trial.settings, trial.scored) for trial in study(there).trials()]

    first = scores("first", 1)
    assert scores("again", 1) == first
    assert scores("other", 2)[1:] != first[1:]


# --- the data ---


def test_the_test_images_are_never_looked_at(own: Pipeline) -> None:
    data = own.digits()
    put(own, DigitData({name: data[name] for name in ("train", "validation")}, data.origin))
    assert tune(own, 2).success


def test_other_data_is_another_study(own: Pipeline) -> None:
    assert tune(own, 1).success
    own.run("processed_mnist_data", processed_mnist_data={"seed": 1})
    assert tune(own, 1).success
    found = studies(own).all()
    assert len({each.facts["data_version"] for each in found}) == 2
    assert [len(each.trials()) for each in found] == [1, 1]


def test_without_data_it_says_what_to_materialize(fresh: Pipeline) -> None:
    result = tune(fresh, 2)
    assert not result.success
    assert "processed_mnist_data has no value yet" in failure(result)


def test_data_that_changes_under_a_study_is_noticed(own: Pipeline) -> None:
    ranked = tune(own, 1).output_for_node("rank_trials")
    own.run("processed_mnist_data", processed_mnist_data={"seed": 1})
    resources = own.definitions.resources or {}
    values, tuning = AssetFiles(resources["io_manager"].open()), resources["tuning"]
    with pytest.raises(dg.Failure, match="has changed since the study was begun"):
        list(compare_with_current(dg.build_op_context(), ranked=ranked, io_manager=values, tuning=tuning))


# --- going on ---


@pytest.mark.slow
def test_a_later_run_goes_on_and_tries_today_only_once(own: Pipeline) -> None:
    tune(own, 2)
    before = study(own).trials()
    result = tune(own, 2)
    trials = study(own).trials()
    assert trials[:2] == before
    assert len(trials) == 4
    assert [trial.settings for trial in trials].count(before[0].settings) == 1
    assert any("2 trials before this run" in line for line in own.messages(result))


def test_a_trial_whose_run_is_gone_does_not_run_for_ever(own: Pipeline) -> None:
    tune(own, 1)
    plan = study(own).trials()[0].settings
    study(own).ask(SPACE, plan, "0", "a run that nobody knows", "try_configuration[000]")
    assert study(own).trials()[1].state == RUNNING
    result = tune(own, 1)
    assert (study(own).trials()[1].state, study(own).trials()[1].reason) == (FAILED, "its run ended without a word")
    assert "trial 1 is noted as failed: its run ended without a word" in own.messages(result)


# --- hooks, and what fails ---


def test_after_each_trial_its_score_and_rank_are_told(own: Pipeline) -> None:
    result = tune(own, 2)
    best, last = study(own).ranked()
    said = [line for line in own.messages(result) if "so far; best: trial" in line]
    assert len(said) == 2
    assert said[0].startswith("trial 0: ")
    assert "rank 1 of 1 so far" in said[0]
    assert f"rank {1 if best.number == 1 else 2} of 2 so far; best: trial {best.number} with" in said[1]
    assert last.scored


def test_when_every_trial_fails_the_run_does_and_says_why(own: Pipeline) -> None:
    result = tune(own, 2, fixed={**BARELY, "device": MISSING})
    assert steps(result, "STEP_FAILURE") == ["rank_trials"]
    assert "no trial of this run could be scored:\ntrial 0: ValueError: device" in failure(result)
    assert [trial.state for trial in study(own).trials()] == [FAILED, FAILED]


def test_a_fault_of_the_program_fails_the_step_and_its_trial_is_told(own: Pipeline) -> None:
    data = own.digits()
    put(own, DigitData(data.parts, replace(data.origin, class_names=("0", "1"))))  # labels go up to 9
    result = tune(own, 2)
    assert steps(result, "STEP_FAILURE").count("try_configuration") == 2
    trials = study(own).trials()
    assert [trial.state for trial in trials] == [FAILED, FAILED]
    assert all(trial.reason.startswith("its step failed: IndexError: Target") for trial in trials)


def test_a_wrong_setting_is_named_before_anything_is_tried(own: Pipeline) -> None:
    result = tune(own, 2, fixed={"widht_1": 4})
    assert steps(result, "STEP_FAILURE") == ["start_study"]
    assert "widht_1" in failure(result)
    assert studies(own).all() == []


def test_a_name_that_cannot_be_tuned_is_refused() -> None:
    with pytest.raises(ValueError, match="'digits' cannot be tuned; what can: digit_classifier, breast_cancer/"):
        target_named("digits")
    orders = {name: "orders" for name in names() if name.startswith("superstore/")}
    assert [target_named(name, orders.get(name, "")).name for name in names()] == names()


# --- the branch ---


def test_where_nothing_is_better_today_stays_and_it_is_said_why(own: Pipeline) -> None:
    result = tune(own, 1)
    assert "keep_configuration" in steps(result, "STEP_SKIPPED")
    assert result.output_for_node("leave_configuration").startswith("none of 0 others has a higher validation accuracy")
    assert not (own.state / "tuning" / "best").exists()


@pytest.fixture(scope="session")
def tuned(cut: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, dg.ExecuteInProcessResult]:
    """A version that hardly learned anything, and what tuning made of it."""
    there = cut.copy(tmp_path_factory.mktemp("tuned") / "state")
    there.run("digit_classifier", digit_classifier=HASTY)
    return there, tune(there, 4, fixed={})


Tuned = tuple[Pipeline, dg.ExecuteInProcessResult]


@pytest.mark.slow
def test_the_current_configuration_is_that_of_the_newest_version(tuned: Tuned) -> None:
    pipeline, _ = tuned
    assert study(pipeline).trials()[0].settings == configure("fast", **HASTY).model_dump()


@pytest.mark.slow
def test_what_is_better_beyond_noise_is_kept_with_where_it_came_from(tuned: Tuned) -> None:
    pipeline, result = tuned
    assert "leave_configuration" in steps(result, "STEP_SKIPPED")
    record, best = kept(pipeline), study(pipeline).ranked()[0]
    assert best.scored
    assert record["settings"] == best.settings
    assert (record["score"], record["trial"]) == (best.scored.score, best.number)
    assert record["score"] > record["current_score"]
    assert record["data_version"] == pipeline.digits().digest()
    assert record["study"] == study(pipeline).name
    assert record["run_id"] == result.run_id
    assert "better beyond noise" in record["reason"]


@pytest.mark.slow
def test_the_best_configuration_trains_digit_classifier(tuned: Tuned, tmp_path: Path) -> None:
    pipeline = tuned[0].copy(tmp_path / "fed")
    record = kept(pipeline)
    pipeline.run("digit_classifier", digit_classifier=record["settings"])
    card = pipeline.store.card(pipeline.value("digit_classifier"))
    assert card.config == record["settings"]
    assert card.metrics["validation_accuracy"] == record["score"]
    result = tune(pipeline, 1, fixed={})  # and it is what has to be beaten from now on
    assert len(studies(pipeline).all()) in (1, 2)
    assert result.output_for_node("rank_trials")["plan"]["current"] == record["settings"]


@pytest.mark.slow
def test_what_is_said_to_be_pasted_gives_these_settings(tuned: Tuned) -> None:
    import yaml

    record = kept(tuned[0])
    said = target_named("digit_classifier").use(record["settings"])
    command, launchpad = said.split("\nor in the launchpad:\n")
    config: Mapping[str, Any] = yaml.safe_load(launchpad)["ops"]["digit_classifier"]["config"]
    short = json.loads(command.removeprefix("make run CONFIG='").removesuffix("'"))
    assert configure("fast", **short).model_dump() == record["settings"]
    assert config == {"preset": "fast", **short}


# --- several processes ---


@pytest.mark.slow
def test_trials_in_processes_of_their_own_share_the_study(cut: Pipeline, tmp_path: Path) -> None:
    there = cut.copy(tmp_path / "state")
    env = at_home(tmp_path, MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")
    config = {
        "execution": {"config": {"processes": 2}},
        "ops": {"start_study": {"config": {"trials": 4, "fixed": BARELY}}},
    }
    (tmp_path / "run.json").write_text(json.dumps(config))
    done = call(
        *("-m", "dagster", "job", "execute", "-m", "mnist_pipeline.definitions", "-j", "tuning"),
        *("-c", tmp_path / "run.json"),
        **env,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    trials = study(there).trials()
    assert [trial.state for trial in trials] == [SCORED] * 4
    assert len({json.dumps(trial.settings) for trial in trials}) == 4
