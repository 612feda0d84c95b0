"""A refresh: what is out of date is made again, wave by wave, until nothing is that could be made.

A wave is one run, or one a partition, of everything that waits for nothing else. Then all is judged anew, so what came
out equal ends its wave there. Whatever was made once in a refresh is not made again in it, so it ends.
Not here: what is out of date (`assets/causes.py`, `standings.py`); who asks for it (`refresh.py`, `automation.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter
from typing import Any

import dagster as dg

from mnist_pipeline.assets.causes import Target, source_of
from mnist_pipeline.executor import free_slots_of_the_dead
from mnist_pipeline.standings import Observer, Standing

REFRESH = "mnist_pipeline/refresh"  # the tag by which all runs of a refresh are found
NAMED = 3  # partitions in a line


@dataclass(frozen=True)
class Done:
    """What became of a target that was to be made. fault: why it was not, empty if it was."""

    target: Target
    why: str
    run_id: str
    seconds: float = 0.0
    fault: str = ""

    def line(self) -> str:
        """For a terminal."""
        if self.fault:
            return _line("FAILED", str(self.target), f"{self.fault}\n(it was run because: {self.why})")
        return _line("ran", str(self.target), f"{self.seconds:5.1f} s  {self.why}")


@dataclass(frozen=True)
class Report:
    """What a refresh did: in the order of its runs, then how everything stands."""

    done: Sequence[Done]
    standings: Sequence[Standing]
    on_request: Sequence[dg.AssetKey]
    faults: Sequence[str] = field(default=())  # of steps that make nothing: checks

    @property
    def well(self) -> bool:
        """Whether everything that was looked at is up to date."""
        return not (self.faults or any(each.fault for each in self.done) or any(s.causes for s in self.standings))

    @property
    def runs(self) -> list[str]:
        """Ids of the runs, in their order."""
        return list(dict.fromkeys(each.run_id for each in self.done if each.run_id))

    def lines(self) -> Iterator[str]:
        """What was kept, and why; then the sum. What ran was told when it had."""
        yield from map(_fault_line, self.faults)
        ran = {each.target for each in self.done}
        kept = [each for each in self.standings if each.target not in ran]
        again = [each for each in self.standings if each.target in ran and each.causes]
        for each in again:
            if not any(one.target == each.target and one.fault for one in self.done):
                yield _line("STILL", str(each.target), f"out of date after it ran: {'; '.join(each.causes)}")
        for (key, why), group in groupby(kept, lambda each: (each.target.key, each.why_kept)):
            yield _line("kept", _names(key, [each.target.partition for each in group]), why)
        yield ""
        if self.on_request:
            names = ", ".join(key.to_user_string() for key in self.on_request)
            yield f"  not looked at, for it is made on request only: {names}"
        yield f"  {self._sum(len(kept))}"

    def _sum(self, kept: int) -> str:
        failed = sum(bool(each.fault) for each in self.done)
        parts = [f"{len(self.done) - failed} ran", f"{failed} failed" if failed else "", f"{kept} kept"]
        end = "everything is up to date" if self.well else "not everything is up to date"
        return f"{', '.join(filter(None, parts))}: {end}"


def refresh(
    repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, id: str, say: Callable[[str], None]
) -> Report:
    """Make again what is out of date. id: for the tag of its runs. say: is called with a line when a target has run.

    Partitions are those that exist when the refresh begins or come while it runs.
    """
    free_slots_of_the_dead(instance)
    done: dict[Target, Done] = {}
    faults: list[str] = []
    with _sources(repository, instance) as resources:
        observer = Observer(repository, instance, resources)
        while True:
            settled = {each.target for each in done.values() if not each.fault}
            standings = observer.look(settled)
            wave = _next(observer, standings, done)
            if not wave:
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
                ready |= {**together, target: "; ".join(standing.causes)}
    runs: dict[tuple[Any, str | None], dict[Target, str]] = {}
    for target, why in ready.items():
        runs.setdefault((observer.graph.get(target.key).partitions_def, target.partition), {})[target] = why
    return list(runs.values())


@contextmanager
def _sources(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> Iterator[dict[str, Any]]:
    """The resources that assets say they read from, by name."""
    graph, all_of_them = repository.asset_graph, repository.get_top_level_resources()
    names = {name for key in graph.materializable_asset_keys if (name := source_of(graph.get(key)))}
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
        began, job = perf_counter(), self.repository.get_implicit_global_asset_job_def()
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
            return [Done(target, why, "", perf_counter() - began, fault) for target, why in targets.items()], []
        return self._read(result, targets)

    def _read(self, result: dg.ExecuteInProcessResult, targets: dict[Target, str]) -> tuple[list[Done], list[str]]:
        made = {_made(event) for event in result.get_asset_materialization_events()}
        failed = {str(e.step_key): cause_of(e.step_failure_data.error) for e in result.get_step_failure_events()}
        stats = self.instance.get_run_step_stats(result.run_id)
        seconds = {s.step_key: s.end_time - s.start_time for s in stats if s.start_time and s.end_time}
        done = []
        for target, why in targets.items():
            step = self.repository.asset_graph.assets_def_for_key(target.key).node_def.name
            fault = "" if target in made else failed.get(step) or _other_reason(failed, step)
            took = sum(took for key, took in seconds.items() if _belongs(key, step))
            done.append(Done(target, why, result.run_id, took, fault))
        told = {each.fault for each in done}
        return done, [f"{step}: {cause}" for step, cause in failed.items() if cause not in told]


def _belongs(step_key: str, step: str) -> bool:
    """A step, or one of the steps of a graph."""
    return step_key == step or step_key.startswith(f"{step}.")


def _other_reason(failed: dict[str, str], step: str) -> str:
    causes: Iterable[str] = (cause for key, cause in failed.items() if _belongs(key, step))
    return next(iter([*causes, *failed.values()]), "its run ended without making it")


def _made(event: dg.DagsterEvent) -> Target:
    made = event.step_materialization_data.materialization
    return Target(made.asset_key, made.partition)


def cause_of(error: Any) -> str:
    """The innermost message: what went wrong, not that a step did."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason was given"


def _line(what: str, name: str, why: str) -> str:
    first, *rest = why.splitlines()
    return "\n".join([f"  {what:<6}  {name:<34}  {first}", *(f"{'':<12}{more}" for more in rest)])


def _fault_line(fault: str) -> str:
    step, _, cause = fault.partition(": ")
    return _line("FAILED", step, cause)


def _names(key: dg.AssetKey, partitions: Sequence[str | None]) -> str:
    named = [each for each in partitions if each is not None]
    more = f" … {len(named) - NAMED} more" if len(named) > NAMED else ""
    return key.to_user_string() + (f" [{', '.join(named[:NAMED])}{more}]" if named else "")
