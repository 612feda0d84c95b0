"""New CSV files of a table: each content becomes a partition, and the pipeline runs on it once.

Not here: which files there are and what their keys are (`datasets/files.py`), what runs (`assets/tabular.py`).
"""

import json
import logging
from collections.abc import Collection
from typing import Any

import dagster as dg

from mnist_pipeline.assets.tabular_keys import partitions_of
from mnist_pipeline.automation import TABLES, TICK_S
from mnist_pipeline.datasets.files import EMBEDDED, Dataset, Datasets, content_of
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.resources import Tables
from mnist_pipeline.storage.blobs import StoreUnavailable, StoreUnreachable
from mnist_pipeline.storage.shelves import Missing

FILES_A_TICK = 20
READ = (dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION)
log = logging.getLogger(__name__)


def new_tables(task: TableTask) -> dg.SensorDefinition:
    """The sensor of one task. Its cursor holds, of every file, size, date and key once the file was read.

    A file is read when two ticks have seen it the same, so one that is still being written waits. Content that
    somebody has run on, under whatever name, starts nothing.
    """
    partitions = partitions_of(task)
    assert partitions, f"{task.name} reads no CSV files: nothing can be dropped"

    @dg.sensor(
        name=f"new_{task.name}_data",
        job=TABLES[task.name],
        minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"A CSV file that is dropped becomes a dataset of {task.name}, and the pipeline runs on it.",
    )
    def tick(context: dg.SensorEvaluationContext, tables: Tables) -> dg.SensorResult | dg.SkipReason:
        known = context.instance.get_dynamic_partitions(str(partitions.name))
        run = _run_on(context.instance, task) & set(known)
        cursor, fresh = _look(tables.open(task.name), json.loads(context.cursor or "{}"), run)
        names = {content_of(key): key for key in known}  # a partition may bear the name that the file had before
        asked = {names.get(content_of(each.key), each.key): cursor[each.name] for each in fresh}
        keys = [key for key in asked if key not in known]
        first = [EMBEDDED] if task.embedded and EMBEDDED not in known else []
        if not asked and not first and json.dumps(cursor) == context.cursor:
            return dg.SkipReason(f"{len(cursor):,} files; none is new")
        return dg.SensorResult(
            run_requests=[_asked_for(key, facts) for key, facts in asked.items()],
            dynamic_partitions_requests=[partitions.build_add_request([*first, *keys])] if first or keys else [],
            cursor=json.dumps(cursor),
            skip_reason=None if asked else dg.SkipReason(f"{len(cursor):,} files; none is new and whole"),
        )

    return tick


def _asked_for(key: str, facts: list[Any]) -> dg.RunRequest:
    """The run key holds the file's date: a dataset that was deleted runs again when its file is dropped again."""
    return dg.RunRequest(run_key=f"{key} {facts[1]}", partition_key=key)


def _run_on(instance: dg.DagsterInstance, task: TableTask) -> set[str]:
    """Datasets that a run has read or was to read. `make datasets` makes partitions without any run."""
    storage, raw = instance.event_log_storage, dg.AssetKey([task.name, "raw_data"])
    return {key for event in READ for key in storage.get_latest_storage_id_by_partition(raw, event)}


def _look(files: Datasets, seen: dict[str, Any], run: Collection[str]) -> tuple[dict[str, Any], list[Dataset]]:
    """The next cursor, and the datasets that nobody has run on. run: those that somebody has."""
    cursor: dict[str, Any] = {}
    fresh: list[Dataset] = []
    contents = {content_of(key) for key in run}
    for name, facts in files.files().items():
        before = seen.get(name)
        cursor[name] = [*facts, ""]
        if not before or before[:2] != list(facts):
            continue
        if before[2] or len(fresh) == FILES_A_TICK:
            cursor[name] = before
            continue
        try:
            dataset = files.read(name)
        except (FileNotFoundError, Missing):
            continue
        except StoreUnreachable:
            raise
        except StoreUnavailable as error:  # of this file alone: it waits, and keeps no other from being seen
            log.error("%s", error)
            continue
        cursor[name] = [*facts, dataset.key]
        if content_of(dataset.key) not in contents:
            contents.add(content_of(dataset.key))
            fresh.append(dataset)
    return cursor, fresh
