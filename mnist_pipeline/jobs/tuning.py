"""The job `tuning`: fans out trials, collects them, and branches on whether the best beats what is used today.

Here: its configuration, its steps and how they hang together. Not here: what can be tuned (`targets.py`), one trial
(`trials.py`), which configuration is tried next (`studies.py`), and the rule for better (`ml/tuning/problems.py`).
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.executor import some_processes
from mnist_pipeline.files import AssetFiles
from mnist_pipeline.jobs.hooks import close_trial, tell_rank
from mnist_pipeline.jobs.ranking import record_of, result_name, score_of, scored_of, table
from mnist_pipeline.jobs.targets import DIGITS, chosen, target_named
from mnist_pipeline.jobs.trials import Plan, close_the_dead, problem_of, run_trial, study_of
from mnist_pipeline.ml.tuning.problems import judge
from mnist_pipeline.resources import Models, Tuning
from mnist_pipeline.retries import retrying
from mnist_pipeline.studies import FAILED, PRUNED, SCORED

Values = dg.ResourceParam[AssetFiles]
Chosen: Any = chosen()


class StudyConfig(dg.Config):
    """What is tuned, and for how long."""

    target: Chosen = Field(Chosen(DIGITS), description="the model whose settings are searched")
    partition: str = Field("", description="of the table, where it has partitions")
    trials: int = Field(20, ge=1, le=1_000, description="configurations to try; today's is the first, if not known")
    seed: int = Field(0, ge=0, description="of the choice of configurations")
    seconds: float = Field(0.0, ge=0, description="no trial begins later than this after the start; 0: no limit")
    fixed: dict[str, Any] = Field({}, description='settings that are not searched, for all trials: {"epochs": 3}')


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
    study = study_of(tuning.studies(), target, problem, data_version)
    close_the_dead(study, context)
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
    problem = problem_of(target, target.load(io_manager.shelf), todo)
    study = tuning.studies().open(todo.study)
    seed = f"{todo.seed} {todo.before} {todo.slot}"
    asked = study.ask(problem.space, todo.current, seed, context.run_id, context.get_step_execution_context().step.key)
    run_trial(context, study, problem, asked)
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
            "best_score": score_of(ranked[0]),
            "current_score": score_of(today),
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
    problem = problem_of(target, target.load(io_manager.shelf), plan)
    trials = tuning.studies().open(plan.study).trials()
    best, today = trials[ranked["best"]], trials[ranked["today"]]
    compared = sum(trial.state in (SCORED, PRUNED) for trial in trials) - 1
    verdict = judge(problem, scored_of(best), scored_of(today), compared)
    record = record_of(plan, problem, best, today, verdict)
    record |= {"code_version": target.code, "run_id": context.run_id}
    yield dg.Output(record, "better" if verdict.better else "not_better")


@dg.op
@retrying
def keep_configuration(context: dg.OpExecutionContext, better: dict[str, Any], tuning: Tuning) -> str:
    """Writes the best configuration where it can be found, and says how to train with it."""
    shelf, name = tuning.results(), result_name(better["target"], better["partition"])
    shelf.put(name, json.dumps(better, indent=2, allow_nan=False).encode())
    use = target_named(better["target"], better["partition"]).use(better["settings"])
    context.log.info(f"{better['target']}: {better['reason']}. Kept in {shelf.where(name)}. To train with it:\n{use}")
    context.add_output_metadata({**_facts(better), "path": dg.MetadataValue.path(shelf.where(name)), "use": use})
    return shelf.where(name)


@dg.op
def leave_configuration(context: dg.OpExecutionContext, not_better: dict[str, Any]) -> str:
    """Says why today's configuration stays."""
    context.log.info(f"{not_better['target']} stays as it is: {not_better['reason']}")
    context.add_output_metadata(_facts(not_better))
    return str(not_better["reason"])


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


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, **{name: dg.MetadataValue.json(record[name]) for name in ("changed", "settings", "fixed")}}
