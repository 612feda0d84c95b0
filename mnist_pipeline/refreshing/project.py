"""A refresh of this project: CSV files that were dropped become datasets first, then all that is out of date is made.

Not here: how it goes about the latter (`waves.py`); the doors, `__main__.py` and the job in `automation.py`.
"""

from collections.abc import Callable
from dataclasses import replace

import dagster as dg

from mnist_pipeline.assets.tabular_datasets import make_known
from mnist_pipeline.refreshing.reports import Report, line
from mnist_pipeline.refreshing.waves import refresh
from mnist_pipeline.resources import Tables


def refresh_project(
    repository: dg.RepositoryDefinition,
    instance: dg.DagsterInstance,
    tables: Tables,
    id: str,
    say: Callable[[str], None],
) -> Report:
    """The same as `refresh`. A file that cannot be read is told in the report, and keeps nothing else back."""
    unread: list[str] = []
    for found in make_known(instance, tables):
        unread += [f"{found.task.name}: {fault}" for fault in found.faults]
        for key in found.new:
            say(line("new", f"{found.task.name} [{key}]", found.where[key]))
    return replace(refresh(repository, instance, id, say), unread=unread)
