"""Trains again when drift is strong or the estimated accuracy is too low, where that is configured.

Here: which verdicts count, and how often. Not here: what is drift (`ml/drift.py`), with which data is trained (the
assets of the group data, to which feedback belongs where it is configured), and deployment, which follows by itself.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import dagster as dg

from mnist_pipeline.assets.monitoring import ACCURACY_HOLDS, LOOKS_AS_IT_DID, NIGHT, SERVICE
from mnist_pipeline.automation import training
from mnist_pipeline.nights import NightlyRun

CHECKS = [
    dg.AssetCheckKey(dg.AssetKey(asset), check)
    for asset in (NIGHT, SERVICE)
    for check in (LOOKS_AS_IT_DID, ACCURACY_HOLDS)
]
LOOKED_BACK = timedelta(days=1)  # an older verdict is about a model that has been looked at since
VERDICTS = 40  # rows of each check that are looked at; a report leaves two, and there are one or two a day
BECAUSE = "mnist_pipeline/drift"  # tag of a run: which verdict asked for it
UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def retrain_on_drift(nightly: NightlyRun, *, on: bool) -> dg.SensorDefinition:
    """The sensor; on: whether it runs unless a person says otherwise."""

    @dg.sensor(
        name="retrain_on_drift",
        job=training,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description="Trains again when a drift check failed with an error, at most once a day.",
    )
    def retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return asked(context.instance, nightly, datetime.now(timezone.utc), context.cursor)

    return retrain


def asked(instance: dg.DagsterInstance, nightly: NightlyRun, now: datetime, cursor: str | None) -> dg.SensorResult:
    """What to ask for at this time.

    The cursor: the number of the newest verdict that was seen, and the day of the last training. A day has one run key,
    so a cursor that is lost starts nothing twice. What is found on a day that was trained on, or while a training
    is under way, is about the model before and asks for nothing more.
    """
    state = json.loads(cursor or "{}")
    today = now.astimezone(nightly.zone).date().isoformat()
    fresh = sorted(_errors(instance, state.get("seen", 0), now - LOOKED_BACK))
    if not fresh:
        return dg.SensorResult(cursor=cursor, skip_reason="no new verdict asks for a training")
    newest, said = fresh[-1]
    kept = json.dumps({**state, "seen": newest})
    if state.get("trained") == today:
        return dg.SensorResult(cursor=kept, skip_reason=f"{said}, but it was trained today already")
    if instance.get_run_records(dg.RunsFilter(job_name=training.name, statuses=UNDER_WAY), limit=1):
        return dg.SensorResult(cursor=kept, skip_reason=f"{said}, and a training is under way")
    request = dg.RunRequest(run_key=f"drift-{today}", tags={BECAUSE: said})
    return dg.SensorResult(run_requests=[request], cursor=json.dumps({"seen": newest, "trained": today}))


def _errors(instance: dg.DagsterInstance, seen: int, since: datetime) -> Iterator[tuple[int, str]]:
    """Number and words of every error that is newer than both."""
    for check in CHECKS:
        for row in instance.event_log_storage.get_asset_check_execution_history(check, limit=VERDICTS):
            event = row.event.dagster_event if row.event else None
            if event is None or event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                continue  # that a run was to look, which stays in the history of partitions beside what it found
            found = event.asset_check_evaluation_data
            if found.passed or found.severity != dg.AssetCheckSeverity.ERROR:
                continue
            if row.event and row.id > seen and row.event.timestamp >= since.timestamp():
                yield row.id, f"{check.asset_key.to_user_string()}:{check.name}"
