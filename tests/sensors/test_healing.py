"""Nights that failed or were missed are asked for again, each attempt once, and never while one is under way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from mnist_pipeline.assets.attempts import PARTITION
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.sensors.healing import healed

NIGHTLY = NightlyRun("UTC", 2, 0)
START = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


class Healer:
    """The sensor with its cursor, and a clock in the test's hands."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.now = instance, START
        self.cursor: str | None = None

    def at(self, moment: datetime) -> list[str]:
        """Nights asked for at a moment: a look before makes sure that they were seen missing."""
        self.look(moment - timedelta(minutes=6))
        return self.look(moment)

    def look(self, moment: datetime) -> list[str]:
        self.now = moment
        result = healed(self.instance, NIGHTLY, moment, self.cursor)
        self.cursor = result.cursor
        self.keys = [str(request.run_key) for request in result.run_requests or []]
        return [str(request.partition_key) for request in result.run_requests or []]

    def run(self, night: str, at: datetime, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        with freeze_time(at):
            run = create_run_for_test(self.instance, "batch_inference", tags={PARTITION: night})
            if status == dg.DagsterRunStatus.FAILURE:
                self.instance.report_run_failed(run)
            elif status == dg.DagsterRunStatus.CANCELED:
                self.instance.report_run_canceled(run)
            elif status == dg.DagsterRunStatus.SUCCESS:
                made = dg.AssetMaterialization("batch_digit_predictions", partition=night)
                self.instance.report_runless_asset_event(made)
                self.instance.delete_run(run.run_id)
        return run


def at(day: int, hour: int = 2, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=timezone.utc)


@pytest.fixture
def healer() -> Iterator[Healer]:
    with dg.DagsterInstance.ephemeral() as instance:
        made = Healer(instance)
        made.look(START)
        yield made


FAILURE, SUCCESS, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED


def test_nights_from_before_it_was_switched_on_are_nobodys(healer: Healer) -> None:
    assert healer.at(START + timedelta(hours=1)) == []


def test_a_night_that_went_well_is_left_alone(healer: Healer) -> None:
    healer.run("2026-03-10", at(11), SUCCESS)
    assert healer.at(at(11, 5)) == []


def test_the_schedule_is_given_half_an_hour(healer: Healer) -> None:
    assert healer.at(at(11, 2, 20)) == []
    assert healer.at(at(11, 2, 40)) == ["2026-03-10"]


def test_after_downtime_the_schedule_is_given_time_to_catch_up(healer: Healer) -> None:
    assert healer.look(at(11, 9)) == []
    assert healer.look(at(11, 9, 4)) == []
    assert healer.look(at(11, 9, 6)) == ["2026-03-10"]


def test_missed_nights_are_asked_for_oldest_first_a_few_at_a_time(healer: Healer) -> None:
    assert healer.at(at(16, 12)) == ["2026-03-10", "2026-03-11", "2026-03-12"]


def test_a_failed_night_is_tried_again_after_10_20_40_minutes(healer: Healer) -> None:
    moment = at(11, 2, 40)
    healer.run("2026-03-10", moment, FAILURE)
    for attempt, minutes in enumerate((10, 20, 40, 80, 160, 240, 240), start=1):
        assert healer.at(moment + timedelta(minutes=minutes - 1)) == []
        moment += timedelta(minutes=minutes)
        assert healer.at(moment) == ["2026-03-10"]
        assert healer.keys == [f"2026-03-10-{attempt}"]
        healer.run("2026-03-10", moment, FAILURE)
    healer.run("2026-03-10", moment, SUCCESS)
    assert healer.at(moment + timedelta(hours=5)) == []


def test_nothing_is_asked_for_while_a_run_of_the_night_is_under_way(healer: Healer) -> None:
    run = healer.run("2026-03-10", at(11), dg.DagsterRunStatus.STARTED)
    assert healer.at(at(11, 4)) == []
    with freeze_time(at(11, 4)):
        healer.instance.report_run_failed(run)
    assert healer.at(at(11, 4, 11)) == ["2026-03-10"]


def test_what_a_person_materialized_by_day_does_not_count_as_the_night(healer: Healer) -> None:
    healer.run("2026-03-10", at(10, 18), SUCCESS)  # before the day had ended
    assert healer.at(at(11, 3)) == ["2026-03-10"]


def test_a_first_night_that_failed_before_anybody_watched_is_healed() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        healer = Healer(instance)
        healer.run("2026-03-08", at(9), FAILURE)
        assert healer.at(at(10, 12)) == ["2026-03-08", "2026-03-09"]


def test_nights_of_more_than_two_weeks_ago_are_let_go(healer: Healer) -> None:
    healer.run("2026-03-10", at(11), FAILURE)
    assert "2026-03-10" not in healer.at(at(26, 12))


def test_a_tick_that_is_repeated_asks_with_the_same_key(healer: Healer) -> None:
    healer.at(at(11, 3))
    first = healer.keys
    healer.look(at(11, 3))
    assert healer.keys == first == ["2026-03-10-0"]
