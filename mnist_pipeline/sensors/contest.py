"""While somebody competes by the ledger, traffic is looked at every few seconds: a bad challenger or a bad promotion
ends by itself, at once, for the start of a run would take longer than all the rest.

Here: when traffic is looked at and decided on, and when the job `contest` is asked to report. Not here: what the
evidence leads to, and the decision (`assets/contest.py`).
"""

import json
import time
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from mnist_pipeline.assets.contest import ASKED_AS, decided, looked_at
from mnist_pipeline.automation import contest_job
from mnist_pipeline.contests import Contest, contest_in
from mnist_pipeline.resources import Judging, Models, Served
from mnist_pipeline.store import LostRace, ModelStore

TICK_S = 5  # the daemon's shortest
LOOKS_S = (0.0, 2.5)  # from the beginning of a tick, to halve the wait; other sensors wait for the second one
PAUSES = 5  # a look is followed by so many times as long without one: over a long log it takes its time
REPORT_S = 3_600.0  # between two reports while the contest goes on
OURS = "contests/"  # how requests begin by which this sensor decides
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
def contests(context: dg.SensorEvaluationContext, models: Models, served: Served, judging: Judging) -> dg.SensorResult:
    """One tick. Its cursor: until when traffic is not looked at; of which decision a report was asked for, and when."""
    store, known, said = models.open(), {"until": 0.0, "decision": 0, "at": 0.0, **_noted(context)}, "nobody competes"
    begun = time.monotonic()
    for after in LOOKS_S:
        time.sleep(max(0.0, begun + after - time.monotonic()))
        contest = contest_in(store)
        if contest is None or time.time() < known["until"]:
            said = said if contest is None else "the last look took a while"
            break
        at = time.time()
        said = _looked(store, contest, served, judging, datetime.fromtimestamp(at, timezone.utc))
        known["until"] = time.time() + PAUSES * (time.time() - at)
    return _reporting(context, store, known, said)


def _noted(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    noted: dict[str, Any] = json.loads(context.cursor or "{}")
    return noted


def _looked(store: ModelStore, contest: Contest, served: Served, judging: Judging, at: datetime) -> str:
    """What people's questions show, and, where that suffices, what was decided. Raises what `decided` raises but for a
    race, and StoreUnavailable: after three such ticks people are told."""
    traffic = served.open(lambda fault: None)  # the report tells of these; here it would be at every tick
    pairs, finding = looked_at(store, contest, traffic, at, **judging.of_contests())
    if finding.act == "go_on":
        return finding.sentence
    try:
        return decided(store, contest, pairs, finding, f"{OURS}{contest.newest.number}").reason
    except LostRace as lost:
        return str(lost)


def _reporting(
    context: dg.SensorEvaluationContext, store: ModelStore, known: dict[str, Any], said: str
) -> dg.SensorResult:
    """Each decision of ours is told in a report, by the next tick if this one breaks off; so is each contest at its
    beginning and once an hour. said: why else nothing is asked for."""
    newest, at = store.current(), time.time()
    request = None
    if newest and newest.request.startswith(OURS) and newest.number != known["decision"]:
        request = dg.RunRequest(run_key=f"{newest.request} {newest.time}", tags={ASKED_AS: newest.request})
    elif newest and newest.challenger and (newest.number != known["decision"] or at - known["at"] >= REPORT_S):
        said = "a report is being made" if context.instance.get_runs(UNFINISHED, limit=1) else ""
        request = None if said else dg.RunRequest()
    if request is None or newest is None:
        return dg.SensorResult(skip_reason=said, cursor=json.dumps(known))
    return dg.SensorResult(run_requests=[request], cursor=json.dumps({**known, "decision": newest.number, "at": at}))
