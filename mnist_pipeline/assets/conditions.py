"""When an asset is made again by itself: when what it was made from, or by, is no longer what there is now.

The ready-made conditions compare one tick with the tick before. That loses data that changes while a training runs
(its end counts as handling the change), code that changes while the daemon is down, and everything on a first tick.
What an asset was made from stands in its latest materialization, so this one looks there, and has nothing to lose.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg

FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(hours=4)
LOOKED_BACK = 50  # runs of the asset
ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Follows:
    """What an asset is made again for. Other inputs are read as they are, and change nothing by themselves."""

    changes_of: tuple[str, ...]
    own_code: bool = True


# A rollback must not be undone because code has changed: a deployment follows new evidence and nothing else.
FOLLOWS = {
    dg.AssetKey("processed_mnist_data"): Follows(("raw_mnist_data",)),
    dg.AssetKey("digit_classifier"): Follows(("processed_mnist_data",)),
    dg.AssetKey("model_evaluation"): Follows(("digit_classifier", "processed_mnist_data")),
    dg.AssetKey("production_digit_classifier"): Follows(("model_evaluation",), own_code=False),
}


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
        code = view.asset_graph.get(context.key).code_version
        return _result(context, out_of_date(view.instance, context.key, code))


class HadItsTime(dg.AutomationCondition[dg.AssetKey]):
    """The last runs did not fail, or failed long enough ago, or what it is made from is newer than they are."""

    @property
    def description(self) -> str:
        """For the UI."""
        return "not failed lately: 10 minutes after a failure it is tried again, then 20, 40 … 240; cancelled: not"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """By the runs since the newest of its inputs."""
        if context.candidate_subset.is_empty:  # nothing to be made: no need to look at any run
            return _result(context, False)
        instance = context.asset_graph_view.instance
        return _result(context, context.evaluation_time >= try_again_at(instance, context.key))


def out_of_date(instance: dg.DagsterInstance, key: dg.AssetKey, code: str | None) -> bool:
    """Whether an asset that follows others has to be made again; an asset that follows none never has to."""
    follows = FOLLOWS.get(key)
    if follows is None:
        return False
    made = _tags(instance, key)
    if not made or (follows.own_code and made.get("dagster/code_version") != code):
        return True
    return any(
        _tags(instance, dg.AssetKey(name)).get("dagster/data_version") != made.get(f"dagster/input_data_version/{name}")
        for name in follows.changes_of
    )


def try_again_at(instance: dg.DagsterInstance, key: dg.AssetKey) -> datetime:
    """When the next attempt is allowed: the beginning of time where nothing speaks against one."""
    ended = list(_ended_badly(instance, key))
    if not ended:
        return datetime.min.replace(tzinfo=timezone.utc)
    newest = ended[0]
    if newest.dagster_run.status == dg.DagsterRunStatus.CANCELED:  # by a person, who knew why
        return datetime.max.replace(tzinfo=timezone.utc)
    return datetime.fromtimestamp(newest.end_time or 0.0, timezone.utc) + patience(len(ended))


def _ended_badly(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.RunRecord]:
    """Runs, newest first, that were to make this asset from what there is now, and have not."""
    newest = max(_made_at(instance, each) for each in (key, *map(dg.AssetKey, FOLLOWS[key].changes_of)))
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


def _tags(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, str]:
    event = instance.get_latest_materialization_event(key)
    made = event.asset_materialization if event else None
    return (made.tags if made else None) or {}


def _result(context: dg.AutomationContext[dg.AssetKey], true: bool) -> dg.AutomationResult[dg.AssetKey]:
    subset = context.candidate_subset if true else context.get_empty_subset()
    return dg.AutomationResult(context, subset)


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
