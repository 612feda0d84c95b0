"""Which datasets of a table Dagster knows: the CSV files that lie there are made partitions.

Not here: which files there are and what their keys are (`datasets/files.py`), what runs on them (`tabular.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mnist_pipeline.assets.tabular_keys import partitions_of
from mnist_pipeline.datasets.files import content_of
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.resources import Tables
from mnist_pipeline.storage.blobs import StoreUnavailable


@dataclass(frozen=True)
class Found:
    """The files of one table. partitions: the name under which Dagster knows them. where: key -> place of the rows.
    new: keys that nobody knew. faults: what is wrong with files that cannot be read."""

    task: TableTask
    partitions: str
    where: Mapping[str, str]
    new: Sequence[str]
    faults: Sequence[str]


def make_known(instance: dg.DagsterInstance, tables: Tables) -> list[Found]:
    """Make every file that is there and whole a partition of its table, once for each content. Tables without CSV
    files are left out."""
    known = [(task, partitions) for task in TASKS if (partitions := partitions_of(task))]
    return [_found(instance, tables, task, str(partitions.name)) for task, partitions in known]


def _found(instance: dg.DagsterInstance, tables: Tables, task: TableTask, name: str) -> Found:
    before = instance.get_dynamic_partitions(name)
    keys, where, faults = {content_of(key): key for key in before}, dict[str, str](), list[str]()
    try:
        for dataset in tables.open(task.name).whole(faults.append):
            key = keys.setdefault(content_of(dataset.key), dataset.key)
            where.setdefault(key, dataset.where)
    except StoreUnavailable as error:  # the folder, or all of the storage: the other tables may lie elsewhere
        faults.append(str(error))
    new = [key for key in where if key not in before]
    if new:
        instance.add_dynamic_partitions(name, new)
    return Found(task, name, where, new, faults)
