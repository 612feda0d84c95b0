"""Jobs, the named selections that people and schedules launch; the nightly schedule; the automation conditions' sensor.

Not here: when an asset is out of date (`assets/conditions.py`), and the other sensors (`sensors/`).
"""

import warnings
from typing import Any

import dagster as dg

from mnist_pipeline.executor import one_process
from mnist_pipeline.jobs.tuning import tuning
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.refreshing.project import refresh_project
from mnist_pipeline.refreshing.waves import REFRESH
from mnist_pipeline.resources import Tables
from mnist_pipeline.sensors.telling import is_told_by_others

FOR_ONE_STEP = one_process  # a short one, which the process of the run does sooner than it starts another
TICK_S = 30  # seconds between two looks; four stages, so a new data set is in production after about three minutes

training = dg.define_asset_job(
    "training",
    dg.AssetSelection.groups("data", "model", "evaluation"),
    description="Get the data, train, evaluate. With the daemon on, the decision follows by itself.",
)
deployment = dg.define_asset_job(
    "deployment",
    dg.AssetSelection.groups("deployment"),
    description="Decide about the newest version: quality, manual, force or rollback.",
    executor_def=FOR_ONE_STEP,
)
make_model = dg.define_asset_job(
    "make_model",
    dg.AssetSelection.groups("data", "model", "evaluation", "deployment")
    | dg.AssetSelection.assets("digit_predictions"),
    description="From data to a deployed model that has answered once: everything but the nightly batch.",
)
batch_inference = dg.define_asset_job(
    "batch_inference",
    dg.AssetSelection.assets("batch_digit_predictions"),
    description="Predict the inbox of one night.",
)
nightly_job = dg.define_asset_job(
    "night",
    dg.AssetSelection.assets("batch_digit_predictions", "drift_report", "service_drift_report"),
    description="Predict the inbox of one night, and report whether it and the service's day look as they did.",
)
full_pipeline = dg.define_asset_job(
    "full_pipeline",
    dg.AssetSelection.groups("data", "model", "evaluation", "deployment", "prediction"),
    description="Everything, from data to predictions.",
)

competition = dg.define_asset_job(
    "competition",
    dg.AssetSelection.groups("competition"),
    description="Train other architectures on the same data and rank all versions. Minutes; nothing is deployed.",
)

accuracy_review = dg.define_asset_job(
    "accuracy_review",
    dg.AssetSelection.assets("production_accuracy"),
    description="How often production was right, as far as people said what was right.",
    executor_def=FOR_ONE_STEP,
)

label_review = dg.define_asset_job(
    "label_review",
    dg.AssetSelection.assets("label_errors"),
    description="Training images whose label is probably wrong, for people to look at.",
)

contest_job = dg.define_asset_job(
    "contest",
    dg.AssetSelection.assets("ab_report"),
    description="Compare champion and challenger on what people ask; promote, withdraw or roll back where it is shown.",
    executor_def=FOR_ONE_STEP,
)


@dg.op(out=dg.Out(dg.Nothing), tags={"kind": "python"})
def make_what_is_out_of_date(context: dg.OpExecutionContext, tables: Tables) -> None:
    """As `make refresh` does. Its runs are runs of their own, found by their tag; this one links to them."""
    context.instance.add_run_tags(context.run_id, {REFRESH: context.run_id})
    report = refresh_project(context.repository_def, context.instance, tables, context.run_id, context.log.info)
    context.log.info("\n".join(report.lines()))
    said = "\n".join([*(each.line() for each in report.done), *report.lines()])
    links = {f"run {number}": dg.MetadataValue.dagster_run(run) for number, run in enumerate(report.runs, 1)}
    if report.well:
        context.add_output_metadata({"summary": dg.MetadataValue.md(f"```\n{said}\n```"), **links})
        return
    if not report.unread and (report.faults or any(each.fault and each.run_id for each in report.done)):
        is_told_by_others(context.instance, context.run_id)  # the runs that failed are told, this one would be twice
    raise dg.Failure(f"not everything could be brought up to date\n{said}", links, allow_retries=False)


@dg.job(
    name="refresh",
    description="Make again exactly what is out of date, by code or by data. The rest is kept.",
    executor_def=one_process,  # its step starts runs, which are in its process
)
def refresh_job() -> None:
    """One step, which starts runs of its own."""
    make_what_is_out_of_date()


TABLES = {
    task.name: dg.define_asset_job(
        task.name, dg.AssetSelection.groups(task.name), description=f"Everything of the table {task.name}."
    )
    for task in TASKS
}
JOBS: list[Any] = [
    *(training, deployment, make_model, batch_inference, nightly_job, full_pipeline),
    *(contest_job, competition, accuracy_review, label_review),
    *TABLES.values(),
    tuning,
    refresh_job,
]

with warnings.catch_warnings():
    # use_user_code_server, without which a condition of one's own cannot be evaluated, is in beta
    warnings.simplefilter("ignore", dg.BetaWarning)
    # a sensor that Dagster adds by itself for automation conditions would be STOPPED
    KEEP_UP_TO_DATE = dg.AutomationConditionSensorDefinition(
        "keep_up_to_date",
        target=dg.AssetSelection.groups("data", "model", "evaluation", "deployment"),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_S,
        use_user_code_server=True,
        emit_backfills=False,
        description="Makes again what was made from other data or by other code than there is now.",
    )


def nightly_schedule(nightly: NightlyRun) -> dg.ScheduleDefinition:
    """Predicts, every night, the inbox of the day that has ended. What it misses is the matter of `heal_nights`."""

    @dg.schedule(
        name="nightly",
        job=nightly_job,
        cron_schedule=nightly.cron,
        execution_timezone=nightly.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"The inbox of the day that has ended, at {nightly.hour:02}:{nightly.minute:02}.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        night = nightly.night_of(context.scheduled_execution_time)
        return dg.RunRequest(run_key=night, partition_key=night)

    return tick
