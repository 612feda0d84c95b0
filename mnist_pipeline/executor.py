"""How runs execute: where their steps run, once slots in pools are free that runs of the dead still hold, and with few
garbage collections.

All steps in the process of the run, each in a process of its own on this machine, or each as a job of a Ray cluster:
MNIST_STEPS_ON says which. Jobs of one short step stay in their run's process whatever it says (`automation.py`).

A run that is killed, or loses its database, in a step with a pool leaves its slot taken; Dagster's daemon gives it
back a minute after the run's end. Without a daemon (`make run`, `dagster asset materialize`) nobody would, and the
next run would wait for ever.
"""

import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import dagster as dg

from mnist_pipeline.environment import number, ray_jobs_address, steps_on, whole
from mnist_pipeline.process import collect_seldom

IN_PROCESS = dg.in_process_executor
WISHES = {
    "num_cpus": "that a step reserves, if its asset has no tag dagster-ray/config; 0: it runs on the head",
    "num_gpus": "the same",
    "wait_s": "seconds that a step waits for them before it fails",
}
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


def _prepared(create: Callable[[dg.InitExecutorContext], dg.Executor]) -> Callable[[Any], dg.Executor]:
    """What every run begins with."""

    def created(context: dg.InitExecutorContext) -> dg.Executor:
        collect_seldom()
        free_slots_of_the_dead(context.instance)
        return create(context)

    return created


assert IN_PROCESS.executor_creation_fn
one_process = dg.ExecutorDefinition(
    name=IN_PROCESS.name,
    config_schema=IN_PROCESS.config_schema.as_field(),
    executor_creation_fn=_prepared(IN_PROCESS.executor_creation_fn),
    description="All steps in the process of the run, one after the other: the quickest for assets of seconds.",
)


def steps_executor(env: Mapping[str, str] = os.environ) -> dg.ExecutorDefinition:
    """What MNIST_STEPS_ON says. Raises ValueError naming the variable that is wrong, or what is to be installed."""
    chosen, at_once = steps_on(env), whole(env, "MNIST_STEPS_AT_ONCE", 0, "steps", high=1_000)
    if chosen == "process":
        return one_process
    return processes(at_once) if chosen == "processes" else _ray(env, at_once)


def processes(at_once: int) -> dg.ExecutorDefinition:
    """Each step in a process of its own on this machine. at_once: by default, 0 for as many as there are cores."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        from dagster._core.execution.retries import RetryMode

        from mnist_pipeline.lost_steps import Processes

        return Processes(RetryMode.ENABLED, int(str(context.executor_config["max_concurrent"])) or None)

    return dg.ExecutorDefinition(
        name="processes",
        config_schema={"max_concurrent": dg.Field(int, default_value=at_once, description="steps at the same time")},
        requirements=dg.multiprocess_executor.get_requirements({}),
        executor_creation_fn=_prepared(create),
        description="Each step in a process of its own; one that is killed is tried again.",
    )


def _ray(env: Mapping[str, str], at_once: int) -> dg.ExecutorDefinition:
    if missing := [name for name in ("ray", "dagster_ray") if find_spec(name) is None]:
        raise ValueError(
            f"MNIST_STEPS_ON=ray: {' and '.join(missing)} cannot be imported; pip install 'mnist-pipeline[ray]'"
        )
    address = ray_jobs_address(env)
    defaults = {
        "num_cpus": number(env, "MNIST_STEP_CPUS", 1.0, "processors"),
        "num_gpus": 0.0,
        "wait_s": number(env, "MNIST_STEP_WAIT_S", 900.0, "seconds", low=1.0),
    }

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        from mnist_pipeline.ray_jobs import settings_for
        from mnist_pipeline.ray_steps import Wishes, ray_steps

        cpus, gpus, wait_s = (float(str(context.executor_config[name])) for name in defaults)
        wishes = Wishes(cpus, gpus, wait_s, settings_for(env))
        return ray_steps(address, wishes, int(str(context.executor_config["max_concurrent"])))

    return dg.ExecutorDefinition(
        name="ray",
        config_schema={
            "max_concurrent": dg.Field(int, default_value=at_once, description="steps at the same time, 0: any"),
            **{
                name: dg.Field(float, default_value=value, description=WISHES[name]) for name, value in defaults.items()
            },
        },
        requirements=dg.multiprocess_executor.get_requirements({}),
        executor_creation_fn=_prepared(create),
        description="Each step as a job of a Ray cluster; one that is killed, or loses its node, is tried again.",
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
