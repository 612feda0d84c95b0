"""What has been tried for the nights, and what came of it, read from Dagster's runs and events.

Not here: when a night is asked for again (`sensors/healing.py`), which files it takes (`inbox/mailbox.py`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from mnist_pipeline.nights import NightlyRun

BATCH = dg.AssetKey("batch_digit_predictions")
PARTITION = "dagster/partition"
LOOKED_BACK = timedelta(days=14)


def runs_of(instance: dg.DagsterInstance, nights: Sequence[str]) -> dict[str, list[dg.RunRecord]]:
    """Night -> the runs for it, whoever launched them."""
    found: dict[str, list[dg.RunRecord]] = {}
    if nights:
        for record in instance.get_run_records(dg.RunsFilter(tags={PARTITION: list(nights)})):
            found.setdefault(record.dagster_run.tags[PARTITION], []).append(record)
    return found


def attempts(nightly: NightlyRun, night: str, runs: dict[str, list[dg.RunRecord]]) -> list[dg.RunRecord]:
    """Runs of the whole night. One from before its end read only what had come by then."""
    return [run for run in runs.get(night, []) if run.create_timestamp >= nightly.end(night)]


def is_predicted(instance: dg.DagsterInstance, nightly: NightlyRun, night: str) -> bool:
    """Whether a run has read the whole night."""
    end = nightly.end(night).timestamp()
    made = dg.AssetRecordsFilter(BATCH, asset_partitions=[night], after_timestamp=end)
    return bool(instance.fetch_materializations(made, limit=1).records)


def still_to_come(instance: dg.DagsterInstance, nightly: NightlyRun, night: str, now: datetime) -> list[str]:
    """Nights before this one that are not predicted, and will be: since the first that anybody tried lately."""
    nights = nightly.due_between(now - LOOKED_BACK, now)
    runs = runs_of(instance, nights)
    first = min((each for each in runs if attempts(nightly, each, runs)), default=night)
    return [each for each in nights if first <= each < night and not is_predicted(instance, nightly, each)]
