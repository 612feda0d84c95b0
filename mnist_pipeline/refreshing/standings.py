"""How every asset of the graph stands: up to date, or why not; and what would have to happen before it can be made.

Not here: what "out of date" means (`assets/causes.py`), and the runs that make things again (`waves.py`).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetNode
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from mnist_pipeline.assets.causes import Made, Target, causes, follows, source_of
from mnist_pipeline.changes import Snapshot
from mnist_pipeline.executor import was_killed
from mnist_pipeline.storage.blobs import StoreUnavailable

PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
CHECKS_LOOKED_BACK = 500  # evaluations of a check, over all partitions of its asset
ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Standing:
    """causes: why the target is out of date, none if it is not. obstacle: why it cannot, or need not, be made now.

    behind: what is before it, directly or not, and has to be made first; the root of it all at the front.
    run: another one that is under way and makes it.
    """

    target: Target
    causes: tuple[str, ...] = ()
    obstacle: str = ""
    behind: tuple[Target, ...] = ()
    run: dg.DagsterRun | None = None

    @property
    def why_kept(self) -> str:
        """For people, where it was not made again."""
        waits = f"{self.behind[0]} before it is out of date" if self.behind else ""
        if not self.causes:
            return self.obstacle or "; ".join(filter(None, ["up to date", waits]))
        return f"out of date ({self.why}), but {waits or self.obstacle}"

    @property
    def why(self) -> str:
        """The first two causes, and how many more there are."""
        more = [f"and {len(self.causes) - 2} more"] if len(self.causes) > 2 else []
        return "; ".join([*self.causes[:2], *more])


class Observer:
    """Looks at all assets of a repository at once. resources: what assets read from, by name."""

    def __init__(
        self, repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, resources: Mapping[str, Any]
    ) -> None:
        self.graph, self._instance, self._resources = repository.asset_graph, instance, resources
        self._made = Made(instance, self.graph)
        self._under_way: dict[Target, list[dg.DagsterRun]] = {}
        self.ignored: set[str] = set()  # ids of runs that are not waited for

    def on_request(self) -> list[dg.AssetKey]:
        """What is not looked at: answers to questions, and what is not made here."""
        return [key for key in self.graph.toposorted_asset_keys if not self._is_looked_at(self.graph.get(key))]

    def look(self, settled: Collection[Target]) -> dict[Target, Standing]:
        """Every target as it stands now, what is before others first. settled: holds nothing up, however it stands."""
        self._made, self._under_way = Made(self._instance, self.graph), self._planned()
        found: dict[Target, Standing] = {}
        for key in self.graph.toposorted_asset_keys:
            if self._is_looked_at(self.graph.get(key)):
                for partition in self._made.existing(key):
                    target = Target(key, partition)
                    found[target] = self._standing(target, found, settled)
        return found

    def made_with(self, target: Target) -> set[Target]:
        """What one step makes together with it because it cannot make one alone; itself at least."""
        entities = self.graph.get(target.key).execution_set_entity_keys
        return {Target(key, target.partition) for key in entities if isinstance(key, dg.AssetKey)} | {target}

    def _is_looked_at(self, node: BaseAssetNode) -> bool:
        return node.is_materializable and not follows(node).nothing

    def _standing(self, target: Target, found: Mapping[Target, Standing], settled: Collection[Target]) -> Standing:
        before = list(self._before(target))
        if missing := self._without_partitions(target):
            return Standing(target, obstacle=f"{missing.to_user_string()} has no partition yet")
        held_up = {each for one in before if one in found for each in found[one].behind}
        held_up |= {one for one in before if one in found and found[one].causes and one not in settled}
        behind = tuple(each for each in found if each in held_up)
        try:
            why = causes(self._made, target, self._snapshot(target))
        except StoreUnavailable as error:
            return Standing(target, ("nobody knows",), f"its source cannot be read: {error}", behind)
        if not why:
            return Standing(target, behind=behind)
        if run := self._being_made_by(target):
            return Standing(target, tuple(why), f"run {run.run_id[:8]} is to make it", behind, run)
        return Standing(target, tuple(why), next(self._obstacles(before, found), ""), behind)

    def _before(self, target: Target) -> Iterator[Target]:
        for parent in sorted(self.graph.get(target.key).parent_keys):
            yield from self._made.parents(target, parent)

    def _without_partitions(self, target: Target) -> dg.AssetKey | None:
        """An input of which there is nothing yet that the target could be made from, nor ever was."""
        empty = (key for key in sorted(self.graph.get(target.key).parent_keys) if not self._made.parents(target, key))
        return None if self._made.event(target) else next(empty, None)

    def _snapshot(self, target: Target) -> Snapshot | None:
        name = source_of(self.graph.get(target.key))
        return self._resources[name].snapshot(target.partition) if name else None

    def _obstacles(self, before: list[Target], found: Mapping[Target, Standing]) -> Iterator[str]:
        for each in before:
            node = self.graph.get(each.key)
            if node.is_materializable and each not in found and not self._made.event(each):
                yield f"{each} before it was never made: it is made on request only"
            yield from self._failed_checks(each)

    def _being_made_by(self, target: Target) -> dg.DagsterRun | None:
        """A run that is under way, is to make it, and has not done so yet."""
        made = self._made.event(target)
        candidates = (run for run in self._under_way.get(target, ()) if run.run_id not in self.ignored)
        return next((run for run in candidates if not made or made.run_id != run.run_id), None)

    def _planned(self) -> dict[Target, list[dg.DagsterRun]]:
        """What runs that have not ended were to make, by target, the newest first."""
        found: dict[Target, list[dg.DagsterRun]] = {}
        for run in self._instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
            if not was_killed(self._instance, run.run_id):
                records = self._instance.get_records_for_run(run.run_id, of_type=PLANNED).records
                for event in (record.event_log_entry.get_dagster_event() for record in records):
                    data = event.asset_materialization_planned_data
                    found.setdefault(Target(data.asset_key, data.partition), []).append(run)
        return found

    def _failed_checks(self, target: Target) -> Iterator[str]:
        """Blocking checks that speak against what was made last."""
        for key in sorted(self.graph.get(target.key).check_keys):
            check = self.graph.get_check_spec(key)
            record = self._evaluation(key, target) if check.blocking else None
            if record and (fault := _fault(self._instance, record)):
                yield f"check {key.name} of {target} {fault}"

    def _evaluation(self, key: dg.AssetCheckKey, target: Target) -> AssetCheckExecutionRecord | None:
        """The newest of this check; for a partition, the newest in the run that made it."""
        storage, event = self._instance.event_log_storage, self._made.event(target)
        if target.partition is None:
            return storage.get_latest_asset_check_execution_by_key([key]).get(key)
        records = storage.get_asset_check_execution_history(key, CHECKS_LOOKED_BACK)
        return next((each for each in records if event and _is_about(each, event)), None)


def _is_about(record: AssetCheckExecutionRecord, event: dg.EventLogEntry) -> bool:
    evaluated = record.evaluation if record.status in (Status.FAILED, Status.SUCCEEDED) else None
    target = evaluated.target_materialization_data if evaluated else None
    return (target.run_id if target else record.run_id) == event.run_id


def _fault(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> str:
    """What speaks against the asset; empty for nothing."""
    if record.status == Status.FAILED:
        severe = record.evaluation and record.evaluation.severity == dg.AssetCheckSeverity.ERROR
        return "failed" if severe else ""
    if record.status == Status.PLANNED:
        run = instance.get_run_by_id(record.run_id)
        return f"has no verdict, for run {record.run_id[:8]} ended before" if run and run.status in ENDED_BADLY else ""
    return ""
