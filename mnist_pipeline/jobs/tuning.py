"""The job `tuning`: fans out trials, collects them, and branches on whether the best beats what is used today.

Here: steps, what is handed on between them, hooks. Not here: what can be tuned (`targets.py`), which configuration
is tried next (`studies.py`), and the rule for better (`ml/tuning/problems.py`).
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.executor import some_processes
from mnist_pipeline.files import AssetFiles
from mnist_pipeline.jobs.targets import DIGITS, Settings, Target, chosen, target_named
from mnist_pipeline.ml.tuning.problems import Abandoned, Problem, Scored, judge
from mnist_pipeline.resources import Models, Tuning
from mnist_pipeline.retries import retrying
from mnist_pipeline.studies import FAILED, PRUNED, SCORED, Asked, Studies, Study, Trial

Values = dg.ResourceParam[AssetFiles]
Chosen: Any = chosen()
# What a configuration brings upon itself, so that only its trial fails. Anything else is a fault of the program, the
# data or the machine: it fails the step.
OWN_FAULTS = (ValueError, ArithmeticError, MemoryError, RuntimeError)


class StudyConfig(dg.Config):
    """What is tuned, and for how long."""

    target: Chosen = Field(Chosen(DIGITS), description="the model whose settings are searched")
    partition: str = Field("", description="of the table, where it has partitions")
    trials: int = Field(20, ge=1, le=1_000, description="configurations to try; today's is the first, if not known")
    seed: int = Field(0, ge=0, description="of the choice of configurations")
    seconds: float = Field(0.0, ge=0, description="no trial begins later than this after the start; 0: no limit")
    fixed: dict[str, Any] = Field({}, description='settings that are not searched, for all trials: {"epochs": 3}')


@dataclass(frozen=True)
class Plan:
    """What every trial of a run has to know. before: trials in the study when it started; until: a time, or 0."""

    study: str
    target: str
    partition: str
    current: Settings
    fixed: Settings
    data_version: str
    seed: int
    before: int
    until: float
    slot: int = 0


@dg.op(out=dg.DynamicOut(dict, description="one a trial"))
@retrying
def start_study(
    context: dg.OpExecutionContext, config: StudyConfig, io_manager: Values, models: Models, tuning: Tuning
) -> Iterator[dg.DynamicOutput[dict[str, Any]]]:
    """Begins or goes on with the study of this model, this data and this code; today's configuration is first."""
    target = target_named(config.target.value, config.partition)
    value = target.load(io_manager.shelf)
    current = target.changed(target.current(io_manager.shelf, models.open()), config.fixed)
    problem, data_version = target.problem(value, current, config.fixed), target.digest(value)
    study = _study(tuning.studies(), target, problem, data_version)
    _close_the_dead(study, context)
    before = len(study.trials())
    study.propose(problem.space, current)
    context.log.info(f"study {study.name}: {before} trials before this run, {study.path}")
    until = time.time() + config.seconds if config.seconds else 0.0
    plan = Plan(
        *(study.name, target.name, config.partition, current, config.fixed, data_version, config.seed, before, until)
    )
    for slot in range(config.trials):
        yield dg.DynamicOutput({**asdict(plan), "slot": slot}, mapping_key=f"{slot:03}")


@dg.op(out=dg.Out(dict, is_required=False, description="none where the time was up"))
@retrying
def try_configuration(
    context: dg.OpExecutionContext, plan: dict[str, Any], io_manager: Values, tuning: Tuning
) -> Iterator[dg.Output[dict[str, Any]]]:
    """Asks the study for a configuration, scores it, tells the study. A bad one is pruned, a broken one noted."""
    todo = Plan(**plan)
    if todo.slot and todo.until and time.time() > todo.until:
        context.log.info("not begun: the time is up")
        return
    target = target_named(todo.target, todo.partition)
    problem = _problem(target, target.load(io_manager.shelf), todo)
    study = tuning.studies().open(todo.study)
    seed = f"{todo.seed} {todo.before} {todo.slot}"
    asked = study.ask(problem.space, todo.current, seed, context.run_id, context.get_step_execution_context().step.key)
    _run(context, study, problem, asked)
    told = study.trials()[asked.number]
    yield dg.Output({"plan": plan, "number": told.number, "state": told.state, "reason": told.reason})


@dg.op
def rank_trials(context: dg.OpExecutionContext, tried: list[dict[str, Any]], tuning: Tuning) -> dict[str, Any]:
    """All trials of the study, the best first. Fails when none of this run, or not today's, could be scored."""
    plan = Plan(**tried[0]["plan"])
    study = tuning.studies().open(plan.study)
    broken = [f"trial {each['number']}: {each['reason']}" for each in tried if each["state"] == FAILED]
    if len(broken) == len(tried):
        raise dg.Failure("no trial of this run could be scored:\n" + "\n".join(broken))
    today = study.find(plan.current)
    if today is None:
        raise dg.Failure(f"today's configuration could not be scored, so nothing can be compared: {plan.current}")
    ranked = study.ranked()
    context.add_output_metadata(
        {
            "trials": dg.MetadataValue.md(table(study, plan.current)),
            "tried": len(tried),
            **{state: sum(each["state"] == state for each in tried) for state in (SCORED, PRUNED, FAILED)},
            "best_score": _score(ranked[0]),
            "current_score": _score(today),
        }
    )
    context.log.info("\n" + table(study, plan.current))
    return {"plan": tried[0]["plan"], "best": ranked[0].number, "today": today.number}


@dg.op(
    out={
        "better": dg.Out(dict, is_required=False, description="the best is better beyond noise"),
        "not_better": dg.Out(dict, is_required=False, description="today's configuration stays"),
    }
)
@retrying
def compare_with_current(
    context: dg.OpExecutionContext, ranked: dict[str, Any], io_manager: Values, tuning: Tuning
) -> Iterator[dg.Output[dict[str, Any]]]:
    """The branch: on the same images or folds, is the best better than today's configuration beyond noise?"""
    plan = Plan(**ranked["plan"])
    target = target_named(plan.target, plan.partition)
    problem = _problem(target, target.load(io_manager.shelf), plan)
    trials = tuning.studies().open(plan.study).trials()
    best, today = trials[ranked["best"]], trials[ranked["today"]]
    compared = sum(trial.state in (SCORED, PRUNED) for trial in trials) - 1
    verdict = judge(problem, _scored(best), _scored(today), compared)
    record = {
        "reason": verdict.reason,
        "measure": problem.measure,
        "score": _score(best),
        "current_score": _score(today),
        "trial": best.number,
        "changed": changes(best, plan.current),
        "settings": best.settings,
        **{name: getattr(plan, name) for name in ("target", "partition", "study", "fixed", "data_version")},
        "code_version": target.code,
        "run_id": context.run_id,
    }
    yield dg.Output(record, "better" if verdict.better else "not_better")


@dg.op
@retrying
def keep_configuration(context: dg.OpExecutionContext, better: dict[str, Any], tuning: Tuning) -> str:
    """Writes the best configuration where it can be found, and says how to train with it."""
    shelf, name = tuning.results(), result_name(better["target"], better["partition"])
    shelf.put(name, json.dumps(better, indent=2, allow_nan=False).encode())
    use = target_named(better["target"]).use(better["settings"])
    context.log.info(f"{better['target']}: {better['reason']}. Kept in {shelf.where(name)}. To train with it:\n{use}")
    context.add_output_metadata({**_facts(better), "path": dg.MetadataValue.path(shelf.where(name)), "use": use})
    return shelf.where(name)


@dg.op
def leave_configuration(context: dg.OpExecutionContext, not_better: dict[str, Any]) -> str:
    """Says why today's configuration stays."""
    context.log.info(f"{not_better['target']} stays as it is: {not_better['reason']}")
    context.add_output_metadata(_facts(not_better))
    return str(not_better["reason"])


@dg.success_hook(required_resource_keys={"tuning"})
def tell_rank(context: dg.HookContext) -> None:
    """After a trial: its score, and where it stands so far."""
    told = context.op_output_values.get("result")
    if not told:
        return
    study = context.resources.tuning.studies().open(told["plan"]["study"])
    ranked, number = study.ranked(), told["number"]
    if told["state"] != SCORED:
        context.log.info(f"trial {number} {told['state']}: {told['reason']}")
        return
    rank = [trial.number for trial in ranked].index(number) + 1
    trial, best = ranked[rank - 1], ranked[0]
    context.log.info(
        f"trial {number}: {_score(trial):.4f} in {trial.seconds:.1f} s, rank {rank} of {len(ranked)} so far; "
        f"best: trial {best.number} with {_score(best):.4f}"
    )


@dg.failure_hook(required_resource_keys={"tuning"})
def close_trial(context: dg.HookContext) -> None:
    """After a step that failed: its trial is told as failed, else it would count as running for ever."""
    reason = f"its step failed: {type(context.op_exception).__name__}: {context.op_exception}"
    for study in context.resources.tuning.studies().all():
        for number in study.close(lambda t: (t.run, t.step) == (context.run_id, context.step_key), reason):
            context.log.info(f"trial {number} of {study.name} is noted as failed: {reason}")


@dg.job(
    description="Search better settings for a model; says whether the best found beats today's beyond noise.",
    executor_def=some_processes,
)
def tuning() -> None:
    """start → try, many times → rank → compare → keep or leave."""
    tried = start_study().map(try_configuration.with_hooks({tell_rank, close_trial}))
    better, not_better = compare_with_current(rank_trials(tried.collect()))
    keep_configuration(better)
    leave_configuration(not_better)


def result_name(target: str, partition: str = "") -> str:
    """The file of the best configuration, e.g. best/digit_classifier.json."""
    return f"best/{target}{'/' + partition if partition else ''}.json"


def table(study: Study, current: Settings) -> str:
    """Markdown: all trials, the best first, with what each has changed."""
    ranked = study.ranked()
    rest = [trial for trial in study.trials() if not trial.scored]
    lines = ["| rank | trial | score | seconds | changed |", "|---|---|---|---|---|"]
    for rank, trial in enumerate([*ranked, *rest], 1):
        score = f"{_score(trial):.4f}" if trial.scored else f"{trial.state}: {trial.reason}"
        told = ", ".join(f"{name} {value}" for name, value in changes(trial, current).items()) or "nothing: today's"
        lines.append(f"| {rank if trial.scored else '–'} | {trial.number} | {score} | {trial.seconds:.1f} | {told} |")
    return "\n".join(lines)


def changes(trial: Trial, current: Settings) -> Settings:
    """What a trial has set otherwise than it is today."""
    return {name: value for name, value in trial.settings.items() if current.get(name) != value}


def _run(context: dg.OpExecutionContext, study: Study, problem: Problem, asked: Asked) -> None:
    """Score what was asked for, and tell."""
    known, begun = study.find(asked.settings), time.perf_counter()
    if known and known.scored:
        context.log.info(f"trial {asked.number} is trial {known.number} once more: its score is known")
        study.tell_scored(asked.number, known.scored, 0.0)
        return
    try:
        scored = problem.score(asked.settings, asked.report)
    except Abandoned as why:
        study.tell_pruned(asked.number, str(why), time.perf_counter() - begun)
    except OWN_FAULTS as error:
        context.log.exception(f"trial {asked.number} failed with {asked.settings}; the study goes on")
        study.tell_failed(asked.number, f"{type(error).__name__}: {error}")
    else:
        study.tell_scored(asked.number, scored, time.perf_counter() - begun)


def _study(studies: Studies, target: Target, problem: Problem, data_version: str) -> Study:
    """Its name is bound to all that makes scores comparable: other data or code, another study."""
    conditions = {name: value for name, value in problem.current.items() if name not in problem.space}
    facts = {
        "target": target.name,
        "measure": problem.measure,
        "data_version": data_version,
        "code_version": target.code,
        "conditions": conditions,
        "space": {name: repr(values) for name, values in sorted(problem.space.items())},
    }
    bound = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return studies.begin(f"{target.name.replace('/', '-')}-{bound}", facts)


def _problem(target: Target, value: Any, plan: Plan) -> Problem:
    """Raises dg.Failure when the data is not what the study was begun with."""
    if target.digest(value) != plan.data_version:
        raise dg.Failure(f"the data of {plan.target} has changed since the study was begun: start {plan.study} anew")
    return target.problem(value, plan.current, plan.fixed)


def _close_the_dead(study: Study, context: dg.OpExecutionContext) -> None:
    """Trials of runs that ended without telling: killed, cancelled, or the machine went down."""

    def is_over(trial: Trial) -> bool:
        run = context.instance.get_run_by_id(trial.run) if trial.run else None
        return run is None or run.is_finished

    for number in study.close(is_over, "its run ended without a word"):
        context.log.warning(f"trial {number} is noted as failed: its run ended without a word")


def _scored(trial: Trial) -> Scored:
    assert trial.scored
    return trial.scored


def _score(trial: Trial) -> float:
    return _scored(trial).score


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, **{name: dg.MetadataValue.json(record[name]) for name in ("changed", "settings", "fixed")}}
