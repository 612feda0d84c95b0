"""Nights: every day has one run, on days of 23 and 25 hours too."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from mnist_pipeline.automation import nightly_schedule
from mnist_pipeline.environment import nightly_run
from mnist_pipeline.nights import NightlyRun, time_of_day

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata")


def ticks(nightly: NightlyRun, year: int) -> list[datetime]:
    """As the daemon counts them, within one year."""
    begin = datetime(year, 1, 1, tzinfo=nightly.zone).timestamp()
    schedule, found = nightly_schedule(nightly), []
    for tick in schedule_execution_time_iterator(begin, schedule.cron_schedule, schedule.execution_timezone):
        if tick.astimezone(nightly.zone).year > year:
            return found
        found.append(tick)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", [(2, 0), (2, 30), (1, 30), (0, 0)])
@pytest.mark.parametrize("year", [2018, 2026])
def test_every_day_of_a_year_is_predicted_once(zone: str, at: tuple[int, int], year: int) -> None:
    nightly = NightlyRun(zone, *at)
    nights = [nightly.night_of(tick) for tick in ticks(nightly, year)]
    days = (date(year + 1, 1, 1) - date(year, 1, 1)).days
    assert nights == [(date(year - 1, 12, 31) + timedelta(days=i)).isoformat() for i in range(days)]


@pytest.mark.parametrize("zone", ZONES)
def test_a_night_is_due_when_its_schedule_ticks(zone: str) -> None:
    nightly = NightlyRun(zone, 2, 0)
    for tick in ticks(nightly, 2026):
        due = nightly.due(nightly.night_of(tick))
        assert abs(due.timestamp() - tick.timestamp()) <= 3600
        assert nightly.end(nightly.night_of(tick)).timestamp() < tick.timestamp()


def test_the_partition_of_a_tick_is_the_day_before() -> None:
    schedule = nightly_schedule(NightlyRun("Europe/Berlin", 2, 0))
    tick = datetime(2026, 3, 29, 3, tzinfo=ZoneInfo("Europe/Berlin"))  # 2 AM does not exist on that day
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, scheduled_execution_time=tick)
        request = schedule(context)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == ("2026-03-28", "2026-03-28")


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_begins_where_the_day_before_ends(zone: str) -> None:
    nightly = NightlyRun(zone, 2, 0)
    for day in (date(2018, 1, 1) + timedelta(days=i) for i in range(365)):
        assert nightly.begin((day + timedelta(days=1)).isoformat()) == nightly.end(day.isoformat())


def test_which_nights_were_due() -> None:
    nightly = NightlyRun("UTC", 2, 0)
    begin, end = (datetime(2026, 3, day, hour, tzinfo=timezone.utc) for day, hour in ((1, 3), (4, 2)))
    assert nightly.due_between(begin, end) == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert nightly.due_between(begin, begin) == []


def test_time_and_zone_come_from_the_environment() -> None:
    assert nightly_run({}) == nightly_run({"MNIST_NIGHTLY_AT": ""}) == NightlyRun("UTC", 2, 0)
    env = {"MNIST_NIGHTLY_AT": "23:45", "MNIST_PIPELINE_TIMEZONE": "Europe/Berlin"}
    nightly = nightly_run(env)
    assert (nightly.cron, nightly.deadline) == ("45 23 * * *", "45 0 * * *")
    schedule = nightly_schedule(nightly)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("45 23 * * *", "Europe/Berlin")


@pytest.mark.parametrize("wrong", ["2", "25:00", "02:60", "2 AM", "02:00:00"])
def test_a_wrong_time_names_the_variable_and_its_form(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"MNIST_NIGHTLY_AT='{wrong}' is no time of day; write it as HH:MM"):
        nightly_run({"MNIST_NIGHTLY_AT": wrong})
    with pytest.raises(ValueError, match=r".+"):
        time_of_day(wrong)
