"""`make datasets`: every dataset of the tables, made a partition if it is none yet, with the command that runs on it.

For people without the daemon; with it, the sensors `new_…_data` do that as files are dropped.
"""

import sys
from collections.abc import Iterator

import dagster as dg

from mnist_pipeline.assets.tabular_keys import partitions_of
from mnist_pipeline.datasets.files import EMBEDDED
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.resources import Tables
from mnist_pipeline.run import go_home


def main() -> int:
    """Exit status 0."""
    go_home()
    tables = (build_definitions().resources or {})["tables"]
    with dg.DagsterInstance.get() as instance:
        for task in TASKS:
            partitions = partitions_of(task)
            if partitions:
                found = dict(_datasets(task, tables))
                instance.add_dynamic_partitions(str(partitions.name), list(found))
                print(_told(task, tables, found))
    return 0


def _datasets(task: TableTask, tables: Tables) -> Iterator[tuple[str, str]]:
    """Key -> where its rows are."""
    if task.embedded:
        yield EMBEDDED, "the table that comes with the project"
    for dataset in tables.open(task.name).all():
        yield dataset.key, dataset.where


def _told(task: TableTask, tables: Tables, found: dict[str, str]) -> str:
    wide = max(map(len, found), default=0)
    lines = [f"  {key:{wide}}  {where}" for key, where in found.items()]
    newest = list(found)[-1] if found else "…"
    return "\n".join(
        [
            f"\n{task.name}: drop CSV files into {tables.location}/{task.name}, or set {task.name.upper()}_CSV",
            *lines,
            "  run: dagster asset materialize -m mnist_pipeline.definitions "
            f"--select 'key:{task.name}/*' --partition {newest}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
