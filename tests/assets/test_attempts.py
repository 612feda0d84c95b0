"""What has been tried for the nights: which of them are still to be predicted, and so keep their files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from mnist_pipeline.assets.attempts import BATCH, PARTITION, is_predicted, still_to_come
from mnist_pipeline.nights import NightlyRun

NIGHTLY = NightlyRun("UTC", 2, 0)


def at(day: int, hour: int = 2) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


def night(day: int) -> str:
    return f"2026-03-{day:02}"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tried(instance: dg.DagsterInstance, day: int, when: datetime) -> None:
    with freeze_time(when):
        create_run_for_test(instance, "batch_inference", tags={PARTITION: night(day)})


def predicted(instance: dg.DagsterInstance, day: int, when: datetime) -> None:
    with freeze_time(when):
        instance.report_runless_asset_event(dg.AssetMaterialization(BATCH, partition=night(day)))


def earlier(instance: dg.DagsterInstance, day: int, now: datetime) -> list[str]:
    return still_to_come(instance, NIGHTLY, night(day), now)


def test_nobody_waits_for_nights_that_nobody_tried(instance: dg.DagsterInstance) -> None:
    assert earlier(instance, 10, at(11)) == []
    tried(instance, 10, at(11))
    assert earlier(instance, 10, at(11)) == []


def test_every_night_since_the_first_that_was_tried_is_to_come_until_it_is_predicted(
    instance: dg.DagsterInstance,
) -> None:
    tried(instance, 6, at(7))
    assert earlier(instance, 10, at(11)) == [night(day) for day in (6, 7, 8, 9)]
    for day in (6, 8):
        predicted(instance, day, at(11))
    assert earlier(instance, 10, at(11)) == [night(7), night(9)]
    assert earlier(instance, 8, at(11)) == [night(7)]


def test_what_was_read_before_a_day_had_ended_was_not_the_night(instance: dg.DagsterInstance) -> None:
    tried(instance, 6, at(6, 18))
    assert earlier(instance, 10, at(11)) == []
    tried(instance, 8, at(9))
    predicted(instance, 8, at(8, 18))
    assert not is_predicted(instance, NIGHTLY, night(8))
    assert earlier(instance, 10, at(11)) == [night(8), night(9)]


def test_nights_of_more_than_two_weeks_ago_are_let_go(instance: dg.DagsterInstance) -> None:
    tried(instance, 6, at(7))
    assert earlier(instance, 25, at(26)) == []
