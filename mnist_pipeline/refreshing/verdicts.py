"""What blocking checks say against the assets as they were made last.

Not here: what that holds up (`standings.py`).
"""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from mnist_pipeline.assets.causes import Made, Target

CHECKS_LOOKED_BACK = 500  # evaluations of a check, over all partitions of its asset
ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def failed_checks(graph: AssetGraph, made: Made, target: Target) -> Iterator[str]:
    """Blocking checks that speak against what was made last."""
    for key in sorted(graph.get(target.key).check_keys):
        check = graph.get_check_spec(key)
        record = _evaluation(made, key, target) if check.blocking else None
        if record and (fault := _fault(made.instance, record)):
            yield f"check {key.name} of {target} {fault}"


def _evaluation(made: Made, key: dg.AssetCheckKey, target: Target) -> AssetCheckExecutionRecord | None:
    """The newest of this check; for a partition, the newest in the run that made it."""
    storage, event = made.instance.event_log_storage, made.event(target)
    if target.partition is None:
        return storage.get_latest_asset_check_execution_by_key([key]).get(key)
    records = storage.get_asset_check_execution_history(key, CHECKS_LOOKED_BACK)
    return next((each for each in records if event and _is_about(each, event)), None)


def _is_about(record: AssetCheckExecutionRecord, event: dg.EventLogEntry) -> bool:
    evaluated = record.evaluation if record.status in (Status.FAILED, Status.SUCCEEDED) else None
    target = evaluated.target_materialization_data if evaluated else None
    return (target.run_id if target else record.run_id) == event.run_id


def _fault(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> str:
    """What speaks against the asset; empty for nothing."""
    if record.status == Status.FAILED:
        severe = record.evaluation and record.evaluation.severity == dg.AssetCheckSeverity.ERROR
        return "failed" if severe else ""
    if record.status == Status.PLANNED:
        run = instance.get_run_by_id(record.run_id)
        return f"has no verdict, for run {record.run_id[:8]} ended before" if run and run.status in ENDED_BADLY else ""
    return ""
