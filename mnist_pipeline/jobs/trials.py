"""One trial of the job `tuning`: what it has to know, the study that it belongs to, and how it is run and told."""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mnist_pipeline.jobs.targets import Settings, Target
from mnist_pipeline.ml.tuning.problems import Abandoned, Problem
from mnist_pipeline.studies import Asked, Studies, Study, Trial

# What a configuration brings upon itself, so that only its trial fails. Anything else is a fault of the program, the
# data or the machine: it fails the step.
OWN_FAULTS = (ValueError, ArithmeticError, MemoryError, RuntimeError)


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


def study_of(studies: Studies, target: Target, problem: Problem, data_version: str) -> Study:
    """Begun, or gone on with. Its name is bound to what makes scores comparable: other data or code is another one."""
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


def problem_of(target: Target, value: Any, plan: Plan) -> Problem:
    """Raises dg.Failure when the data is not what the study was begun with."""
    if target.digest(value) != plan.data_version:
        raise dg.Failure(f"the data of {plan.target} has changed since the study was begun: start {plan.study} anew")
    return target.problem(value, plan.current, plan.fixed)


def run_trial(context: dg.OpExecutionContext, study: Study, problem: Problem, asked: Asked) -> None:
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


def close_the_dead(study: Study, context: dg.OpExecutionContext) -> None:
    """Trials of runs that ended without telling: killed, cancelled, or the machine went down."""

    def is_over(trial: Trial) -> bool:
        run = context.instance.get_run_by_id(trial.run) if trial.run else None
        return run is None or run.is_finished

    for number in study.close(is_over, "its run ended without a word"):
        context.log.warning(f"trial {number} is noted as failed: its run ended without a word")
