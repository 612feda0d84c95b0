"""How many processes the steps of a job get; slots of dead runs are in faults/."""

from __future__ import annotations

import dagster as dg
import pytest

from mnist_pipeline.executor import some_processes


@dg.job(executor_def=some_processes)
def nothing() -> None:
    """Only its configuration matters."""


def executor_config(processes: int | None) -> dict[str, object]:
    """What the executor beneath is given."""
    config = {} if processes is None else {"execution": {"config": {"processes": processes}}}
    return dict(dg.validate_run_config(nothing, config)["execution"]["some_processes"])


@pytest.mark.parametrize("processes", [None, 1])
def test_one_process_unless_asked_for_more(processes: int | None) -> None:
    assert executor_config(processes).keys() == {"in_process"}


def test_as_many_processes_as_asked_for() -> None:
    (kind,) = executor_config(3).items()
    assert kind == ("multiprocess", {"max_concurrent": 3, "retries": {"enabled": {}}})
