"""`make refresh`: makes again exactly what is out of date, by code or by data, and says what it ran, what it kept, why.

The job `refresh` in the UI does the same. Exit status 0: everything is up to date.
Not here: how it goes about it (`project.py`, `waves.py`).
"""

import sys
import time
from uuid import uuid4

import dagster as dg

from mnist_pipeline.process import collect_seldom
from mnist_pipeline.run import definitions_here, go_home


def main() -> int:
    """Exit status 1 where something is out of date that could not be made."""
    go_home()
    collect_seldom()
    began = time.perf_counter()
    from mnist_pipeline.refreshing.project import refresh_project

    definitions = definitions_here()
    repository, tables = definitions.get_repository_def(), (definitions.resources or {})["tables"]
    with dg.DagsterInstance.get() as instance:
        report = refresh_project(repository, instance, tables, uuid4().hex[:8], lambda line: print(line, flush=True))
    print(*report.lines(), sep="\n", end=f", {time.perf_counter() - began:.1f} s\n")
    return 0 if report.well else 1


if __name__ == "__main__":
    sys.exit(main())
