"""Delivery: what the runs have recorded goes to MLflow, their MLflow runs are closed, and its registry is mirrored.

Here: the sensor that does this, and what it shares with `make mlflow`, which needs no daemon.
Not here: recording (`tracking.py`) and sending (`experiments/sender.py`, in a process of its own).
"""

import json
import time
from dataclasses import asdict, dataclass

import dagster as dg

from mnist_pipeline.experiments.courier import Report, SendingFailed, send
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.experiments.spool import RunFacts, Spool, now_ms
from mnist_pipeline.resources import Models, Tracking
from mnist_pipeline.tracking import without_login

EVERY_S = 30
SECONDS = 40.0  # a tick may take 60
REPAIR_S = 300  # an alias moved by hand is noticed within this
FORGOTTEN_MS = 24 * 60 * 60 * 1_000  # a run that Dagster does not know, and that records nothing any more, has ended
STATUS = {
    dg.DagsterRunStatus.SUCCESS: "FINISHED",
    dg.DagsterRunStatus.FAILURE: "FAILED",
    dg.DagsterRunStatus.CANCELED: "KILLED",
}


@dataclass(frozen=True)
class Seen:
    """The sensor's cursor: the ledger and the versions as they were mirrored last, and when."""

    decision: int = 0
    versions: int = -1
    mirrored_s: float = 0.0

    @staticmethod
    def of(cursor: str | None) -> "Seen":
        """What the last tick left; nothing before the first."""
        return Seen(**json.loads(cursor)) if cursor else Seen()


@dg.sensor(
    name="mlflow_delivery",
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends what runs have recorded to MLflow, closes ended runs, mirrors the ledger in the registry.",
)
def mlflow_delivery(context: dg.SensorEvaluationContext, tracking: Tracking, models: Models) -> dg.SkipReason:
    """One tick: bounded in time, quiet while the server is away, red for what waiting does not cure.

    It stays red while something needs somebody, so that `watch` tells it: one red tick is no reason for an alert. A
    red tick has done its work, but keeps no cursor; so the registry is looked at in each of them.
    """
    if tracking.is_off():
        return dg.SkipReason("MLFLOW_TRACKING_URI=none: nothing is tracked")
    before, now = Seen.of(context.cursor), _present(models)
    changed = (now.decision, now.versions) != (before.decision, before.versions)
    mirror = changed or now.mirrored_s - before.mirrored_s > REPAIR_S
    report = deliver(tracking, models if mirror else None, context.instance)
    if problems := needs_somebody(report, tracking):
        raise SendingFailed("\n".join(problems))
    if mirror and not (report.away or report.busy or report.unfinished):
        context.update_cursor(json.dumps(asdict(now)))
    return dg.SkipReason(told(report, tracking))


def deliver(tracking: Tracking, models: Models | None, instance: dg.DagsterInstance) -> Report:
    """Send all that waits, close what has ended, and mirror the registry if there are `models`."""
    spool = tracking.spool()
    runs = spool.runs()
    ended = ended_runs(instance, spool, list(runs))
    if not (any(runs.values()) or ended or models):
        return Report()
    place = (models.location, models.endpoint) if models else ("", "")
    return send(tracking.order(SECONDS, ended=ended, models=place))


def needs_somebody(report: Report, tracking: Tracking) -> list[str]:
    """What waiting does not cure: runs and versions that cannot be sent, and all records that were ever put aside."""
    aside = Refused(tracking.spool()).told()
    return [*report.problems, *([aside] if aside else [])]


def told(report: Report, tracking: Tracking) -> str:
    """What came of it, in a sentence."""
    if report.away:
        return (
            f"MLflow at {without_login(tracking.uri)} is away ({report.away}): {report.waiting} records wait in "
            f"{tracking.location} and are sent when it is back"
        )
    if report.busy:
        return f"another process is sending already; {report.waiting} records wait"
    counts = {
        "records refused": report.refused,
        "records sent": report.sent,
        "runs closed": report.closed,
        "versions registered": report.registered,
        "aliases moved": report.aliases,
        "records waiting": report.waiting,
    }
    said = [f"{number} {what}" for what, number in counts.items() if number] + report.damaged
    return ", ".join(said) or "nothing to send"


def ended_runs(instance: dg.DagsterInstance, spool: Spool, run_ids: list[str]) -> dict[str, tuple[str, int]]:
    """Run id -> (MLflow status, end in ms) of those that Dagster has ended, or has forgotten for a day."""
    found = {record.dagster_run.run_id: record for record in _records(instance, run_ids)}
    ended: dict[str, tuple[str, int]] = {}
    for run_id in run_ids:
        facts, record = spool.facts(run_id), found.get(run_id)
        if facts is None:
            continue
        if record is None:
            if _is_forgotten(facts):
                ended[run_id] = ("KILLED", facts.begun_ms)
        elif status := STATUS.get(record.dagster_run.status):
            ended[run_id] = (status, int((record.end_time or time.time()) * 1_000))
    return ended


def _records(instance: dg.DagsterInstance, run_ids: list[str]) -> list[dg.RunRecord]:
    return list(instance.get_run_records(dg.RunsFilter(run_ids=run_ids))) if run_ids else []


def _is_forgotten(facts: RunFacts) -> bool:
    return now_ms() - facts.begun_ms > FORGOTTEN_MS


def _present(models: Models) -> Seen:
    store = models.open()
    return Seen(max(store.ledger.numbers(), default=0), len(store.versions()), time.time())
