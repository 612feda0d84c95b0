"""What became of every run is told, each once, whatever fails in between.

Here: from which run on one looks, what was told already, and in which order things are sent, remembered and tagged.
Not here: what of a run deserves an alert (`findings.py`); the sensor that does this twice a minute (`watching.py`).
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import dagster as dg

from mnist_pipeline.alerts.doors import Alerter
from mnist_pipeline.alerts.kinds import Alert, batches
from mnist_pipeline.sensors.findings import FINISHED, PAGE, alerts_of, events_of, events_of_many

TAG = "mnist_pipeline/alerted"
TOLD = "mnist_pipeline/told"  # the key under which Dagster's own key-value table keeps what was told and not tagged yet
FIRST_LOOK_S = 24 * 3600.0  # what failed before that is history
OVERLAP_S = 600.0  # events of a slow or skewed worker may appear late
ONE_BY_ONE = 40  # runs read exactly; of more, the index is read
TAGGING_S = 10.0  # a tick; the rest is tagged in the next ones
EVERYTHING = "all"


@dataclass
class Position:
    """How far one has come, in seconds since 1970, and which runs of the overlap had nothing to tell."""

    after: float
    quiet: dict[str, float] = field(default_factory=dict)

    @classmethod
    def first(cls, now: float) -> "Position":
        """A day back."""
        return cls(now - FIRST_LOOK_S)

    def pass_by(self, records: Sequence[dg.RunRecord], quiet: Iterable[str], now: float) -> None:
        """All of these were looked at; of `quiet` nothing has to be told, and they need no second look.

        now: before they were looked up. It is never passed, though a worker's clock may be ahead.
        """
        updated = {r.dagster_run.run_id: r.update_timestamp.timestamp() for r in records}
        self.after = max([self.after, *(min(at, now) for at in updated.values())])
        self.quiet |= {run: updated[run] for run in quiet if run in updated}
        self.quiet = {run: at for run, at in self.quiet.items() if at > self.after - OVERLAP_S}


class Told:
    """What went out already: in a tag of each run, and, until that is written, in one row of Dagster's own table.

    The row is written at once after a message, so that a digest of a thousand runs costs one write and not a thousand
    before it is safe. The tag holds the run's id, for a re-executed run inherits the tags of its parent.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        kept = instance.daemon_cursor_storage.get_cursor_values({TOLD}).get(TOLD)
        self._untagged: dict[str, list[str]] = json.loads(kept) if kept else {}

    def of(self, run: dg.DagsterRun) -> set[str]:
        """Ids of alerts that went out; EVERYTHING when nothing is left to tell of this run."""
        own, _, ids = run.tags.get(TAG, "").partition(" ")
        return {*(ids.split() if own == run.run_id[:8] else ()), *self._untagged.get(run.run_id, ())}

    def add(self, told: Mapping[str, Iterable[str]]) -> None:
        """Run id -> what was told of it. Durable when this returns."""
        for run, ids in told.items():
            self._untagged[run] = sorted({*self._untagged.get(run, ()), *ids})
        self._keep()

    def tag(self, clock: Callable[[], float], seconds: float) -> int:
        """Write tags for some seconds; returns how many runs are left for the next time."""
        until, changed = clock() + seconds, bool(self._untagged)
        for run in list(self._untagged):
            if clock() > until:
                break
            ids = self._untagged.pop(run)
            kept = [EVERYTHING] if EVERYTHING in ids else ids
            if self._instance.has_run(run):
                self._instance.add_run_tags(run, {TAG: " ".join([run[:8], *kept])})
        if changed:
            self._keep()
        return len(self._untagged)

    def _keep(self) -> None:
        self._instance.daemon_cursor_storage.set_cursor_values({TOLD: json.dumps(self._untagged)})


def is_told_by_others(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note that there is nothing to tell of a run: what it fails of is told of the runs that it started."""
    instance.add_run_tags(run_id, {TAG: f"{run_id[:8]} {EVERYTHING}"})


def tell_runs(
    instance: dg.DagsterInstance,
    alerter: Alerter,
    position: Position,
    now: float,
    ui_url: str = "",
    checks: Iterable[dg.AssetCheckKey] = (),
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Send what the runs since `position` have to tell, and move it on. Raises AlertsUndelivered: nothing is lost."""
    told = Told(instance)
    records = finished_runs(instance, position.after - OVERLAP_S)
    fresh = [
        r for r in records if r.dagster_run.run_id not in position.quiet and EVERYTHING not in told.of(r.dagster_run)
    ]
    alerts = _alerts_by_run(instance, fresh, ui_url, checks)
    waiting = {run: [a for a in those if _short(a) not in told.of(by_id)] for by_id, run, those in alerts if those}
    owner = {each.id: run for run, those in waiting.items() for each in those}
    everything = [each for those in waiting.values() for each in those]
    for batch in batches(everything):
        alerter.send(batch)
        gone = {owner[each.id] for each in batch}
        for each in batch:
            waiting[owner[each.id]].remove(each)
        told.add({run: [*(_short(a) for a in batch if owner[a.id] == run), *_done(waiting[run])] for run in gone})
    position.pass_by(records, [run for _, run, those in alerts if not those], now)
    left = told.tag(clock, TAGGING_S)
    more = f", {left:,} runs still to be tagged" if left else ""
    return f"{len(everything):,} alerts from {len(fresh):,} runs{more}"


def finished_runs(instance: dg.DagsterInstance, after: float) -> list[dg.RunRecord]:
    """Every run that ended or changed since (seconds since 1970), those that ended first at the front."""
    since = datetime.fromtimestamp(max(after, 0.0), timezone.utc)
    wanted, found, last = dg.RunsFilter(statuses=FINISHED, updated_after=since), list[dg.RunRecord](), None
    while True:
        page = instance.get_run_records(wanted, limit=PAGE, ascending=True, cursor=last)
        found += page
        if len(page) < PAGE:
            return sorted(found, key=lambda record: (record.update_timestamp, record.storage_id))
        last = page[-1].dagster_run.run_id


def _alerts_by_run(
    instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], ui_url: str, checks: Iterable[dg.AssetCheckKey]
) -> list[tuple[dg.DagsterRun, str, list[Alert]]]:
    runs = [record.dagster_run for record in records]
    few = len(runs) <= ONE_BY_ONE
    events = events_of(instance, records) if few else events_of_many(instance, records, checks)
    return [(run, run.run_id, alerts_of(run, events[run.run_id], ui_url)) for run in runs]


def _short(each: Alert) -> str:
    """Of an alert's id, without the run's: what stands in the tag."""
    return each.id.partition(":")[2].replace(" ", "_")


def _done(left: Sequence[Alert]) -> list[str]:
    return [] if left else [EVERYTHING]
