"""Why an asset is out of date: never made, or by other code, from other inputs, from another source.

What an asset was made from stands in the tags of its latest materialization. This is the one notion that the
automation condition (`conditions.py`) and a refresh (`refreshing/waves.py`) share.
Not here: when it is made again, and what may stand in the way.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph, BaseAssetNode
from dagster._core.definitions.partitions.context import partition_loading_context

from mnist_pipeline.changes import Snapshot

CODE, DATA, INPUT = "dagster/code_version", "dagster/data_version", "dagster/input_data_version/"
UNKNOWN = "INITIAL"  # what Dagster notes for an input that has no data version
ONE_BY_ONE = 100  # of so many partitions of an input and more, Dagster notes the version of the newest only
FOLLOWS, READ_FROM = "mnist_pipeline/follows", "mnist_pipeline/read_from"  # metadata of a definition
BROUGHT = "mnist_pipeline/brought"
OWN_CODE = "mnist_pipeline/follows_own_code"


class Target(NamedTuple):
    """An asset, or a partition of one."""

    key: dg.AssetKey
    partition: str | None = None

    def __str__(self) -> str:
        return self.key.to_user_string() + (f" [{self.partition}]" if self.partition else "")


@dataclass(frozen=True)
class Follows:
    """What an asset is made again for. Other inputs are read as they are, and change nothing by themselves."""

    changes_of: tuple[dg.AssetKey, ...]
    own_code: bool = True

    @property
    def nothing(self) -> bool:
        """It is made when somebody asks for it, and then stays as it is."""
        return not (self.changes_of or self.own_code)


def follows_only(*assets: str, own_code: bool = False) -> dict[str, Any]:
    """Metadata for the definition of an asset that is made again for changes of these inputs, not for its own code
    unless that is said.

    Without any: it is the answer to a question, made on request only. An asset that does not say so follows all.
    """
    return {FOLLOWS: dg.MetadataValue.json(list(assets)), OWN_CODE: dg.MetadataValue.bool(own_code)}


def read_from(resource: str) -> dict[str, Any]:
    """Metadata for the definition of an asset that reads what can change without Dagster knowing.

    The resource of that name has `snapshot(partition) -> Snapshot`; the asset takes one before it reads, and returns
    its `tags()` with what it made.
    """
    return {READ_FROM: resource}


def brought_by_people(resource: str, name: str) -> dict[str, Any]:
    """Metadata for the definition of an asset each partition of which is read from what somebody brought and may take
    away again.

    The resource of that name has `gone(name, partitions) -> Mapping[str, str]`: of these partitions, those that cannot
    be read any more, and what people can do about it.
    """
    return {BROUGHT: dg.MetadataValue.json([resource, name])}


def brought(node: BaseAssetNode) -> tuple[str, str] | None:
    """The resource that people bring its partitions to, and the name there, if the asset says so."""
    declared = node.metadata.get(BROUGHT)
    return (str(declared.value[0]), str(declared.value[1])) if declared else None


def follows(node: BaseAssetNode) -> Follows:
    """What an asset of the graph is made again for: by default all its inputs, and its own code."""
    declared = node.metadata.get(FOLLOWS)
    if declared is None:
        return Follows(tuple(sorted(node.parent_keys)))
    own_code = bool(getattr(node.metadata.get(OWN_CODE), "value", False))
    return Follows(tuple(map(dg.AssetKey.from_user_string, declared.value)), own_code)


def source_of(node: BaseAssetNode) -> str | None:
    """The name of the resource that it reads from, if it says one."""
    declared = node.metadata.get(READ_FROM)
    return declared if declared is None else str(getattr(declared, "value", declared))


class Made:
    """The latest materializations, each looked up once, and which of them are inputs of which."""

    def __init__(self, instance: dg.DagsterInstance, graph: BaseAssetGraph) -> None:
        self.instance, self.graph = instance, graph
        self._whole: dict[dg.AssetKey, dg.EventLogEntry | None] = {}
        self._parts: dict[dg.AssetKey, dict[str, dg.EventLogEntry]] = {}

    def event(self, target: Target) -> dg.EventLogEntry | None:
        """The materialization that counts; None where there is none."""
        if target.partition is not None:
            return self.partitions(target.key).get(target.partition)
        if target.key not in self._whole:
            self._whole[target.key] = self.instance.get_latest_materialization_event(target.key)
        return self._whole[target.key]

    def tags(self, target: Target) -> Mapping[str, str]:
        """From what and by what it was made; empty where it never was."""
        event = self.event(target)
        made = event.asset_materialization if event else None
        return (made.tags if made else None) or {}

    def version(self, target: Target) -> str:
        """Of its data."""
        return self.tags(target).get(DATA) or self._observed(target.key) or UNKNOWN

    def partitions(self, key: dg.AssetKey) -> Mapping[str, dg.EventLogEntry]:
        """Partition -> its latest materialization, of those that have one."""
        if key not in self._parts:
            storage, kind = self.instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
            newest = list(storage.get_latest_storage_id_by_partition(key, kind).values())
            wanted = dg.AssetRecordsFilter(key, storage_ids=newest)
            records = self.instance.fetch_materializations(wanted, limit=len(newest)).records if newest else []
            self._parts[key] = {str(r.partition_key): r.event_log_entry for r in records}
        return self._parts[key]

    def existing(self, key: dg.AssetKey) -> Sequence[str | None]:
        """The partitions that are to be up to date. Of windows of time those that were made: the others are a
        backfill's matter."""
        definition = self.graph.get(key).partitions_def
        if definition is None:
            return [None]
        if isinstance(definition, dg.TimeWindowPartitionsDefinition):
            return sorted(self.partitions(key))
        return definition.get_partition_keys(dynamic_partitions_store=self.instance)

    def parents(self, target: Target, parent: dg.AssetKey) -> list[Target]:
        """The partitions of an input that a target is made from; the input itself where it has none."""
        if self.graph.get(parent).partitions_def is None:
            return [Target(parent)]
        with partition_loading_context(dynamic_partitions_store=self.instance):
            found = self.graph.get_parent_partition_keys_for_child(target.partition, parent, target.key)
            return [Target(parent, each) for each in sorted(found.partitions_subset.get_partition_keys())]

    def input_version(self, target: Target, parent: dg.AssetKey) -> str:
        """What Dagster would note of an input if the target were made now."""
        if self.graph.get(parent).partitions_def is None:
            return self.version(Target(parent))
        parents = self.parents(target, parent)
        if len(parents) >= ONE_BY_ONE:
            return self.version(Target(parent))
        versions = [version for each in parents if (version := self.tags(each).get(DATA))]
        return hashlib.sha256("".join(versions).encode()).hexdigest()

    def _observed(self, key: dg.AssetKey) -> str | None:
        """Of what is not made here, and looked at instead."""
        if not self.graph.get(key).is_external:
            return None
        records = self.instance.fetch_observations(key, limit=1).records
        seen = records[0].asset_observation if records else None
        return seen.data_version if seen else None


def causes(made: Made, target: Target, source: Snapshot | None = None) -> list[str]:
    """Why a target is out of date, for people to read; none where it is as it would be if it were made now.

    source: what it would read now.
    """
    node = made.graph.get(target.key)
    kept = follows(node)
    if kept.nothing:
        return []
    tags = made.tags(target)
    if not tags:
        return ["never made"]
    found = []
    if kept.own_code and node.code_version not in (None, tags.get(CODE)):
        found.append("its code has changed")
    if source is not None and (changed := source.compare(tags)):
        found.append(changed)
    for parent in kept.changes_of:
        name = parent.to_user_string()
        was, now = tags.get(INPUT + name), made.input_version(target, parent)
        if was != now:
            found.append(_changed(name, was, now))
    return found + [f"{name} is no input of it any more" for name in _former_inputs(node, tags) if kept.own_code]


def _former_inputs(node: BaseAssetNode, tags: Mapping[str, str]) -> list[str]:
    """What it was made from besides its inputs of today."""
    today = {parent.to_user_string() for parent in node.parent_keys}
    return sorted({tag.removeprefix(INPUT) for tag in tags if tag.startswith(INPUT)} - today)


def _changed(name: str, was: str | None, now: str) -> str:
    if was is None:
        return f"{name} is new to it"
    short = _short(was), _short(now)
    return f"{name} has changed" if short[0] == short[1] else f"{name} is {short[1]}, was {short[0]}"


def _short(version: str) -> str:
    """A digest by its beginning, as git does; a name by its end, which is where names of one kind differ."""
    if re.fullmatch(r"[0-9a-f]{32,}", version):
        return version[:8]
    return version if len(version) <= 16 else f"…{version[-12:]}"
