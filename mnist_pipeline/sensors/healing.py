"""A night that failed or was missed is asked for again, until it is predicted.

Not here: the schedule that asks first (`automation.py`).
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import dagster as dg

from mnist_pipeline.assets.attempts import LOOKED_BACK, attempts, is_predicted, runs_of
from mnist_pipeline.assets.conditions import patience
from mnist_pipeline.automation import nightly_job
from mnist_pipeline.nights import NightlyRun

GRACE = timedelta(minutes=30)
SEEN_MISSING = timedelta(minutes=5)  # longer than the schedule needs to catch up after downtime
NIGHTS_AT_ONCE = 3
OVER = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def heal_nights(nightly: NightlyRun) -> dg.SensorDefinition:
    """The sensor for the nights of one schedule.

    This is no second trigger that could predict a night twice. It asks only for nights whose time has passed by half
    an hour and that it has seen missing for five minutes, long after the schedule asked; it looks at queued and
    running runs of the night first; its run keys name the attempt; and should two runs of a night meet after all,
    the second reads the same files, since a night is closed when its day has ended, and writes the same table.
    The first night that it cares about is the first that anybody tried, or else the first after it was switched on.
    """

    @dg.sensor(
        name="heal_nights",
        job=nightly_job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks again for nights that failed or were missed: after 10, 20, 40 … 240 minutes.",
    )
    def heal(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return healed(context.instance, nightly, datetime.now(timezone.utc), context.cursor)

    return heal


def healed(instance: dg.DagsterInstance, nightly: NightlyRun, now: datetime, cursor: str | None) -> dg.SensorResult:
    """What to ask for at this time. The cursor: since when this watches, and since when each night is seen missing."""
    state = json.loads(cursor or "{}")
    since = datetime.fromtimestamp(state.get("since", now.timestamp()), timezone.utc)
    runs = runs_of(instance, nightly.due_between(now - LOOKED_BACK, now))
    nights = nightly.due_between(max(now - LOOKED_BACK, _begin(nightly, since, runs)), now - GRACE)
    missing = [night for night in nights if not is_predicted(instance, nightly, night)]
    seen = {night: state.get("missing", {}).get(night, now.timestamp()) for night in missing}
    running = [night for night in runs if any(run.dagster_run.status not in OVER for run in runs[night])]
    ready = [
        night
        for night in missing
        if night not in running
        and now.timestamp() >= seen[night] + SEEN_MISSING.total_seconds()
        and now >= _again_at(attempts(nightly, night, runs))
    ]
    requests = [
        dg.RunRequest(run_key=f"{night}-{len(attempts(nightly, night, runs))}", partition_key=night)
        for night in ready[: max(0, NIGHTS_AT_ONCE - len(running))]
    ]
    reason = None if requests else f"{len(missing)} nights are missing: {', '.join(missing)}" if missing else "all well"
    return dg.SensorResult(
        run_requests=requests,
        cursor=json.dumps({"since": since.timestamp(), "missing": seen}),
        skip_reason=reason,
    )


def _begin(nightly: NightlyRun, since: datetime, runs: dict[str, list[dg.RunRecord]]) -> datetime:
    """When the first night was due that anybody tried after its end, or else when this began to watch."""
    tried = [nightly.due(night) for night in runs if attempts(nightly, night, runs)]
    return min([since, *tried])


def _again_at(tried: Sequence[dg.RunRecord]) -> datetime:
    ended = max((run.end_time or run.update_timestamp.timestamp() for run in tried), default=0.0)
    return datetime.fromtimestamp(ended, timezone.utc) + patience(len(tried))
