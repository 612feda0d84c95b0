"""Whether what should run by itself does: schedules, sensors, daemons, nights.

Here: what is wrong now (`problems`), told from states and ticks that Dagster keeps; nothing is sent or remembered.
Not here: who is told, and when it began (`watching.py`); what became of runs (`findings.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

from mnist_pipeline.assets.attempts import BATCH, LOOKED_BACK, is_predicted
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.sensors.findings import cause

if TYPE_CHECKING:  # 16 ms of loading the code location
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus

_BATCH = BATCH.to_user_string()
IN_A_ROW = 3  # failed ticks of a sensor; of a schedule, which ticks rarely, one is enough
PATIENCE_S = 180.0  # a sensor is late after five of its intervals, and not before this
DUE_S = 600.0  # a schedule may be this late
DAEMON_S = 300.0  # daemons give a sign of life every 30 s
NIGHT_S = 3_600.0  # a night may take this long


@dataclass(frozen=True)
class Problem:
    """Something wrong. key: the same as long as it lasts. kind: as in alerts.KINDS.

    is_the_end: what was told under this key does not go on, and is not over either; this is the last word about it.
    """

    key: str
    kind: str
    title: str
    cause: str
    link: str = ""
    is_the_end: bool = False


@dataclass(frozen=True)
class Sight:
    """What is looked at, and when. since: as long as it has been watched without a gap; first: as long as ever.

    told: keys of problems that people were told of, and not yet that they are over.
    """

    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition
    location: str | None
    now: float
    since: float
    first: float
    told: Set[str] = frozenset()
    ui_url: str = ""

    def states(self) -> Mapping[str, InstigatorState]:
        """Name -> state, of this code location. One that never ticked has none."""
        found = (each for each in self.instance.all_instigator_state() if self._is_ours(each))
        return {each.instigator_name: each for each in found}

    def ticks(
        self, state: InstigatorState, count: int, statuses: Sequence[TickStatus] | None = None
    ) -> Sequence[InstigatorTick]:
        """The newest first. By selector, which a reloaded code location keeps. statuses: only such, None for all."""
        return self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=count, statuses=statuses)

    def late(self, key: str, expected: float, patience: float) -> bool:
        """Whether something expected then is overdue.

        After a gap there is time to make up for it, so that nobody is accused of the daemon's absence. What was told
        before gets none: it did not go away by nobody looking.
        """
        return self.now - (expected if key in self.told else max(expected, self.since)) > patience

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
    if sight.late(f"lagging:{sensor.name}", last, max(PATIENCE_S, 5 * (sensor.minimum_interval_seconds or 30))):
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
    missing = due > max(started or 0.0, sight.first) and (not ticks or ticks[0].timestamp < due)
    key = f"lagging:{schedule.name}"  # once told it is so until it ticks: the next tick being due makes nothing better
    if missing and (key in sight.told or sight.late(key, due, DUE_S)):
        yield of.lagging(f"its tick of {clock(due)} is missing")
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
        """Failures to reach Slack are left out: they cannot be told, and when they can they are over.

        As long as they last there is no sign of life: see `held_back_since`.
        """
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
        if sight.late(f"daemon:{sort}", last, DAEMON_S):
            why = (
                f"its last sign of life was {_ago(sight.now - last)}"
                if sort in beats
                else "it never gave a sign of life"
            )
            yield Problem(
                f"daemon:{sort}", "daemon_silent", f"Daemon {sort} is silent", why, f"{sight.ui_url}/deployment/health"
            )


def _nights(sight: Sight, nightly: NightlyRun) -> Iterator[Problem]:
    """Those not predicted. One that was told is here until it is predicted, or nobody asks for it any more."""
    first, now = (datetime.fromtimestamp(at, timezone.utc) for at in (sight.first, sight.now))
    told = {key.partition(":")[2] for key in sight.told if key.startswith("night:")}
    for night in sorted({*told, *nightly.due_between(max(first, now - LOOKED_BACK), now)}):
        due, key = nightly.due(night), f"night:{night}"
        late = night in told or sight.late(key, due.timestamp(), NIGHT_S)
        if late and not is_predicted(sight.instance, nightly, night):
            yield _given_up(sight, key, night) if due < now - LOOKED_BACK else _overdue(sight, key, night, due)


def _overdue(sight: Sight, key: str, night: str, due: datetime) -> Problem:
    why = f"it was due at {clock(due.timestamp())}, and {_BATCH} has no partition {night}"
    return Problem(key, "night_overdue", f"Night {night} has no predictions", why, f"{sight.ui_url}/assets/{_BATCH}")


def _given_up(sight: Sight, key: str, night: str) -> Problem:
    why, link = f"`heal_nights` has asked for it for {LOOKED_BACK.days} days", f"{sight.ui_url}/assets/{_BATCH}"
    return Problem(key, "night_given_up", f"Night {night} is given up", why, link, is_the_end=True)


def silence_of(sight: Sight, name: str, patience: float) -> list[Problem]:
    """Whether one sensor is off, silent or failing: for those who watch each other."""
    sensor = next(each for each in sight.repository.sensor_defs if each.name == name)
    state = sight.states().get(name)
    ticks = sight.ticks(state, IN_A_ROW + 1) if state else []
    of = _Instigator("sensor", name, f"{sight.ui_url}/automation")
    if not _is_on(state, sensor.default_status == dg.DefaultSensorStatus.RUNNING):
        return list(of.off(True))
    last = ticks[0].timestamp if ticks else sight.first
    silent = sight.late(f"lagging:{name}", last, patience)
    said = (
        [of.lagging(f"its last tick was {_ago(sight.now - last)}" if ticks else "it has never ticked")]
        if silent
        else []
    )
    return [*said, *of.failing(ticks, IN_A_ROW)]


def held_back_since(sight: Sight, name: str) -> float:
    """Since when what a sensor has to tell does not get out, in seconds since 1970; 0 if it does, as far as is known.

    Its failed ticks say so. They are counted from the last one that went well.
    """
    from dagster._core.scheduler.instigation import TickStatus

    state = sight.states().get(name)
    newest = [tick for tick in sight.ticks(state, 2) if tick.status.name != "STARTED"] if state else []
    if state is None or not newest or not _is_about_slack(newest[0]):
        return 0.0
    well = sight.ticks(state, 1, [TickStatus.SKIPPED, TickStatus.SUCCESS])
    return max(well[0].timestamp if well else sight.first, sight.since)


def _ago(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"


def clock(at: float) -> str:
    """Seconds since 1970 as people read it, in UTC."""
    return datetime.fromtimestamp(at, ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M UTC")
