"""Two sensors: `alerts` tells what became of every run, `watch` whether what should run by itself does.

Each also watches the other, so that neither goes silent unnoticed; `watch` gives a sign of life to the outside.
Here: what they remember, what is news to people, and when there is a sign of life.
Not here: what is wrong (`health.py`), how runs are told (`telling.py`), what a message looks like (`alerts/`).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from mnist_pipeline.alerts.doors import Alerter, AlertsUndelivered, Heartbeat
from mnist_pipeline.alerts.kinds import Alert, alert, batches
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import Alerts
from mnist_pipeline.sensors.health import Problem, Sight, clock, held_back_since, problems, silence_of
from mnist_pipeline.sensors.telling import Position, tell_runs

SILENT_S = 300.0  # without a tick, those who watch each other say so
HELD_BACK_S = 600.0  # so long an alert may wait for Slack; then there is no sign of life until it went out


@dataclass(frozen=True)
class News:
    """An alert, and what is remembered under its key once it went out: None to forget the key."""

    key: str
    alert: Alert
    about: dict[str, Any] | None


@dataclass
class Watched:
    """Since when somebody looks without a gap, which problems were told, and since when news wait: a cursor's part.

    All times are in seconds since 1970. gap: seconds in which nobody looked, as long as that was not told.
    """

    first: float = 0.0
    since: float = 0.0
    last: float = 0.0
    gap: float = 0.0
    held_back: float = 0.0
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def looks(self, now: float) -> float:
        """Note that somebody looks now; returns the seconds in which nobody did, 0 if there was no gap."""
        gap = now - self.last if self.last else 0.0
        self.first, self.last = self.first or now, now
        if not self.since or gap > SILENT_S:
            self.since = now
        return gap if gap > SILENT_S else 0.0

    def tell(self, alerter: Alerter, found: Sequence[Problem]) -> None:
        """Send what began and what is over. Raises AlertsUndelivered: what did not go out is news again next time."""
        news = {each.alert.id: each for each in self.news(found)}
        try:
            for batch in batches([each.alert for each in news.values()]):
                alerter.send(batch)
                for sent in batch:
                    self._went_out(news[sent.id])
        except AlertsUndelivered:
            self.held_back = self.held_back or self.last
            raise
        self.held_back = 0.0

    def news(self, found: Sequence[Problem]) -> list[News]:
        """What was not told yet. A problem that is no more is over, unless its end was told as a problem itself."""
        wrong = {each.key: each for each in found}
        began = [self._begins(each) for key, each in wrong.items() if each.is_the_end or key not in self.told]
        over = [self._is_over(key) for key in self.told if key not in wrong]
        return [*([self._unwatched()] if self.gap else []), *began, *over]

    def _begins(self, each: Problem) -> News:
        told = alert(f"{each.key}:{self.last:.0f}", each.kind, each.title, each.cause, link=each.link)
        return News(each.key, told, None if each.is_the_end else {"since": self.last, "title": each.title})

    def _is_over(self, key: str) -> News:
        about = self.told[key]
        minutes = max(1, round((self.last - about["since"]) / 60))
        id, title = f"{key}:{about['since']:.0f}:over", f"Over: {about['title']}"
        return News(key, alert(id, "over", title, f"it lasted {minutes} min"), None)

    def _unwatched(self) -> News:
        said = f"`watch` saw nothing for {round(self.gap / 60)} min"
        return News("unwatched", alert(f"unwatched:{self.last:.0f}", "unwatched", "Nothing was watched", said), None)

    def _went_out(self, news: News) -> None:
        if news.key == "unwatched":
            self.gap = 0.0
        elif news.about:
            self.told[news.key] = news.about
        else:
            self.told.pop(news.key, None)


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
        now, kept = time.time(), json.loads(context.cursor or "{}")
        watched = Watched(**kept.pop("watched", {}))
        position = Position(**kept) if kept else Position.first(now)
        said = listen(context, alerts, position, watched, now)
        context.update_cursor(json.dumps({**asdict(position), "watched": asdict(watched)}))
        return dg.SkipReason(said)

    @dg.sensor(
        name="watch",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells when schedules, sensors, daemons or nights stop, and when they go on; gives a sign of life.",
    )
    def watch_sensor(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SkipReason:
        watched = Watched(**json.loads(context.cursor or "{}"))
        said = watch(context, alerts, watched, nightly, time.time())
        context.update_cursor(json.dumps(asdict(watched)))
        return dg.SkipReason(said)

    return [alerts_sensor, watch_sensor]


def listen(
    context: dg.SensorEvaluationContext, alerts: Alerts, position: Position, watched: Watched, now: float
) -> str:
    """Tell what became of runs, and whether `watch` does its work. Raises AlertsUndelivered: then keep no cursor."""
    alerter = alerts.open(context.log)
    checks = context.repository_def.asset_graph.asset_check_keys if context.repository_def else ()
    said = tell_runs(context.instance, alerter, position, now, alerts.ui_url, checks)
    watched.looks(now)
    watched.tell(alerter, silence_of(_sight(context, alerts, watched), "watch", SILENT_S))
    return said


def watch(
    context: dg.SensorEvaluationContext, alerts: Alerts, watched: Watched, nightly: NightlyRun | None, now: float
) -> str:
    """Look at everything once, tell what changed, and give a sign of life while alerts get out.

    Where Slack takes nothing the tick goes on, so that what was seen is remembered; it says so, and so does the log.
    """
    watched.gap = max(watched.gap, watched.looks(now))
    sight = _sight(context, alerts, watched)
    found = problems(sight, nightly, but=["watch"])
    said = ["; ".join(each.title for each in found) or "all is well"]
    try:
        watched.tell(alerts.open(context.log), found)
    except AlertsUndelivered as error:
        context.log.warning(f"news wait: {error}")
        said = [*said, f"news wait since {clock(watched.held_back)}: {error}"]
    waiting = min(filter(None, [watched.held_back, held_back_since(sight, "alerts")]), default=now)
    if now - waiting > HELD_BACK_S:
        return "; ".join([*said, f"no heartbeat: alerts have not got out since {clock(waiting)}"])
    return "; ".join([*said, sign_of_life(context, alerts.heartbeat())])


def sign_of_life(context: dg.SensorEvaluationContext, heartbeat: Heartbeat) -> str:
    """Give it; whether it was taken is said in the tick."""
    try:
        heartbeat.beat()
    except OSError as error:
        context.log.warning(f"no sign of life was given: {error}")
        return f"the heartbeat failed: {type(error).__name__}"
    return "heartbeat given"


def _sight(context: dg.SensorEvaluationContext, alerts: Alerts, watched: Watched) -> Sight:
    repository = context.repository_def
    assert repository is not None  # Dagster's daemon gives it to every sensor
    origin = context.code_location_origin
    return Sight(
        instance=context.instance,
        repository=repository,
        location=origin.location_name if origin else None,
        now=watched.last,
        since=watched.since,
        first=watched.first,
        told=frozenset(watched.told),
        ui_url=alerts.ui_url,
    )
