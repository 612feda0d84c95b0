"""How runs execute: all steps in one process, once slots in pools are free that runs of the dead still hold, and with
few garbage collections.

A run that is killed, or loses its database, in a step with a pool leaves its slot taken; Dagster's daemon gives it
back a minute after the run's end. Without a daemon (`make run`, `dagster asset materialize`) nobody would, and the
next run would wait for ever.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mnist_pipeline.process import collect_seldom

IN_PROCESS = dg.in_process_executor
log = logging.getLogger(__name__)


def free_slots_of_the_dead(instance: dg.DagsterInstance) -> list[str]:
    """Take slots from runs that have ended or been killed; returns the ids of those runs.

    One that was killed is reported as failed, so that the UI shows it and an alert goes out.
    """
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return []
    freed = []
    for run_id in sorted(storage.get_concurrency_run_ids()):
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            if not was_killed(instance, run_id):
                continue
            instance.report_run_failed(run, "Its process is gone without a word: killed, or out of memory.")
        storage.free_concurrency_slots_for_run(run_id)
        log.warning("Gave back a slot that run %s held, which has ended.", run_id)
        freed.append(run_id)
    return freed


def was_killed(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run said which process executes it, and there is none with that number.

    Known only of runs on this machine, which those in sqlite are. Elsewhere the daemon finds out.
    """
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage  # a third of a second

    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return False
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    events = [record.event_log_entry.get_dagster_event() for record in records]
    pids = {int(str(pid.value)) for event in events if (pid := event.engine_event_data.metadata.get("pid"))}
    return bool(pids) and not any(map(_is_alive, pids))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    collect_seldom()
    free_slots_of_the_dead(context.instance)
    assert IN_PROCESS.executor_creation_fn
    return IN_PROCESS.executor_creation_fn(context)


one_process = dg.ExecutorDefinition(
    name=IN_PROCESS.name,
    config_schema=IN_PROCESS.config_schema.as_field(),
    executor_creation_fn=_create,
    description="All steps in the process of the run, one after the other: the quickest for assets of seconds.",
)


def _processes(config: Mapping[str, Any]) -> dict[str, Any]:
    count = config["processes"]
    return {"multiprocess": {"max_concurrent": count}} if count > 1 else {"in_process": {}}


some_processes = dg.multi_or_in_process_executor.configured(
    _processes,
    config_schema={"processes": dg.Field(int, default_value=1, description="steps at the same time, each in its own")},
    name="some_processes",
    description="For steps that take minutes and do not wait for each other; 1: all in the process of the run.",
)
