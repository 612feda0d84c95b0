"""Sensors that look outward: new images in the inbox, new training data. Each asks for one asset, its only trigger.

A cursor holds what was seen, as JSON. Dagster stores it together with the runs to be launched before it launches
them, so a restart in between neither misses a run nor starts one twice; the run keys say so a second time.
Not here: what follows from a change (`assets/conditions.py`), nights that were missed (`healing.py`).
"""

import hashlib
import json
import time
from itertools import islice
from typing import Any

import dagster as dg

from mnist_pipeline.assets import data
from mnist_pipeline.assets.prediction import digit_predictions
from mnist_pipeline.automation import TICK_S
from mnist_pipeline.changes import content_digest, listing, signature
from mnist_pipeline.resources import Mail, Models, Source

FILES_A_RUN, RUNS_A_TICK = 200, 5
RAW = data.raw_mnist_data.key
ASK_AGAIN_S = 6 * 60 * 60  # for data that was never had: the runs that failed have told somebody


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
    how often something was. Files whose signature differs from the last tick's are still being written, and wait.
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
            return dg.SkipReason(f"nothing has changed in {source.directory}")
        if not files or now != cursor.get("seen"):
            waiting = json.dumps({**cursor, "seen": now})
            return dg.SensorResult(cursor=waiting, skip_reason=f"{len(files):,} files in {source.directory}: changing")
        digest = _digest(wanted, content_digest(place, files))
    except FileNotFoundError as error:
        return dg.SkipReason(f"a file went away while it was read: {error.filename}")
    known = {**cursor, "signature": now, "seen": now}
    if digest == cursor.get("digest"):
        return dg.SensorResult(cursor=json.dumps(known), skip_reason="other dates, the same content")
    return _ask_for_data(context, {**known, "digest": digest}, digest[:16])


def _without_directory(
    context: dg.SensorEvaluationContext, source: Source, cursor: dict[str, Any]
) -> dg.SensorResult | dg.SkipReason:
    """Nothing to watch. Where there is no fallback, in prod, the first data is fetched without being asked for."""
    if source.allow_embedded:
        return dg.SkipReason("MNIST_DATA_DIR is not set: nothing to watch. Materialize raw_mnist_data by hand")
    if context.instance.get_latest_materialization_event(RAW):
        return dg.SkipReason("MNIST_DATA_DIR is not set: what is downloaded does not change")
    if time.time() < cursor.get("asked_at", 0.0) + ASK_AGAIN_S:
        return dg.SkipReason("MNIST_DATA_DIR is not set: the download was asked for, and is asked for again in 6 hours")
    return _ask_for_data(context, {**cursor, "asked_at": time.time()}, "download")


def _ask_for_data(context: dg.SensorEvaluationContext, cursor: dict[str, Any], content: str) -> dg.SensorResult:
    """The key holds a number and the last materialization: data that returns to what it was is asked for again."""
    last, count = context.instance.get_latest_materialization_event(RAW), cursor.get("count", 0) + 1
    key = f"{content}-{count}-after-{last.run_id[:8] if last else 'nothing'}"
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=key, asset_selection=[RAW])], cursor=json.dumps({**cursor, "count": count})
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
