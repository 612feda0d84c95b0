"""Sensors that look outward: new images in the inbox, new training data. Each asks for one asset, its only trigger.

A cursor holds what was seen, as JSON. Dagster stores it together with the runs to be launched before it launches
them, so a restart in between neither misses a run nor starts one twice; the run keys say so a second time.
Not here: what follows from a change (`assets/conditions.py`), nights that were missed (`healing.py`).
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import islice, takewhile
from typing import Any

import dagster as dg

from mnist_pipeline.assets import data
from mnist_pipeline.assets.conditions import patience
from mnist_pipeline.assets.prediction import digit_predictions
from mnist_pipeline.automation import TICK_S
from mnist_pipeline.changes import content_digest, listing, signature
from mnist_pipeline.resources import Mail, Models, Source

FILES_A_RUN, RUNS_A_TICK = 200, 5
RAW = data.raw_mnist_data.key
ASKED_FOR = "mnist_pipeline/training_data"  # tag of a run: which content, or "download"
DOWNLOAD = "download"
LOOKED_BACK = 50  # runs


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("digit_predictions"),
    minimum_interval_seconds=TICK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Predicts images as they arrive in the inbox. The night reads them again for its table.",
)
def new_images(context: dg.SensorEvaluationContext, mail: Mail, models: Models) -> dg.SensorResult | dg.SkipReason:
    """Asks once for every image that arrives; before a model is in production the images wait.

    The cursor holds a short hash of each file that was asked for and still waits, so it does not outgrow the inbox.
    """
    if models.open().production() is None:
        return dg.SkipReason("no model is in production yet: the images wait")
    arrivals = mail.open().arrivals()
    marks = {name: _digest(name, identity)[:12] for name, identity in arrivals.items()}
    asked = set(json.loads(context.cursor or "[]")) & set(marks.values())
    fresh = (name for name, mark in marks.items() if mark not in asked)
    chunks = [chunk for _ in range(RUNS_A_TICK) if (chunk := list(islice(fresh, FILES_A_RUN)))]
    requests = [_images_asked_for({name: arrivals[name] for name in chunk}) for chunk in chunks]
    asked |= {marks[name] for chunk in chunks for name in chunk}
    nothing = None if requests else dg.SkipReason(f"{len(arrivals):,} images wait for the night; none is new")
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(sorted(asked)), skip_reason=nothing)


def _images_asked_for(files: dict[str, str]) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=_digest(*files, *files.values()),
        asset_selection=[digit_predictions.key],
        run_config={"ops": {"digit_predictions": {"config": {"inbox_files": files}}}},
    )


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("raw_mnist_data"),
    minimum_interval_seconds=TICK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reads the training data again when its content, or what is to be read, has changed.",
)
def new_training_data(context: dg.SensorEvaluationContext, source: Source) -> dg.SensorResult | dg.SkipReason:
    """Asks for raw_mnist_data; whether anything follows is decided by the digest of what it then reads.

    The cursor: `seen`, the signature at the last tick; `signature` and `digest`, of what was asked for last; `count`,
    how often something was. Files whose signature differs from the last tick's are still being written, and wait. What
    a run failed to read is asked for again, after 10, 20, 40 … 240 minutes, as long as it is what there is.
    """
    cursor = json.loads(context.cursor or "{}")
    wanted = _digest(source.dataset, source.preparation, data.raw_mnist_data.code_versions_by_key[RAW] or "")
    if not source.directory or source.dataset == "embedded":
        return _without_directory(context, source, cursor)
    try:
        place = source.place()
        files = listing(place)
        now = _digest(wanted, signature(files))
        if now == cursor.get("signature"):
            return _again(context, cursor, cursor["digest"], f"nothing has changed in {source.directory}")
        if not files or now != cursor.get("seen"):
            waiting = json.dumps({**cursor, "seen": now})
            return dg.SensorResult(cursor=waiting, skip_reason=f"{len(files):,} files in {source.directory}: changing")
        digest = _digest(wanted, content_digest(place, files))
    except FileNotFoundError as error:
        return dg.SkipReason(f"a file went away while it was read: {error.filename}")
    known = {**cursor, "signature": now, "seen": now}
    if digest == cursor.get("digest"):
        return dg.SensorResult(cursor=json.dumps(known), skip_reason="other dates, the same content")
    return _ask_for_data(context, {**known, "digest": digest}, digest)


def _without_directory(
    context: dg.SensorEvaluationContext, source: Source, cursor: dict[str, Any]
) -> dg.SensorResult | dg.SkipReason:
    """Nothing to watch. Where there is no fallback, in prod, the first data is fetched without being asked for."""
    if source.allow_embedded:
        return dg.SkipReason("MNIST_DATA_DIR is not set: nothing to watch. Materialize raw_mnist_data by hand")
    if context.instance.get_latest_materialization_event(RAW):
        return _again(context, cursor, DOWNLOAD, "MNIST_DATA_DIR is not set: what is downloaded does not change")
    if not _runs_for(context.instance, DOWNLOAD):
        return _ask_for_data(context, cursor, DOWNLOAD)
    return _again(context, cursor, DOWNLOAD, "MNIST_DATA_DIR is not set: the download was asked for")


def _again(
    context: dg.SensorEvaluationContext, cursor: dict[str, Any], content: str, reason: str
) -> dg.SensorResult | dg.SkipReason:
    """The same content once more where its runs failed and had their time, else nothing, with the reason."""
    at = _again_at(context.instance, content)
    if at is None:
        return dg.SkipReason(reason)
    if datetime.now(timezone.utc) < at:
        return dg.SkipReason(f"{reason}; its run failed, and it is asked for again at {at:%H:%M} UTC")
    return _ask_for_data(context, cursor, content)


def _again_at(instance: dg.DagsterInstance, content: str) -> datetime | None:
    """When to ask again; None where the last run goes on, went well or was cancelled by a person, who knew why, and
    where it does not matter any more that it failed."""
    last = instance.get_latest_materialization_event(RAW)
    failed = list(takewhile(lambda run: _is_to_be_mended(instance, run, last), _runs_for(instance, content)))
    if not failed:
        return None
    return datetime.fromtimestamp(failed[0].end_time or 0.0, timezone.utc) + patience(len(failed))


def _runs_for(instance: dg.DagsterInstance, content: str) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(dg.RunsFilter(tags={ASKED_FOR: content[:16]}), limit=LOOKED_BACK)


def _is_to_be_mended(instance: dg.DagsterInstance, run: dg.RunRecord, last: dg.EventLogEntry | None) -> bool:
    """Whether a run failed, nobody has read the data since, and the run did not read it itself to be told by a check
    that it is bad."""
    if run.dagster_run.status != dg.DagsterRunStatus.FAILURE:
        return False
    if last is None or last.run_id != run.dagster_run.run_id:
        return last is None or last.timestamp < (run.end_time or 0.0)
    checked = instance.get_records_for_run(last.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return not checked.records


def _ask_for_data(context: dg.SensorEvaluationContext, cursor: dict[str, Any], content: str) -> dg.SensorResult:
    """The key holds a number and the last materialization: data that returns to what it was is asked for again."""
    last, count = context.instance.get_latest_materialization_event(RAW), cursor.get("count", 0) + 1
    key = f"{content[:16]}-{count}-after-{last.run_id[:8] if last else 'nothing'}"
    request = dg.RunRequest(run_key=key, asset_selection=[RAW], tags={ASKED_FOR: content[:16]})
    return dg.SensorResult(run_requests=[request], cursor=json.dumps({**cursor, "count": count}))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
