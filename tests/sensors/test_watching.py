"""Watching: every way to fail is told, once; nothing is lost when Slack or the process goes away."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo
from pipelines import BARELY, NIGHT, Pipeline
from slack_sdk import WebClient
from slack_stand_in import SlackStandIn, slack_stand_in

from mnist_pipeline.alerts.doors import AlertsUndelivered, SlackAlerter
from mnist_pipeline.alerts.kinds import Alert
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import Alerts
from mnist_pipeline.sensors.findings import alerts_of, events_of, events_of_many
from mnist_pipeline.sensors.telling import FIRST_LOOK_S, TAG, Position, finished_runs, tell_runs
from mnist_pipeline.sensors.watching import Watched, listen, watch, watching_sensors

UI = "http://ui.example:3000"
YAML = "storage:\n  sqlite:\n    base_dir: {0}\ntelemetry:\n  enabled: false\n"


class Unreachable(RuntimeError):
    """An error of ours, raised from another one."""


@dg.asset
def broken() -> None:
    try:
        raise KeyError("the token is xoxb-99-secret")
    except KeyError as error:
        raise Unreachable("the bucket is gone") from error


@dg.asset
def whole() -> int:
    return 1


@dg.asset
def guarded() -> int:
    return 1


@dg.asset_check(asset=whole)
def warns() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"share": 0.5})


@dg.asset_check(asset=whole)
def errs() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.ERROR, description="far too few")


@dg.asset_check(asset=whole)
def passes() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=guarded, blocking=True)
def blocks() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


class Expensive(dg.ConfigurableResource):
    """A resource that cannot be had: no step gets as far as failing."""

    address: str = "nowhere"

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        raise ConnectionError("no route to the database")


@dg.op
def hopeless(expensive: Expensive) -> None:
    """Is never run."""


@dg.job(resource_defs={"expensive": Expensive()})
def unstartable() -> None:
    hopeless()


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def ears() -> None:
    """A sensor that the code says is on."""


@dg.sensor(minimum_interval_seconds=30)
def deaf() -> None:
    """One that is off."""


@dg.schedule(
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    job=unstartable,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly() -> None:
    """Every night at two."""


CONDITIONS = dg.AutomationConditionSensorDefinition(
    "conditions", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
)
HERE = dg.Definitions(
    assets=[broken, whole, guarded],
    asset_checks=[warns, errs, passes, blocks],
    jobs=[unstartable],
    sensors=[ears, deaf, CONDITIONS, *watching_sensors()],
    schedules=[nightly],
)
CHECKS = HERE.resolve_asset_graph().asset_check_keys


class House:
    """An instance on a disk, a Slack, and how far the sensor `alerts` has come."""

    def __init__(self, folder: Path, slack: SlackStandIn) -> None:
        self.folder, self.slack = folder, slack
        (folder / "dagster.yaml").write_text(YAML.format(folder))
        self.position: Position | None = None
        self.restart()

    def restart(self) -> None:
        """Another process: only what is on the disk is known."""
        self.instance = dg.DagsterInstance.from_config(str(self.folder))

    def run(self, *assets: str, **more: Any) -> str:
        job = HERE.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(asset) for asset in assets]
        return job.execute_in_process(instance=self.instance, asset_selection=keys, raise_on_error=False, **more).run_id

    def tick(self, clock: Callable[[], float] = time.monotonic) -> str:
        """One evaluation of `alerts`; where it raises, Dagster keeps the old cursor."""
        client = WebClient("xoxb-1-x", base_url=self.slack.url, timeout=1, retry_handlers=[])
        door = SlackAlerter(client, "C1", runs_page=f"{UI}/runs", pause=lambda s: None)
        now = time.time()
        position = deepcopy(self.position) or Position.first(now)
        said = tell_runs(self.instance, door, position, now, UI, CHECKS, clock)
        self.position = position
        return said

    def alerts(self, run: str) -> list[Alert]:
        """What a run has to tell, read from its own log."""
        record = self.instance.get_run_record_by_id(run)
        assert record is not None
        return alerts_of(record.dagster_run, events_of(self.instance, [record])[run], UI)

    def failed(self, count: int, error: str = "no space left") -> list[str]:
        """Runs that failed, without the seconds that it takes to really run them."""
        found = []
        for _ in range(count):
            run = dg.DagsterRun("mass", run_id=dg._core.utils.make_new_run_id())
            self.instance.add_run(run)
            info = SerializableErrorInfo(f"OSError: {error}\n", [], "OSError")
            data = dg._core.events.JobFailureData(info)
            self.instance.report_run_failed(run, "Steps failed", data)
            found.append(run.run_id)
        return found


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as made:
        yield made


@pytest.fixture
def house(tmp_path: Path, slack: SlackStandIn) -> House:
    return House(tmp_path, slack)


# --- what a run has to tell ---


def test_a_failure_is_told_once_with_the_innermost_cause_and_no_secret(house: House, slack: SlackStandIn) -> None:
    run = house.run("broken")
    for _ in range(3):
        house.tick()
    (said,) = slack.texts
    assert "KeyError: 'the token is [redacted]'" in said
    assert "tests/sensors/test_watching.py:" in said
    assert "raised as Unreachable: the bucket is gone" in said
    assert f"{UI}/runs/{run}" in said
    assert "Steps failed" not in said


def test_a_run_that_never_got_to_a_step_has_its_cause_too(house: House, slack: SlackStandIn) -> None:
    HERE.resolve_job_def("unstartable").execute_in_process(instance=house.instance, raise_on_error=False)
    house.tick()
    (said,) = slack.texts
    assert "ConnectionError: no route to the database" in said


def test_a_worker_that_vanished_is_told_with_what_dagster_says_of_it(house: House, slack: SlackStandIn) -> None:
    run = dg.DagsterRun("training", status=dg.DagsterRunStatus.STARTED)
    house.instance.add_run(run)
    house.instance.report_run_failed(run, "Detected run worker status FAILED: kill -9")
    house.tick()
    assert "Detected run worker status FAILED: kill -9" in slack.texts[0]


def test_failed_checks_of_a_green_run_are_told(house: House, slack: SlackStandIn) -> None:
    assert house.instance.get_run_by_id(house.run("whole")).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
    house.tick()
    house.tick()
    assert len(slack.texts) == 2
    (warned,) = (text for text in slack.texts if "Check warns failed on whole" in text)
    (erred,) = (text for text in slack.texts if "Check errs failed on whole" in text)
    assert "share = 0.5" in warned
    assert "far too few" in erred


def test_a_blocking_check_is_told_as_the_check_and_not_as_a_failed_run_too(house: House) -> None:
    run = house.run("guarded")
    assert [each.kind for each in house.alerts(run)] == ["check_failed"]
    assert [each.kind for each in house.alerts(house.run("guarded", "broken"))] == ["check_failed", "run_failed"]


def test_a_run_canceled_on_request_is_quiet_and_another_is_told(house: House, slack: SlackStandIn) -> None:
    for message in (None, "Canceling due to exceeding maximum runtime of 60 seconds."):
        run = dg.DagsterRun("training", status=dg.DagsterRunStatus.STARTED)
        house.instance.add_run(run)
        house.instance.report_run_canceling(run, message)
        house.instance.report_run_canceled(run)
    house.tick()
    (said,) = slack.texts
    assert "exceeding maximum runtime" in said


def test_a_run_that_went_well_is_not_told_and_not_tagged(house: House, slack: SlackStandIn) -> None:
    run = house.run("guarded", "whole")  # its checks fail; and one without
    HERE.resolve_implicit_global_asset_job_def()
    house.tick()
    assert TAG in house.instance.get_run_by_id(run).tags  # type: ignore[union-attr]
    fine = dg.DagsterRun("fine", status=dg.DagsterRunStatus.SUCCESS)
    house.instance.add_run(fine)
    told = len(slack.texts)
    house.tick()
    assert len(slack.texts) == told
    assert TAG not in house.instance.get_run_by_id(fine.run_id).tags  # type: ignore[union-attr]


def test_a_reexecuted_run_inherits_the_tag_and_is_told_all_the_same(house: House, slack: SlackStandIn) -> None:
    first = house.run("broken")
    house.tick()
    tags = house.instance.get_run_by_id(first).tags  # type: ignore[union-attr]
    house.run("broken", tags={**tags, "dagster/parent_run_id": first})
    house.tick()
    house.tick()
    assert len(slack.texts) == 2


# --- the pipeline's own stories ---


def told_by(pipeline: Pipeline, run: str) -> list[Alert]:
    record = pipeline.instance.get_run_record_by_id(run)
    assert record is not None
    return alerts_of(record.dagster_run, events_of(pipeline.instance, [record])[run], UI)


def test_a_model_that_the_gate_refuses_is_told_with_the_reason(pipeline: Pipeline) -> None:
    same = pipeline.run("production_digit_classifier")
    assert told_by(pipeline, same.run_id) == []  # it serves already
    refused = pipeline.run(
        "digit_classifier", "model_evaluation", "production_digit_classifier", digit_classifier=BARELY
    )
    (told,) = (each for each in told_by(pipeline, refused.run_id) if each.kind == "model_refused")
    assert told.cause.startswith("not deployed: worse than production")
    assert told.title == f"Not deployed: {pipeline.value('digit_classifier')}"


def test_a_model_in_production_that_the_gate_refuses_is_told(pipeline: Pipeline) -> None:
    """The bar was raised, or new test data shows what it cannot do."""
    raised = pipeline.run("production_digit_classifier", production_digit_classifier={"min_accuracy": 1.0})
    (told,) = told_by(pipeline, raised.run_id)
    assert (told.kind, told.severity) == ("production_refused", "error")
    assert told.title == f"In production, and refused by the gate: {pipeline.value('digit_classifier')}"
    assert "is not above 1" in told.cause
    assert "roll back" in told.to_do


def test_the_fallback_to_embedded_digits_is_told_once(tmp_path: Path) -> None:
    nowhere = Pipeline(tmp_path, MNIST_DATASET="auto", MNIST_MIRROR="http://127.0.0.1:1/")
    (told,) = told_by(nowhere, nowhere.run("raw_mnist_data").run_id)  # not also as the check beside it
    assert (told.kind, told.severity) == ("fallback_data", "warning")


def test_a_night_without_predictions_is_told(pipeline: Pipeline) -> None:
    (told,) = told_by(pipeline, pipeline.run("batch_digit_predictions", night=NIGHT).run_id)
    assert (told.kind, told.severity, told.title) == ("empty_night", "info", f"Night {NIGHT}: no predictions")


# --- outages, restarts, backlogs ---


@pytest.mark.parametrize("answer", ["500", "429 3600", "invalid_auth", "channel_not_found"])
def test_nothing_is_lost_while_slack_is_down_over_ticks_and_restarts(
    house: House, slack: SlackStandIn, answer: str
) -> None:
    slack.always = answer
    runs = house.failed(2)
    for _ in range(3):
        with pytest.raises(AlertsUndelivered):
            house.tick()
        house.restart()
        runs += house.failed(1)
    assert slack.messages == []
    slack.always = ""
    for _ in range(3):
        house.tick()
        house.restart()
    assert [sum(f"{UI}/runs/{run}" in text for text in slack.texts) for run in runs] == [1] * 5


def test_what_went_out_before_slack_failed_is_not_said_twice(house: House, slack: SlackStandIn) -> None:
    run = house.run("whole")  # two alerts of one run
    slack.answers = ["", "500"]
    with pytest.raises(AlertsUndelivered):
        house.tick()
    house.restart()
    house.tick()
    house.tick()
    assert sorted(text.count("Check warns failed") > 0 for text in slack.texts) == [False, True]
    assert house.instance.get_run_by_id(run).tags[TAG] == f"{run[:8]} all"  # type: ignore[union-attr]


def test_a_process_killed_after_the_message_and_before_the_tags_says_nothing_twice(
    house: House, slack: SlackStandIn
) -> None:
    runs = house.failed(3)
    times = iter([0.0] + [100.0] * 50)
    assert "3 runs still to be tagged" in house.tick(clock=lambda: next(times))
    house.position = None  # killed before Dagster kept it
    house.restart()
    house.tick()
    assert len(slack.messages) == 3
    assert all(TAG in house.instance.get_run_by_id(run).tags for run in runs)  # type: ignore[union-attr]


def test_tagging_moves_runs_to_the_end_of_the_queue_and_neither_loops_nor_skips(
    house: House, slack: SlackStandIn
) -> None:
    """A tag changes update_timestamp, by which runs are found."""
    told: set[str] = set()
    for _ in range(4):
        told |= set(house.failed(2))
        house.tick()
        before = {r.dagster_run.run_id: r.update_timestamp for r in finished_runs(house.instance, 0)}
        house.tick()
        assert before == {r.dagster_run.run_id: r.update_timestamp for r in finished_runs(house.instance, 0)}
    assert len(slack.messages) == len(told) == 8


def test_a_run_that_appears_late_with_an_older_time_is_found(house: House, slack: SlackStandIn) -> None:
    """Its worker's clock is behind, or its last event was slow."""
    house.failed(1)
    house.tick()
    late = dg.DagsterRun("late", status=dg.DagsterRunStatus.STARTED)
    house.instance.add_run(late)
    house.instance.report_run_failed(late)
    when = datetime.fromtimestamp(time.time() - 300, timezone.utc)
    event = dg.DagsterEvent("PIPELINE_FAILURE", late.job_name, message="late")
    house.instance.run_storage.handle_run_event(late.run_id, event, when)
    house.tick()
    assert len(slack.messages) == 2


def test_a_worker_whose_clock_is_ahead_hides_no_failure_of_the_next_hour(house: House, slack: SlackStandIn) -> None:
    (ahead,) = house.failed(1)
    at(house, ahead, time.time() + 3600)
    house.tick()
    (behind,) = house.failed(1)
    at(house, behind, time.time() + 1)
    house.tick()
    house.tick()
    assert [sum(run in text for text in slack.texts) for run in (ahead, behind)] == [1, 1]


def at(house: House, run: str, when: float) -> None:
    """A run's last event bears this time."""
    event = dg.DagsterEvent("PIPELINE_FAILURE", "mass", message="skewed")
    house.instance.run_storage.handle_run_event(run, event, datetime.fromtimestamp(when, timezone.utc))


def test_what_failed_before_the_first_look_is_told_for_a_day_only(house: House, slack: SlackStandIn) -> None:
    old, recent = house.failed(2)
    event = dg.DagsterEvent("PIPELINE_FAILURE", "mass", message="old")
    for run, hours in ((old, 30), (recent, 20)):
        when = datetime.fromtimestamp(time.time() - hours * 3600, timezone.utc)
        house.instance.run_storage.handle_run_event(run, event, when)
    house.tick()
    house.tick()
    assert [recent in text for text in slack.texts] == [True]
    assert FIRST_LOOK_S == 24 * 3600


def test_reading_the_index_finds_the_same_as_reading_every_log(house: House) -> None:
    runs = [house.run("broken"), house.run("whole"), house.run("guarded"), *house.failed(2)]
    records = [r for r in finished_runs(house.instance, 0) if r.dagster_run.run_id in runs]
    exact, indexed = events_of(house.instance, records), events_of_many(house.instance, records, CHECKS)
    for record in records:
        run = record.dagster_run
        found, wanted = (alerts_of(run, events[run.run_id], UI) for events in (indexed, exact))
        assert sorted(found, key=by_id) == sorted(wanted, key=by_id) != []


def by_id(each: Alert) -> str:
    return each.id


@pytest.mark.slow
def test_a_backlog_of_a_thousand_is_one_digest_and_delays_nobody(house: House, slack: SlackStandIn) -> None:
    slack.always = "500"
    house.failed(1_000)
    with pytest.raises(AlertsUndelivered):
        house.tick()
    slack.always = ""
    house.restart()
    late = house.failed(1, "something else")[0]
    begun = time.monotonic()
    house.tick()
    seconds = time.monotonic() - begun
    (digest,) = slack.texts
    assert "1,001 alerts" in digest
    assert "1,000 × run failed, mass: OSError: no space left" in digest
    assert "something else" in digest
    after = house.failed(1, "the one behind")[0]
    while "still to be tagged" in house.tick():
        house.restart()
    assert len(slack.texts) == 2
    assert after in slack.texts[1]
    assert late not in slack.texts[1]
    print(f"\n1,001 runs: {seconds:.1f} s for the tick that told them")
    assert seconds < 60  # what Dagster gives a sensor


# --- whether what should run by itself does ---

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc).timestamp()
MINUTE = 60.0


class Watch:
    """Both sensors over the definitions above, at a time of one's choice; ticks are what is written down."""

    def __init__(self, house: House) -> None:
        self.house, self.now, self.watched, self.listener = house, NOW, Watched(), Watched()
        url = house.slack.url
        self.resource = Alerts(token="xoxb-1-x", channel="C1", api_url=url, ui_url=UI, heartbeat_url=f"{url}beat")
        self.alive = ["ears", "conditions", "alerts", "watch"]
        self.daemons = list(house.instance.get_required_daemon_types())
        self.nightly: NightlyRun | None = None
        for name in self.alive:
            self.state(name, SensorInstigatorData())

    def origin(self, name: str) -> RemoteInstigatorOrigin:
        where = RemoteRepositoryOrigin(
            code_location_origin=RegisteredCodeLocationOrigin("here"), repository_name="__repository__"
        )
        return RemoteInstigatorOrigin(repository_origin=where, instigator_name=name)

    def state(
        self, name: str, data: Any, status: InstigatorStatus = InstigatorStatus.DECLARED_IN_CODE, new: bool = True
    ) -> None:
        sort = InstigatorType.SCHEDULE if name == "nightly" else InstigatorType.SENSOR
        made = InstigatorState(self.origin(name), sort, status, data)
        (self.house.instance.add_instigator_state if new else self.house.instance.update_instigator_state)(made)

    def ticked(self, name: str, status: TickStatus = TickStatus.SKIPPED, at: float = 0.0, error: str = "") -> None:
        origin = self.origin(name)
        info = SerializableErrorInfo(f"{error}: x\n", [], error) if error else None
        sort = InstigatorType.SCHEDULE if name == "nightly" else InstigatorType.SENSOR
        self.house.instance.create_tick(
            TickData(
                origin.get_id(),
                name,
                sort,
                status,
                at or self.now,
                run_ids=[],
                error=info,
                selector_id=origin.get_selector().get_id(),
            )
        )

    def passes(self, minutes: int, step: int = 1) -> None:
        """Every minute (or every `step` of them) all that lives ticks, and `watch` looks."""
        for _ in range(0, minutes, step):
            self.now += MINUTE * step
            for name in self.alive:
                self.ticked(name)
            for sort in self.daemons:
                self.house.instance.add_daemon_heartbeat(DaemonHeartbeat(self.now, sort, "id"))
            self.look()

    def look(self) -> str:
        """One tick of `watch`, told or not."""
        return watch(self.context("watch"), self.resource, self.watched, self.nightly, self.now)

    def listens(self) -> str:
        """One tick of `alerts`; where it raises, Dagster keeps the old cursor."""
        heard = deepcopy(self.listener)
        said = listen(self.context("alerts"), self.resource, Position(self.now), heard, self.now)
        self.listener = heard
        return said

    def context(self, name: str) -> dg.SensorEvaluationContext:
        return dg.build_sensor_context(instance=self.house.instance, definitions=HERE, sensor_name=name)

    def absent(self, minutes: int) -> None:
        """Nothing runs for a while; then the sensors tick again, `watch` first."""
        self.now += MINUTE * minutes
        for sort in self.daemons:
            self.house.instance.add_daemon_heartbeat(DaemonHeartbeat(self.now, sort, "id"))
        self.look()


@pytest.fixture
def watching(house: House, monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch(house)
    made.state("nightly", ScheduleInstigatorData("0 2 * * *", start_timestamp=NOW))
    return made


def titles(slack: SlackStandIn) -> list[str]:
    return [message["blocks"][0]["text"]["text"].split(" ", 1)[1] for message in slack.messages]


def test_while_all_is_well_nothing_is_said(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(20)
    assert watching.look() == "all is well; heartbeat given"
    assert slack.messages == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ears", "conditions", "alerts"])
def test_a_sensor_that_stops_is_told_within_minutes_once_and_when_it_is_over(
    watching: Watch, slack: SlackStandIn, name: str
) -> None:
    """A condition sensor too, whose ticks are written by another daemon; its state says RUNNING all the time."""
    watching.passes(10)
    watching.alive.remove(name)
    watching.passes(3)
    assert titles(slack) == []
    watching.passes(2)
    assert titles(slack) == [f"sensor {name} does not tick"]
    watching.passes(10)
    watching.house.restart()
    watching.alive.append(name)
    watching.passes(5)
    assert titles(slack) == [f"sensor {name} does not tick", f"Over: sensor {name} does not tick"]


def test_a_sensor_that_is_on_by_code_and_never_ticked_is_told(house: House, slack: SlackStandIn) -> None:
    watching = Watch.__new__(Watch)
    Watch.__init__(watching, House(house.folder, slack))
    watching.alive.remove("conditions")
    watching.house.instance.delete_instigator_state(
        watching.origin("conditions").get_id(), watching.origin("conditions").get_selector().get_id()
    )
    watching.passes(6)
    assert titles(slack) == ["sensor conditions does not tick"]
    assert "it has never ticked" in slack.texts[0]


def test_a_sensor_that_fails_three_times_in_a_row_is_told_with_the_cause(watching: Watch, slack: SlackStandIn) -> None:
    watching.alive.remove("ears")
    for number in range(3):
        assert titles(slack) == []
        watching.ticked("ears", TickStatus.FAILURE, watching.now + 30, error=f"Broken{number}")
        watching.passes(1)
    assert titles(slack) == ["sensor ears fails"]
    assert "Broken2: x" in slack.texts[0]
    watching.alive.append("ears")
    watching.passes(2)
    assert titles(slack)[1:] == ["Over: sensor ears fails"]


def undelivered(watching: Watch, minutes: int) -> int:
    """`alerts` has something to tell and Slack does not take it; returns how many signs of life were given."""
    before = watching.house.slack.beats
    watching.alive.remove("alerts")
    for _ in range(minutes):
        watching.ticked("alerts", TickStatus.FAILURE, watching.now + 30, error="AlertsUndelivered")
        watching.passes(1)
    watching.alive.append("alerts")
    return watching.house.slack.beats - before


def test_a_short_outage_of_slack_does_not_stop_the_heartbeat(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(5)
    assert slack.beats == 5
    assert undelivered(watching, 9) == 9


@pytest.mark.slow
def test_while_alerts_do_not_get_out_for_long_there_is_no_heartbeat(watching: Watch, slack: SlackStandIn) -> None:
    """The token was revoked, and `watch` itself has nothing to tell."""
    watching.passes(5)
    assert undelivered(watching, 30) == 10
    assert titles(slack) == []
    watching.ticked("alerts", TickStatus.FAILURE, watching.now + 30, error="AlertsUndelivered")
    said = watching.look()
    assert said == "all is well; no heartbeat: alerts have not got out since 2026-11-21 12:05 UTC"
    beats = slack.beats
    watching.passes(3)  # Slack is back
    assert slack.beats == beats + 3


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["500", "token_revoked", "is_archived"])
def test_while_watch_cannot_tell_its_news_for_long_there_is_no_heartbeat(
    watching: Watch, slack: SlackStandIn, answer: str
) -> None:
    watching.passes(5)
    watching.state("ears", SensorInstigatorData(), InstigatorStatus.STOPPED, new=False)
    slack.always = answer
    watching.passes(30)
    assert slack.beats == 5 + 11  # none after ten minutes
    assert "no heartbeat: alerts have not got out since 2026-11-21 12:06 UTC" in watching.look()
    slack.always = ""
    watching.passes(3)
    assert slack.beats == 5 + 11 + 3
    assert titles(slack) == ["sensor ears is switched off"]


def test_news_are_told_one_by_one_with_what_to_do(watching: Watch, slack: SlackStandIn) -> None:
    watching.state("ears", SensorInstigatorData(), InstigatorStatus.STOPPED, new=False)
    watching.ticked("nightly", TickStatus.FAILURE, error="Broken")
    watching.passes(1)
    assert sorted(titles(slack)) == ["schedule nightly fails", "sensor ears is switched off"]
    for text in slack.texts:
        assert "*What to do*" in text
        assert f"{UI}/automation" in text


def test_of_several_news_none_is_lost_or_said_twice_when_slack_goes_away_between(
    watching: Watch, slack: SlackStandIn
) -> None:
    watching.state("ears", SensorInstigatorData(), InstigatorStatus.STOPPED, new=False)
    watching.ticked("nightly", TickStatus.FAILURE, error="Broken")
    slack.answers = ["", "500"]
    watching.passes(3)
    assert sorted(titles(slack)) == ["schedule nightly fails", "sensor ears is switched off"]


def test_many_news_are_one_digest_that_says_what_to_do(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(1)
    watching.alive, watching.daemons, gone = ["watch"], [], watching.daemons
    slack.always = "500"
    watching.passes(8)
    slack.always = ""
    watching.passes(1)
    (text,) = slack.texts
    assert f"{len(gone) + 3} alerts" in text
    assert "• daemon silent: Restart dagster-daemon" in text
    assert "• lagging: It should have ticked." in text


# --- those who watch each other ---


def test_alerts_says_that_watch_is_silent_and_when_it_is_over(watching: Watch, slack: SlackStandIn) -> None:
    watching.ticked("watch")
    for minute in range(1, 12):
        watching.now = NOW + minute * MINUTE
        watching.listens()
        assert titles(slack) == (["sensor watch does not tick"] if minute > 6 else []), minute
    assert "*What to do*  It should have ticked." in slack.texts[0]
    watching.ticked("watch")
    watching.listens()
    assert titles(slack)[1:] == ["Over: sensor watch does not tick"]


def test_alerts_says_that_watch_never_ticked(watching: Watch, slack: SlackStandIn) -> None:
    for minute in range(7):
        watching.now = NOW + minute * MINUTE
        watching.listens()
    assert titles(slack) == ["sensor watch does not tick"]
    assert "it has never ticked" in slack.texts[0]


def test_alerts_says_that_watch_was_switched_off_and_that_it_fails(watching: Watch, slack: SlackStandIn) -> None:
    for number in range(3):
        watching.ticked("watch", TickStatus.FAILURE, error=f"Broken{number}")
        watching.now += MINUTE
        watching.listens()
    assert titles(slack) == ["sensor watch fails"]
    assert "Broken2: x" in slack.texts[0]
    watching.state("watch", SensorInstigatorData(), InstigatorStatus.STOPPED, new=False)
    watching.listens()
    assert "sensor watch is switched off" in titles(slack)


def test_alerts_says_nothing_of_watch_again_after_slack_was_away(watching: Watch, slack: SlackStandIn) -> None:
    watching.ticked("watch")
    watching.listens()
    watching.now += 6 * MINUTE
    watching.listens()  # a gap for both: nobody is accused
    slack.always = "500"
    watching.now += 4 * MINUTE
    watching.listens()
    watching.now += 4 * MINUTE
    with pytest.raises(AlertsUndelivered):
        watching.listens()
    slack.always = ""
    for _ in range(3):
        watching.listens()
    assert titles(slack) == ["sensor watch does not tick"]


def test_alerts_failing_because_slack_is_away_is_no_news_when_it_is_back(watching: Watch, slack: SlackStandIn) -> None:
    watching.alive.remove("alerts")
    for _ in range(4):
        watching.ticked("alerts", TickStatus.FAILURE, watching.now + 30, error="AlertsUndelivered")
        watching.passes(1)
    assert titles(slack) == []


def test_a_sensor_switched_off_by_hand_is_told_and_one_that_is_off_by_code_is_not(
    watching: Watch, slack: SlackStandIn
) -> None:
    watching.state("ears", SensorInstigatorData(), InstigatorStatus.STOPPED, new=False)
    watching.passes(2)
    assert titles(slack) == ["sensor ears is switched off"]
    watching.state("ears", SensorInstigatorData(), InstigatorStatus.RUNNING, new=False)
    watching.passes(2)
    assert titles(slack)[1:] == ["Over: sensor ears is switched off"]


def test_a_tick_that_a_schedule_owes_is_missed_after_ten_minutes(watching: Watch, slack: SlackStandIn) -> None:
    watching.now = NOW + 13.9 * 3600  # 01:54
    watching.passes(15)
    assert titles(slack) == []
    watching.passes(3)
    assert titles(slack) == ["schedule nightly does not tick"]
    watching.ticked("nightly", TickStatus.SUCCESS, NOW + 14 * 3600)
    watching.passes(2)
    assert titles(slack)[1:] == ["Over: schedule nightly does not tick"]


def test_one_failed_tick_of_a_schedule_is_told(watching: Watch, slack: SlackStandIn) -> None:
    watching.now = NOW + 14 * 3600
    watching.ticked("nightly", TickStatus.FAILURE, error="Broken")
    watching.passes(1)
    assert titles(slack) == ["schedule nightly fails"]


def test_a_daemon_without_a_sign_of_life_is_told(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(2)
    silent = watching.daemons.pop()
    watching.passes(7)
    assert titles(slack) == [f"Daemon {silent} is silent"]


@pytest.mark.slow
def test_a_night_that_is_not_made_in_an_hour_is_told_until_it_is(watching: Watch, slack: SlackStandIn) -> None:
    watching.nightly = NightlyRun("UTC", 13, 0)
    watching.passes(116, step=4)
    watching.passes(3)
    assert titles(slack) == []
    watching.passes(3)
    assert titles(slack) == ["Night 2026-11-20 has no predictions"]
    made = dg.AssetMaterialization("batch_digit_predictions", partition="2026-11-20")
    watching.house.instance.report_runless_asset_event(made)
    watching.passes(2)
    assert titles(slack)[1:] == ["Over: Night 2026-11-20 has no predictions"]


def test_a_computer_that_slept_says_so_and_accuses_nobody(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(5)
    watching.now += 9 * 3600
    watching.passes(3)
    assert titles(slack) == ["Nothing was watched"]
    assert "`watch` saw nothing for 541 min" in slack.texts[0]


@pytest.mark.slow
def test_absence_while_slack_is_away_is_told_when_it_is_back(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(5)
    slack.always = "500"
    watching.absent(20)
    watching.passes(8)
    slack.always = ""
    watching.passes(5)
    assert titles(slack) == ["Nothing was watched"]
    assert "`watch` saw nothing for 20 min" in slack.texts[0]


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [6, 400])
def test_what_was_told_is_not_over_because_the_daemon_was_away(
    watching: Watch, slack: SlackStandIn, minutes: int
) -> None:
    watching.nightly = NightlyRun("UTC", 13, 0)
    watching.passes(116, step=4)
    watching.alive.remove("ears")
    silent = watching.daemons.pop()
    watching.passes(12)
    wrong = sorted(["Night 2026-11-20 has no predictions", "sensor ears does not tick", f"Daemon {silent} is silent"])
    assert sorted(titles(slack)) == wrong
    watching.absent(minutes)
    watching.passes(72, step=4)
    assert titles(slack)[3:] == ["Nothing was watched"]
    watching.alive.append("ears")
    watching.daemons.append(silent)
    watching.house.instance.report_runless_asset_event(
        dg.AssetMaterialization("batch_digit_predictions", partition="2026-11-20")
    )
    watching.passes(2)
    assert sorted(titles(slack)[4:]) == [f"Over: {title}" for title in wrong]


@pytest.mark.slow
def test_a_schedule_that_owes_a_tick_still_does_after_the_daemon_was_away(watching: Watch, slack: SlackStandIn) -> None:
    watching.now = NOW + 13.9 * 3600  # 01:54
    watching.passes(20)
    watching.absent(6)
    watching.passes(20)
    assert titles(slack) == ["schedule nightly does not tick", "Nothing was watched"]


@pytest.mark.slow
def test_a_schedule_that_missed_a_night_is_not_well_because_the_next_is_due(
    watching: Watch, slack: SlackStandIn
) -> None:
    watching.now = NOW + 13.9 * 3600  # 01:54
    watching.passes(20)
    rest_of_the_day = 24 * 60 - 10
    watching.watched.last = watching.now + (rest_of_the_day - 1) * MINUTE  # as if it had looked all the time
    watching.passes(rest_of_the_day, step=rest_of_the_day)  # 02:04
    watching.passes(10)
    assert titles(slack) == ["schedule nightly does not tick"]


def test_a_night_is_over_when_it_is_predicted_however_late(watching: Watch, slack: SlackStandIn) -> None:
    overdue_for_days(watching, 12)
    assert [title for title in titles(slack) if "2026-11-20" in title] == ["Night 2026-11-20 has no predictions"]
    made = dg.AssetMaterialization("batch_digit_predictions", partition="2026-11-20")
    watching.house.instance.report_runless_asset_event(made)
    watching.look()
    assert titles(slack)[-1] == "Over: Night 2026-11-20 has no predictions"


@pytest.mark.slow
def test_a_night_that_nobody_asks_for_any_more_is_told_once(watching: Watch, slack: SlackStandIn) -> None:
    overdue_for_days(watching, 15)
    of_it = [text for text in slack.texts if "2026-11-20" in text]
    assert [title for title in titles(slack) if "2026-11-20" in title] == [
        "Night 2026-11-20 has no predictions",
        "Night 2026-11-20 is given up",
    ]
    assert "by hand" in of_it[1]
    assert "night:2026-11-20" not in watching.watched.told


def overdue_for_days(watching: Watch, days: int) -> None:
    """All lives, and no night is predicted; a look a day is enough for this."""
    watching.nightly = NightlyRun("UTC", 13, 0)
    watching.look()
    for _ in range(days):
        watching.watched.last = watching.now + 1439 * MINUTE  # as if it had looked all the time
        watching.passes(1440, step=1440)


@pytest.mark.slow
def test_what_began_while_slack_was_away_is_told_afterwards_once(watching: Watch, slack: SlackStandIn) -> None:
    watching.passes(2)
    watching.alive.remove("ears")
    slack.always = "500"
    watching.passes(13)
    assert "news wait since 2026-11-21 12:06 UTC: Slack refused" in watching.look()
    slack.always = ""
    watching.passes(5)
    assert titles(slack) == ["sensor ears does not tick"]
