"""When an asset is made again by itself: when what it was made from, or by, is no longer what there is now.

The ready-made conditions compare one tick with the tick before. That loses data that changes while a training runs
(its end counts as handling the change), code that changes while the daemon is down, and everything on a first tick.
What an asset was made from stands in its latest materialization, so this one looks there, and has nothing to lose.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.definitions.events import AssetKeyPartitionKey

from mnist_pipeline.assets.causes import Made, Target, causes, follows

FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(hours=4)
LOOKED_BACK = 50  # runs of the asset
ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def patience(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: 10, 20, 40 minutes and so on, at most 4 hours."""
    return min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT) if failures else timedelta()


class OutOfDate(dg.AutomationCondition[dg.AssetKey]):
    """There is no such asset yet, or it was made from other data or by other code. Rebuilt equal data is no change."""

    @property
    def description(self) -> str:
        """For the UI."""
        return "made from other data or by other code than there is now, or never"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """By the tags of the latest materializations."""
        view = context.asset_graph_view
        made = Made(view.instance, view.asset_graph)
        stale = [each for each in _targets(context, made) if causes(made, each)]
        return dg.AutomationResult(context, _subset(context, stale))


class HadItsTime(dg.AutomationCondition[dg.AssetKey]):
    """The last runs did not fail, or failed long enough ago, or what it is made from is newer than they are."""

    @property
    def description(self) -> str:
        """For the UI."""
        return "not failed lately: 10 minutes after a failure it is tried again, then 20, 40 … 240; cancelled: not"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """By the runs since the newest of its inputs."""
        candidates = context.candidate_subset
        if candidates.is_empty:  # nothing to be made: no need to look at any run
            return dg.AutomationResult(context, candidates)
        view = context.asset_graph_view
        inputs = follows(view.asset_graph.get(context.key)).changes_of
        had = context.evaluation_time >= try_again_at(view.instance, context.key, inputs)
        return dg.AutomationResult(context, candidates if had else context.get_empty_subset())


def try_again_at(instance: dg.DagsterInstance, key: dg.AssetKey, inputs: Sequence[dg.AssetKey]) -> datetime:
    """When the next attempt is allowed: the beginning of time where nothing speaks against one."""
    ended = list(_ended_badly(instance, key, inputs))
    if not ended:
        return datetime.min.replace(tzinfo=timezone.utc)
    newest = ended[0]
    if newest.dagster_run.status == dg.DagsterRunStatus.CANCELED:  # by a person, who knew why
        return datetime.max.replace(tzinfo=timezone.utc)
    return datetime.fromtimestamp(newest.end_time or 0.0, timezone.utc) + patience(len(ended))


def _ended_badly(
    instance: dg.DagsterInstance, key: dg.AssetKey, inputs: Sequence[dg.AssetKey]
) -> Iterator[dg.RunRecord]:
    """Runs, newest first, that were to make this asset from what there is now, and have not."""
    newest = max(_made_at(instance, each) for each in (key, *inputs))
    planned = _planned_in(instance, key)
    if planned:
        wanted = dg.RunsFilter(run_ids=planned, statuses=ENDED_BADLY)
        for record in instance.get_run_records(wanted, limit=LOOKED_BACK):
            if (record.end_time or 0.0) > newest:
                yield record


def _planned_in(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[str]:
    """The newest runs that were to make this asset. By asset: many failed runs of something else would hide them."""
    planned = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, key)
    return [record.run_id for record in instance.event_log_storage.get_event_records(planned, limit=LOOKED_BACK)]


def _made_at(instance: dg.DagsterInstance, key: dg.AssetKey) -> float:
    event = instance.get_latest_materialization_event(key)
    return event.timestamp if event else 0.0


def _targets(context: dg.AutomationContext[dg.AssetKey], made: Made) -> list[Target]:
    return [Target(context.key, partition) for partition in made.existing(context.key)]


def _subset(context: dg.AutomationContext[dg.AssetKey], targets: Sequence[Target]) -> EntitySubset[dg.AssetKey]:
    view = context.asset_graph_view
    keys = {AssetKeyPartitionKey(each.key, each.partition) for each in targets}
    found = view.get_asset_subset_from_asset_partitions(context.key, keys)
    return context.candidate_subset.compute_intersection(found)


_OUT_OF_DATE = OutOfDate()
KEPT_UP_TO_DATE = (
    _OUT_OF_DATE
    & ~dg.AutomationCondition.in_progress()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_match(_OUT_OF_DATE)
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
    & HadItsTime()
).with_label("kept up to date")
