"""The sensor that sees what people put right; what follows is decided by conditions (`assets/conditions.py`)."""

import json
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from mnist_pipeline.assets import data
from mnist_pipeline.assets.causes import CODE
from mnist_pipeline.assets.conditions import try_again_at
from mnist_pipeline.assets.feedback import feedback_digits
from mnist_pipeline.automation import TICK_S
from mnist_pipeline.changes import Snapshot
from mnist_pipeline.resources import Served

KEY = feedback_digits.key
ASKED_FOR = "mnist_pipeline/feedback"  # tag of a run: which content
AT_MOST_EVERY = timedelta(hours=1)  # a busy page must not have the model trained anew every half minute
NEVER, CODE_CHANGED = "it was never made", "its code has changed"


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("feedback_digits"),
    minimum_interval_seconds=TICK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reads what people put right, at most once an hour (MNIST_FEEDBACK=train; else only to begin with).",
)
def new_feedback(context: dg.SensorEvaluationContext, served: Served) -> dg.SensorResult | dg.SkipReason:
    """Asks for feedback_digits where there is none, or other feedback or code than it was made from.

    The cursor: `seen`, the signature at the last tick, for what still changes waits; `count`, how often was asked.
    """
    instance, cursor = context.instance, json.loads(context.cursor or "{}")
    if instance.get_latest_materialization_event(data.raw_mnist_data.key) is None:
        return dg.SkipReason("there is no training data yet that feedback could be added to")
    now = served.snapshot()
    why = _why(instance, now)
    if not why:
        return dg.SkipReason(f"nothing has changed (MNIST_FEEDBACK={served.use})")
    if now.signature != cursor.get("seen") and why not in (NEVER, CODE_CHANGED):
        return dg.SensorResult(cursor=json.dumps({**cursor, "seen": now.signature}), skip_reason=f"{why}: changing")
    if waits := _waits(instance, why):
        return dg.SkipReason(f"{why}, but {waits}")
    count = cursor.get("count", 0) + 1
    request = dg.RunRequest(
        run_key=f"{now.signature[:16]}-{count}", asset_selection=[KEY], tags={ASKED_FOR: now.signature[:16]}
    )
    return dg.SensorResult(run_requests=[request], cursor=json.dumps({"seen": now.signature, "count": count}))


def _why(instance: dg.DagsterInstance, now: Snapshot) -> str:
    """What has changed; empty for nothing."""
    event = instance.get_latest_materialization_event(KEY)
    made = event.asset_materialization if event else None
    if made is None:
        return NEVER
    tags = made.tags or {}
    if tags.get(CODE) != feedback_digits.code_versions_by_key[KEY]:
        return CODE_CHANGED
    return now.compare(tags)


def _waits(instance: dg.DagsterInstance, why: str) -> str:
    """What it waits for; empty for nothing."""
    clock = datetime.now(timezone.utc)
    asked = dg.RunsFilter(tags={"dagster/sensor_name": "new_feedback"}, statuses=NOT_FINISHED_STATUSES)
    if running := instance.get_runs(asked, limit=1):
        return f"run {running[0].run_id[:8]} is to read it"
    if clock < (again := try_again_at(instance, KEY, ())):
        return f"its run failed, and it is asked for again at {again:%H:%M} UTC"
    event = instance.get_latest_materialization_event(KEY)
    if event and why != CODE_CHANGED:
        next_one = datetime.fromtimestamp(event.timestamp, timezone.utc) + AT_MOST_EVERY
        return f"it was read within the hour: at {next_one:%H:%M} UTC" if clock < next_one else ""
    return ""
