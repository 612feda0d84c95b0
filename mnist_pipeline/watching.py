"""Two sensors: `alerts` tells what became of every run, `watch` whether what should run by itself does.

Each also watches the other, so that neither goes silent unnoticed; `watch` gives a sign of life to the outside.
Here: what was told already, and in which order things are told, remembered and tagged.
Not here: what deserves an alert (`findings.py`, `health.py`), and what a message looks like (`alerts.py`).
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from mnist_pipeline.alerts import Alert, Alerter, Heartbeat, alert, batches
from mnist_pipeline.findings import FINISHED, PAGE, alerts_of, events_of, events_of_many
from mnist_pipeline.health import Problem, Sight, problems, silence_of
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import Alerts

TAG = "mnist_pipeline/alerted"
TOLD = "mnist_pipeline/told"  # the key under which Dagster's own key-value table keeps what was told and not tagged yet
FIRST_LOOK_S = 24 * 3600.0  # what failed before that is history
OVERLAP_S = 600.0  # events of a slow or skewed worker may appear late
ONE_BY_ONE = 40  # runs read exactly; of more, the index is read
TAGGING_S = 10.0  # a tick; the rest is tagged in the next ones
SILENT_S = 300.0  # without a tick, those who watch each other say so
EVERYTHING = "all"


@dataclass
class Watched:
    """Since when somebody looks, without a gap, and which problems were told. Part of both cursors."""

    first: float = 0.0
    since: float = 0.0
    last: float = 0.0
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def looks(self, now: float, ticked: float = 0.0) -> float:
        """Note that somebody looks now; returns the seconds for which nobody did, 0 if there was no gap.

        ticked: when the last tick was, also one that failed and so left no cursor behind.
        """
        last = max(self.last, ticked)
        gap = now - last if last else 0.0
        self.first, self.last = self.first or now, now
        if not self.since or gap > SILENT_S:
            self.since = now
        return gap if gap > SILENT_S else 0.0

    def news(self, found: Sequence[Problem], now: float) -> list[Alert]:
        """What began, and what is over, since the last time."""
        now_wrong = {each.key: each for each in found}
        began = [each for key, each in now_wrong.items() if key not in self.told]
        over = {key: about for key, about in self.told.items() if key not in now_wrong}
        self.told = {key: about for key, about in self.told.items() if key not in over}
        self.told |= {each.key: {"since": now, "title": each.title} for each in began}
        return [*(_begins(each, now) for each in began), *(_is_over(key, about, now) for key, about in over.items())]


def _begins(each: Problem, now: float) -> Alert:
    return alert(f"{each.key}:{now:.0f}", each.kind, each.title, each.cause, link=each.link)


def _is_over(key: str, about: Mapping[str, Any], now: float) -> Alert:
    minutes = max(1, round((now - about["since"]) / 60))
    return alert(f"{key}:{about['since']:.0f}:over", "over", f"Over: {about['title']}", f"it lasted {minutes} min")


# --- what became of every run ---


@dataclass
class Position:
    """The cursor of `alerts`: how far it has come, which runs of the overlap had nothing to tell, and the watch."""

    after: float = 0.0
    quiet: dict[str, float] = field(default_factory=dict)
    watched: Watched = field(default_factory=Watched)

    @classmethod
    def read(cls, cursor: str | None, now: float) -> "Position":
        """Without a cursor: a day back."""
        if not cursor:
            return cls(after=now - FIRST_LOOK_S)
        given = json.loads(cursor)
        return cls(given["after"], given["quiet"], Watched(**given["watched"]))

    def write(self) -> str:
        return json.dumps(asdict(self))

    def pass_by(self, records: Sequence[dg.RunRecord], quiet: Iterable[str]) -> None:
        """All of these were looked at; of `quiet` nothing has to be told, and they need no second look."""
        updated = {r.dagster_run.run_id: r.update_timestamp.timestamp() for r in records}
        self.after = max([self.after, *updated.values()])
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


def tell_runs(
    instance: dg.DagsterInstance,
    alerter: Alerter,
    position: Position,
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
    position.pass_by(records, [run for _, run, those in alerts if not those])
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


# --- the sensors ---


def watching_sensors(nightly: NightlyRun | None = None) -> list[dg.SensorDefinition]:
    """`alerts` and `watch`, running by default. nightly: when a night is due, None for none."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells failed runs, failed checks, refused models, fallbacks and empty nights, each once.",
    )
    def alerts_sensor(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SkipReason:
        now, alerter = time.time(), alerts.open(context.log)
        position = Position.read(context.cursor, now)
        checks = context.repository_def.asset_graph.asset_check_keys if context.repository_def else ()
        said = tell_runs(context.instance, alerter, position, alerts.ui_url, checks)
        position.watched.looks(now, _previous_tick(context, alerts, position.watched))
        _tell_news(alerter, position.watched, silence_of(_sight(context, alerts, position.watched), "watch", SILENT_S))
        context.update_cursor(position.write())
        return dg.SkipReason(said)

    @dg.sensor(
        name="watch",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells when schedules, sensors, daemons or nights stop, and when they go on; gives a sign of life.",
    )
    def watch_sensor(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SkipReason:
        watched = Watched(**json.loads(context.cursor)) if context.cursor else Watched()
        said = watch(context, alerts, watched, nightly, time.time())
        context.update_cursor(json.dumps(asdict(watched)))
        return dg.SkipReason(f"{said}; {sign_of_life(context, alerts.heartbeat())}")

    return [alerts_sensor, watch_sensor]


def watch(
    context: dg.SensorEvaluationContext, alerts: Alerts, watched: Watched, nightly: NightlyRun | None, now: float
) -> str:
    """Look at everything once and tell what changed. Raises AlertsUndelivered."""
    gap = watched.looks(now, _previous_tick(context, alerts, watched))
    found = problems(_sight(context, alerts, watched), nightly, but=["watch"])
    away = [alert(f"unwatched:{now:.0f}", "unwatched", "Nothing was watched", _gap(gap))] if gap else []
    _tell_news(alerts.open(context.log), watched, found, away)
    return "; ".join(each.title for each in found) or "all is well"


def sign_of_life(context: dg.SensorEvaluationContext, heartbeat: Heartbeat) -> str:
    """Give it; whether it was taken is said in the tick."""
    try:
        heartbeat.beat()
    except OSError as error:
        context.log.warning(f"no sign of life was given: {error}")
        return f"the heartbeat failed: {type(error).__name__}"
    return "heartbeat given"


def _tell_news(alerter: Alerter, watched: Watched, found: Sequence[Problem], more: Sequence[Alert] = ()) -> None:
    """One message for everything that is new, so that it went out or it did not."""
    if news := [*more, *watched.news(found, watched.last)]:
        alerter.send(news)


def _sight(context: dg.SensorEvaluationContext, alerts: Alerts, watched: Watched) -> Sight:
    repository = context.repository_def
    assert repository is not None  # Dagster's daemon gives it to every sensor
    origin = context.code_location_origin
    location = origin.location_name if origin else None
    return Sight(context.instance, repository, location, watched.last, watched.since, watched.first, alerts.ui_url)


def _previous_tick(context: dg.SensorEvaluationContext, alerts: Alerts, watched: Watched) -> float:
    """When this sensor ticked before this tick; 0 if it never did."""
    sight = _sight(context, alerts, watched)
    state = sight.states().get(context.sensor_name)
    ticks = sight.ticks(state, 2) if state else []
    return ticks[1].timestamp if len(ticks) > 1 else 0.0


def _gap(seconds: float) -> str:
    return f"no tick of `watch` for {round(seconds / 60)} min"
