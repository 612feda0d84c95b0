"""Definitions for a daemon of the tests: the two sensors that watch, beside what breaks on purpose."""

import dagster as dg

from mnist_pipeline.resources import dev_resources
from mnist_pipeline.sensors.watching import watching_sensors


@dg.job
def nothing() -> None:
    """Is never launched."""


@dg.sensor(job=nothing, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def ears() -> dg.SkipReason:
    """On, as the code says; somebody switches it off."""
    return dg.SkipReason("nothing to hear")


@dg.schedule(
    job=nothing, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING, execution_timezone="UTC"
)
def broken() -> dg.RunRequest:
    """Fails every minute."""
    raise RuntimeError("the calendar is gone")


defs = dg.Definitions(
    jobs=[nothing],
    sensors=[ears, *watching_sensors()],
    schedules=[broken],
    resources={"alerts": dev_resources()["alerts"]},
)
