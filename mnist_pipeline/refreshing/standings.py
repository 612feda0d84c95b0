"""How every asset of the graph stands: up to date, or why not; and what would have to happen before it can be made.

Not here: what "out of date" means (`assets/causes.py`), what checks say against what was made (`verdicts.py`), and the
runs that make things again (`waves.py`).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetNode
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from mnist_pipeline.assets.causes import Made, Target, brought, causes, follows, source_of
from mnist_pipeline.changes import Snapshot
from mnist_pipeline.executor import was_killed
from mnist_pipeline.files import ALL_THERE_ARE
from mnist_pipeline.refreshing.verdicts import failed_checks
from mnist_pipeline.storage.blobs import StoreUnavailable

PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED


@dataclass(frozen=True)
class Standing:
    """causes: why the target is out of date, none if it is not. obstacle: why it cannot, or need not, be made now.

    behind: what is before it, directly or not, and has to be made first; the root of it all at the front.
    run: another one that is under way and makes it. gone: what it is made from was taken away, so it stays as it is,
    and nobody failed.
    """

    target: Target
    causes: tuple[str, ...] = ()
    obstacle: str = ""
    behind: tuple[Target, ...] = ()
    run: dg.DagsterRun | None = None
    gone: bool = False

    @property
    def why_kept(self) -> str:
        """For people, where it was not made again."""
        stands = "cannot be made any more" if self.gone else "is out of date"
        waits = f"{self.behind[0]} before it {stands}" if self.behind else ""
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
        self._gone: dict[dg.AssetKey, Mapping[str, str]] = {}
        self.ignored: set[str] = set()  # ids of runs that are not waited for
        self.takes_what_there_is = False  # what reads all partitions there are waits for none of them any more

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
        if missing := self._nothing_to_read(target):
            return Standing(target, obstacle=missing)
        behind = self._behind(target, found, settled)
        try:
            why = causes(self._made, target, self._snapshot(target))
            gone = self._what_is_gone(target) if why else ""
        except StoreUnavailable as error:
            return Standing(target, ("nobody knows",), f"its source cannot be read: {error}", behind)
        if not why:
            return Standing(target, behind=behind)
        if run := self._being_made_by(target):
            return Standing(target, tuple(why), f"run {run.run_id[:8]} is to make it", behind, run)
        if gone or (behind and all(found[each].gone for each in behind)):
            return Standing(target, tuple(why), gone, behind, gone=True)
        return Standing(target, tuple(why), next(self._obstacles(target, found), ""), behind)

    def _inputs(self, target: Target) -> dict[dg.AssetKey, list[Target]]:
        """Input -> what of it the target is made from."""
        return {key: self._made.parents(target, key) for key in sorted(self.graph.get(target.key).parent_keys)}

    def _reads_all_there_are(self, target: Target, parent: dg.AssetKey) -> bool:
        """Whether it takes those partitions of an input that were made, and does without the others."""
        definition = self.graph.get(target.key).assets_def
        names = [name for name, key in definition.keys_by_input_name.items() if key == parent]
        return any(definition.node_def.input_def_named(name).metadata.get(ALL_THERE_ARE) for name in names)

    def _behind(
        self, target: Target, found: Mapping[Target, Standing], settled: Collection[Target]
    ) -> tuple[Target, ...]:
        held_up: set[Target] = set()
        for parent, parts in self._inputs(target).items():
            if not (self.takes_what_there_is and self._reads_all_there_are(target, parent)):
                there = [found[one] for one in parts if one in found]
                held_up |= {each for one in there for each in one.behind}
                held_up |= {one.target for one in there if one.causes and one.target not in settled}
        return tuple(each for each in found if each in held_up)

    def _nothing_to_read(self, target: Target) -> str:
        """An input of which there is nothing yet that the target could be made from, nor ever was."""
        for parent, parts in self._inputs(target).items():
            name = parent.to_user_string()
            if not parts and not self._made.event(target):
                return f"{name} has no partition yet"
            if self._reads_all_there_are(target, parent) and not any(map(self._made.event, parts)):
                return f"no partition of {name} was made yet"
        return ""

    def _what_is_gone(self, target: Target) -> str:
        """What to do about a partition that people took away; empty where it is there. Looked up once in a refresh."""
        if not (declared := brought(self.graph.get(target.key))) or target.partition is None:
            return ""
        if target.key not in self._gone:
            resource, name = declared
            self._gone[target.key] = self._resources[resource].gone(name, self._made.existing(target.key))
        return self._gone[target.key].get(target.partition, "")

    def _snapshot(self, target: Target) -> Snapshot | None:
        name = source_of(self.graph.get(target.key))
        return self._resources[name].snapshot(target.partition) if name else None

    def _obstacles(self, target: Target, found: Mapping[Target, Standing]) -> Iterator[str]:
        """Of partitions that are all read together, one that is good suffices."""
        for parent, parts in self._inputs(target).items():
            together = self._reads_all_there_are(target, parent)
            read = [each for each in parts if self._made.event(each)] if together else parts
            against = [list(self._against(each, found)) for each in read]
            if not together or all(against):
                yield from (obstacle for each in against for obstacle in each)

    def _against(self, each: Target, found: Mapping[Target, Standing]) -> Iterator[str]:
        if self.graph.get(each.key).is_materializable and each not in found and not self._made.event(each):
            yield f"{each} before it was never made: it is made on request only"
        yield from failed_checks(self.graph, self._made, each)

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
