"""While somebody competes by the ledger, traffic is looked at twice a minute: a bad challenger or a bad promotion ends
by itself.

Here: when the job `contest` is asked for. Not here: what the evidence leads to (`assets/contest.py`).
"""

import json
import time
from datetime import datetime, timezone

import dagster as dg

from mnist_pipeline.assets.contest import looked_at
from mnist_pipeline.automation import TICK_S, contest_job
from mnist_pipeline.contests import contest_in
from mnist_pipeline.resources import Models, Served

REPORT_S = 3_600.0  # between two reports while the contest goes on
AGAIN_S = 600.0  # before the same is asked for again: its run failed, or did not come to a decision
UNFINISHED = dg.RunsFilter(
    job_name=contest_job.name,
    statuses=[
        *(dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING),
        *(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING),
    ],
)


@dg.sensor(
    name="contests",
    job=contest_job,
    minimum_interval_seconds=TICK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks at champion and challenger on what people ask; ends the contest when the evidence suffices.",
)
def contests(context: dg.SensorEvaluationContext, models: Models, served: Served) -> dg.SensorResult | dg.SkipReason:
    """One tick. Its cursor: of which newest decision a report was asked for, and when."""
    store = models.open()
    contest = contest_in(store)
    if contest is None:
        return dg.SkipReason("nobody competes")
    if context.instance.get_runs(UNFINISHED, limit=1):
        return dg.SkipReason("a report is being made")
    at = time.time()
    asked = json.loads(context.cursor or "{}")
    since = at - asked.get("at", 0.0) if asked.get("decision") == contest.newest.number else at
    if since < AGAIN_S and asked.get("act") != "go_on":
        return dg.SkipReason("a report was asked for, which has ended in no decision: it is asked for again in a while")
    when = datetime.fromtimestamp(at, timezone.utc)
    _, finding = looked_at(store, contest, served.open(context.log.warning), when)
    if finding.act == "go_on" and since < REPORT_S:
        return dg.SkipReason(finding.sentence)
    cursor = {"decision": contest.newest.number, "at": at, "act": finding.act}
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=json.dumps(cursor))
