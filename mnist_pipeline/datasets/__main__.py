"""`make datasets`: every dataset of the tables, made a partition if it is none yet, with the command that runs on it.

For people without the daemon; with it, the sensors `new_…_data` do that as files are dropped.
"""

import sys
from collections.abc import Iterator

import dagster as dg

from mnist_pipeline.assets.tabular_datasets import Found, make_known
from mnist_pipeline.datasets.files import EMBEDDED
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.resources import Tables, variable_of
from mnist_pipeline.run import go_home


def main() -> int:
    """Exit status 1 where a file cannot be read; the others are listed all the same."""
    go_home()
    tables = (build_definitions().resources or {})["tables"]
    with dg.DagsterInstance.get() as instance:
        found = make_known(instance, tables)
        for each in found:
            if each.task.embedded:
                instance.add_dynamic_partitions(each.partitions, [EMBEDDED])
            print(*_told(each, tables), sep="\n")
    return 1 if any(each.faults for each in found) else 0


def _told(found: Found, tables: Tables) -> Iterator[str]:
    task = found.task
    yield f"\n{task.name}: drop CSV files into {tables.location}/{task.name}, or set {variable_of(task.name)}"
    embedded = {EMBEDDED: "the table that comes with the project"} if task.embedded else {}
    for key, where in {**embedded, **found.where}.items():
        command = "dagster asset materialize -m mnist_pipeline.definitions"
        yield f"  {key}  {where}"
        yield f"    run: {command} --select 'key:{task.name}/*' --partition {key}"
    for fault in found.faults:
        yield f"  FAILED: {fault}"


if __name__ == "__main__":
    sys.exit(main())
