"""After each trial of the job `tuning`: its rank is told; a trial whose step failed is told to its study as failed."""

import dagster as dg

from mnist_pipeline.jobs.ranking import score_of
from mnist_pipeline.studies import SCORED


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
        f"trial {number}: {score_of(trial):.4f} in {trial.seconds:.1f} s, rank {rank} of {len(ranked)} so far; "
        f"best: trial {best.number} with {score_of(best):.4f}"
    )


@dg.failure_hook(required_resource_keys={"tuning"})
def close_trial(context: dg.HookContext) -> None:
    """After a step that failed: its trial is told as failed, else it would count as running for ever."""
    reason = f"its step failed: {type(context.op_exception).__name__}: {context.op_exception}"
    for study in context.resources.tuning.studies().all():
        for number in study.close(lambda t: (t.run, t.step) == (context.run_id, context.step_key), reason):
            context.log.info(f"trial {number} of {study.name} is noted as failed: {reason}")
