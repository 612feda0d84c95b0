"""Whether what should run by itself does: schedules, sensors, daemons, nights.

Here: what is wrong now (`problems`), told from states and ticks that Dagster keeps; nothing is sent or remembered.
Not here: who is told, and when it began (`watching.py`); what became of runs (`findings.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

from mnist_pipeline.findings import cause
from mnist_pipeline.healing import BATCH, is_predicted
from mnist_pipeline.nights import NightlyRun

if TYPE_CHECKING:  # 16 ms of loading the code location
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick

IN_A_ROW = 3  # failed ticks of a sensor; of a schedule, which ticks rarely, one is enough
PATIENCE_S = 180.0  # a sensor is late after five of its intervals, and not before this
DUE_S = 600.0  # a schedule may be this late
DAEMON_S = 300.0  # daemons give a sign of life every 30 s
NIGHT_S = 3_600.0  # a night may take this long
NIGHTS_BACK = timedelta(days=7)


@dataclass(frozen=True)
class Problem:
    """Something wrong. key: the same as long as it lasts. kind: as in alerts.KINDS."""

    key: str
    kind: str
    title: str
    cause: str
    link: str = ""


@dataclass(frozen=True)
class Sight:
    """What is looked at, and when. since: as long as it has been watched without a gap; first: as long as ever."""

    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition
    location: str | None
    now: float
    since: float
    first: float
    ui_url: str = ""

    def states(self) -> Mapping[str, InstigatorState]:
        """Name -> state, of this code location. One that never ticked has none."""
        found = (each for each in self.instance.all_instigator_state() if self._is_ours(each))
        return {each.instigator_name: each for each in found}

    def ticks(self, state: InstigatorState, count: int) -> Sequence[InstigatorTick]:
        """The newest first. By selector, which a reloaded code location keeps."""
        return self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=count)

    def late(self, expected: float, patience: float) -> bool:
        """Whether something expected then is overdue, of which only the time counts that somebody could do it."""
        return self.now - max(expected, self.since) > patience

    def _is_ours(self, state: InstigatorState) -> bool:
        where = state.repository_selector
        return where.repository_name == self.repository.name and self.location in (None, where.location_name)


def problems(sight: Sight, nightly: NightlyRun | None, but: Iterable[str] = ()) -> list[Problem]:
    """Everything wrong now. but: names of sensors that somebody else watches."""
    states, unwatched = sight.states(), set(but)
    found = list(_daemons(sight))
    for sensor in sight.repository.sensor_defs:
        if sensor.name not in unwatched:
            found += _sensor(sight, sensor, states.get(sensor.name))
    for schedule in sight.repository.schedule_defs:
        found += _schedule(sight, schedule, states.get(schedule.name))
    return found + (list(_nights(sight, nightly)) if nightly else [])


def _sensor(sight: Sight, sensor: dg.SensorDefinition, state: InstigatorState | None) -> Iterator[Problem]:
    of = _Instigator("sensor", sensor.name, f"{sight.ui_url}/automation")
    on = sensor.default_status == dg.DefaultSensorStatus.RUNNING
    if not _is_on(state, on):
        yield from of.off(on)
        return
    ticks = sight.ticks(state, IN_A_ROW + 1) if state else []
    started = getattr(state.instigator_data, "last_sensor_start_timestamp", None) if state else None
    last = max(ticks[0].timestamp if ticks else sight.first, started or 0.0)
    if sight.late(last, max(PATIENCE_S, 5 * (sensor.minimum_interval_seconds or 30))):
        yield of.lagging(f"its last tick was {_ago(sight.now - last)}" if ticks else "it has never ticked")
    yield from of.failing(ticks, IN_A_ROW)


def _schedule(sight: Sight, schedule: dg.ScheduleDefinition, state: InstigatorState | None) -> Iterator[Problem]:
    of = _Instigator("schedule", schedule.name, f"{sight.ui_url}/automation")
    on = schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    if not _is_on(state, on):
        yield from of.off(on)
        return
    ticks = sight.ticks(state, 2) if state else []
    due, started = _last_due(schedule, sight.now), getattr(state and state.instigator_data, "start_timestamp", None)
    expected = due > max(started or 0.0, sight.first)
    if expected and sight.late(due, DUE_S) and (not ticks or ticks[0].timestamp < due):
        yield of.lagging(f"its tick of {_clock(due)} is missing")
    yield from of.failing(ticks, 1)


def _last_due(schedule: dg.ScheduleDefinition, now: float) -> float:
    """When it should have ticked last."""
    times = schedule_execution_time_iterator(
        now, schedule.cron_schedule, schedule.execution_timezone or "UTC", ascending=False
    )
    return next(at.timestamp() for at in times if at.timestamp() <= now)


def _is_on(state: InstigatorState | None, by_default: bool) -> bool:
    """As Dagster decides it: what people did counts, else what the code says."""
    if state is None or state.status.name == "DECLARED_IN_CODE":
        return by_default
    return state.is_running


@dataclass(frozen=True)
class _Instigator:
    sort: str
    name: str
    link: str

    def off(self, by_default: bool) -> Iterator[Problem]:
        """Only where the code says that it runs: others may be off."""
        if by_default:
            said = "its code says RUNNING, and it was stopped by hand"
            yield Problem(
                f"off:{self.name}", "switched_off", f"{self.sort} {self.name} is switched off", said, self.link
            )

    def lagging(self, why: str) -> Problem:
        return Problem(f"lagging:{self.name}", "lagging", f"{self.sort} {self.name} does not tick", why, self.link)

    def failing(self, ticks: Sequence[InstigatorTick], in_a_row: int) -> Iterator[Problem]:
        """Failures to reach Slack are left out: they could not be told, and when they can they are over."""
        done = [tick for tick in ticks if tick.status.name != "STARTED"][:in_a_row]
        failed = [tick for tick in done if tick.status.name == "FAILURE"]
        if len(failed) < in_a_row or _is_about_slack(failed[0]):
            return
        why = cause(failed[0].error) if failed[0].error else "no reason was recorded"
        yield Problem(f"failing:{self.name}", "failing", f"{self.sort} {self.name} fails", why, self.link)


def _is_about_slack(tick: InstigatorTick) -> bool:
    error = tick.error
    while error is not None:
        if error.cls_name == "AlertsUndelivered":
            return True
        error = error.cause
    return False


def _daemons(sight: Sight) -> Iterator[Problem]:
    beats = sight.instance.get_daemon_heartbeats()
    for sort in sight.instance.get_required_daemon_types():
        last = beats[sort].timestamp if sort in beats else sight.first
        if sight.late(last, DAEMON_S):
            why = (
                f"its last sign of life was {_ago(sight.now - last)}"
                if sort in beats
                else "it never gave a sign of life"
            )
            yield Problem(
                f"daemon:{sort}", "daemon_silent", f"Daemon {sort} is silent", why, f"{sight.ui_url}/deployment/health"
            )


def _nights(sight: Sight, nightly: NightlyRun) -> Iterator[Problem]:
    first, now = (datetime.fromtimestamp(at, timezone.utc) for at in (sight.first, sight.now))
    for night in nightly.due_between(max(first, now - NIGHTS_BACK), now):
        due, name = nightly.due(night).timestamp(), BATCH.to_user_string()
        if sight.late(due, NIGHT_S) and not is_predicted(sight.instance, nightly, night):
            why = f"it was due at {_clock(due)}, and {name} has no partition {night}"
            link = f"{sight.ui_url}/assets/{name}"
            yield Problem(f"night:{night}", "night_overdue", f"Night {night} has no predictions", why, link)


def silence_of(sight: Sight, name: str, patience: float) -> list[Problem]:
    """Whether one sensor is off, silent or failing: for those who watch each other."""
    sensor = next(each for each in sight.repository.sensor_defs if each.name == name)
    state = sight.states().get(name)
    ticks = sight.ticks(state, IN_A_ROW + 1) if state else []
    of = _Instigator("sensor", name, f"{sight.ui_url}/automation")
    if not _is_on(state, sensor.default_status == dg.DefaultSensorStatus.RUNNING):
        return list(of.off(True))
    last = ticks[0].timestamp if ticks else sight.first
    silent = sight.late(last, patience)
    said = (
        [of.lagging(f"its last tick was {_ago(sight.now - last)}" if ticks else "it has never ticked")]
        if silent
        else []
    )
    return [*said, *of.failing(ticks, IN_A_ROW)]


def _ago(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M UTC")
