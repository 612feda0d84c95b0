"""A refresh: what is out of date is made again, wave by wave, until nothing is that could be made.

A wave is one run, or one a partition, of everything that waits for nothing else. Then all is judged anew, so what came
out equal ends its wave there. Whatever was made once in a refresh is not made again in it, so it ends. What reads all
partitions there are of an input comes last, from those that could be made: a bad one holds no other back.
Not here: what is out of date (`assets/causes.py`, `standings.py`); who asks for it (`__main__.py`, `automation.py`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from mnist_pipeline.assets.causes import Target, brought, source_of
from mnist_pipeline.executor import free_slots_of_the_dead
from mnist_pipeline.refreshing.reports import Done, Report, line
from mnist_pipeline.refreshing.standings import Observer, Standing

REFRESH = "mnist_pipeline/refresh"  # the tag by which all runs of a refresh are found
PAUSE_S, QUEUED_LOOKS = 2.0, 30  # a run that is queued is waited for a minute
NOT_BEGUN = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)


def refresh(
    repository: dg.RepositoryDefinition,
    instance: dg.DagsterInstance,
    id: str,
    say: Callable[[str], None],
    pause: Callable[[], None] = lambda: time.sleep(PAUSE_S),
) -> Report:
    """Make again what is out of date. id: for the tag of its runs. say: is called with a line when a target has run.

    What another run is making is waited for, with pauses between two looks, and made here if that run fails.
    """
    free_slots_of_the_dead(instance)
    done: dict[Target, Done] = {}
    faults: list[str] = []
    waiting = _Waiting(say)
    with _sources(repository, instance) as resources:
        observer = Observer(repository, instance, resources)
        while True:
            settled = {each.target for each in done.values() if not each.fault}
            standings = observer.look(settled)
            wave = _next(observer, standings, done)
            if not wave:
                if waiting.goes_on(standings, observer.ignored):
                    pause()
                    continue
                if not observer.takes_what_there_is and any(each.behind for each in standings.values()):
                    observer.takes_what_there_is = True
                    continue
                return Report(list(done.values()), list(standings.values()), observer.on_request(), faults)
            for targets in wave:
                made, more = _Run(repository, instance, id).make(targets)
                done |= {each.target: each for each in made}
                faults += more
                for each in made:
                    say(each.line())


def _next(observer: Observer, standings: dict[Target, Standing], done: dict[Target, Done]) -> list[dict[Target, str]]:
    """Target -> why, of each run of the next wave: what waits for nothing else, a partition a run."""
    ready: dict[Target, str] = {}
    for target, standing in standings.items():
        if standing.causes and target not in done:
            whole = observer.made_with(target)
            parts = [standings[each] for each in whole if each in standings]
            if not any(part.obstacle or set(part.behind) - whole for part in parts):
                together = {each: f"made together with {target}" for each in whole if each not in ready}
                ready |= {**together, target: standing.why}
    runs: dict[tuple[Any, str | None], dict[Target, str]] = {}
    for target, why in ready.items():
        runs.setdefault((observer.graph.get(target.key).partitions_def, target.partition), {})[target] = why
    return list(runs.values())


@dataclass
class _Waiting:
    """For what other runs are making, such as those of the automation conditions."""

    say: Callable[[str], None]
    told: set[str] = field(default_factory=set)
    looks: int = 0

    def goes_on(self, standings: dict[Target, Standing], ignored: set[str]) -> bool:
        """Whether there is such a run. ignored: gets those that have not begun after a minute, for nobody may be there
        to begin them; what they were to make is made here."""
        runs = {each.target: each.run for each in standings.values() if each.run}
        for target, run in runs.items():
            if run.run_id not in self.told:
                self.say(line("waits", str(target), f"run {run.run_id[:8]} is to make it"))
                self.told.add(run.run_id)
        self.looks += 1
        if self.looks > QUEUED_LOOKS:
            ignored |= {run.run_id for run in runs.values() if run.status in NOT_BEGUN}
        return bool(runs)


@contextmanager
def _sources(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> Iterator[dict[str, Any]]:
    """The resources that assets say they read from, by name."""
    graph, all_of_them = repository.asset_graph, repository.get_top_level_resources()
    nodes = [graph.get(key) for key in graph.materializable_asset_keys]
    names = {name for node in nodes if (name := source_of(node))}
    names |= {said[0] for node in nodes if (said := brought(node))}
    if unknown := sorted(names - all_of_them.keys()):
        raise dg.DagsterInvalidDefinitionError(f"an asset says that it reads from {unknown[0]!r}: no such resource")
    with dg.build_resources({name: all_of_them[name] for name in names}, instance) as resources:
        yield {name: getattr(resources, name) for name in names}


@dataclass(frozen=True)
class _Run:
    """One run of a wave."""

    repository: dg.RepositoryDefinition
    instance: dg.DagsterInstance
    id: str

    def make(self, targets: dict[Target, str]) -> tuple[list[Done], list[str]]:
        """What became of each target, and the faults of other steps."""
        began, job = time.perf_counter(), self.repository.get_implicit_global_asset_job_def()
        loggers: dict[str, Any] = {"loggers": {"brief": {}}} if "brief" in job.loggers else {}
        try:
            result = job.execute_in_process(
                instance=self.instance,
                asset_selection=[each.key for each in targets],
                partition_key=next(iter(targets)).partition,
                tags={REFRESH: self.id},
                run_config=loggers,
                raise_on_error=False,
            )
        except dg.DagsterInvalidConfigError as error:  # before there was a run
            fault = str(error)
            return [Done(target, why, "", time.perf_counter() - began, fault) for target, why in targets.items()], []
        return self._read(result, targets)

    def _read(self, result: dg.ExecuteInProcessResult, targets: dict[Target, str]) -> tuple[list[Done], list[str]]:
        made = {_made(event) for event in result.get_asset_materialization_events()}
        failed = {str(e.step_key): cause(e.step_failure_data.error) for e in result.get_step_failure_events()}
        stats = self.instance.get_run_step_stats(result.run_id)
        seconds = {s.step_key: s.end_time - s.start_time for s in stats if s.start_time and s.end_time}
        done = []
        for target, why in targets.items():
            step = self.repository.asset_graph.assets_def_for_key(target.key).node_def.name
            fault = "" if target in made else failed.get(step) or _other_reason(failed, step)
            took = [seconds.pop(key) for key in list(seconds) if _belongs(key, step)]
            done.append(Done(target, why, result.run_id, sum(took), fault))
        told = {each.fault for each in done}
        return done, [f"{step}: {why}" for step, why in failed.items() if why not in told]


def _belongs(step_key: str, step: str) -> bool:
    """A step, or one of the steps of a graph."""
    return step_key == step or step_key.startswith(f"{step}.")


def _other_reason(failed: dict[str, str], step: str) -> str:
    causes: Iterable[str] = (why for key, why in failed.items() if _belongs(key, step))
    return next(iter([*causes, *failed.values()]), "its run ended without making it")


def _made(event: dg.DagsterEvent) -> Target:
    made = event.step_materialization_data.materialization
    return Target(made.asset_key, made.partition)


def cause(error: Any) -> str:
    """The innermost message: what went wrong, not that a step did."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason was given"
