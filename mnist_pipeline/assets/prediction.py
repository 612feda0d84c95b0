"""Predicting with what is in production: a night's inbox, and single images."""

import base64
import math
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets import records
from mnist_pipeline.assets.attempts import still_to_come
from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.inbox.work import MODULES
from mnist_pipeline.ml.digits import DigitData, preparation_named
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import Mail, Models, Pictures, Scoring, Tracking
from mnist_pipeline.retries import retrying

if TYPE_CHECKING:
    import numpy as np

    from mnist_pipeline.inbox.mailbox import Mailbox
    from mnist_pipeline.inbox.tables import Tally
    from mnist_pipeline.production import Production

CODE = code_version(*MODULES, "inbox/tables.py")
FIRST_NIGHT = "2026-01-01"
SHOWN, ON_SHEET = 10, 120  # images with a bar for each class, and how many more as a contact sheet


class Unpredictable(dg.DagsterError):
    """Images that were asked for cannot be read; every one of them is named."""


class PredictionConfig(dg.Config):
    """Which images to predict. Without any, ten images of the test set."""

    paths: list[str] = Field([], description="image files")
    images: list[str] = Field([], description="image files as base64")
    inbox_files: dict[str, str] = Field(
        {}, description="set by the sensor new_images: files of the inbox and how they were; a bad one fails nothing"
    )

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return not (self.paths or self.images or self.inbox_files)


class NightConfig(dg.Config):
    """What a night's table is to say where the model is not sure."""

    abstain: bool = Field(False, description="no label where the prediction set has several classes; batch only")


def nightly_predictions(nightly: NightlyRun) -> dg.AssetsDefinition:
    """The asset for the nights of one time zone, which are predicted at one time of day."""

    @dg.asset(
        group_name="prediction",
        kinds={"parquet"},
        deps=["production_digit_classifier"],
        partitions_def=dg.DailyPartitionsDefinition(FIRST_NIGHT, timezone=nightly.timezone, end_offset=1),
        freshness_policy=dg.FreshnessPolicy.cron(nightly.deadline, timedelta(hours=1), nightly.timezone),
        code_version=CODE,
        metadata=follows_only(),  # an answer stays what it was
    )
    @retrying
    def batch_digit_predictions(
        context: dg.AssetExecutionContext,
        config: NightConfig,
        models: Models,
        mail: Mail,
        tracking: Tracking,
        engine: Scoring,
    ) -> dg.MaterializeResult[None]:
        """The inbox of a night as one Parquet file of predictions, and one of what could not be read."""
        return _predict_night(context, nightly, config, models, mail, tracking, engine)

    return batch_digit_predictions


def _predict_night(
    context: dg.AssetExecutionContext,
    nightly: NightlyRun,
    config: NightConfig,
    models: Models,
    mail: Mail,
    tracking: Tracking,
    engine: Scoring,
) -> dg.MaterializeResult[None]:
    from mnist_pipeline.inbox.night import predict
    from mnist_pipeline.inbox.scoring import schema_of
    from mnist_pipeline.inbox.tables import Names
    from mnist_pipeline.production import load_production

    night, production = context.partition_key, load_production(models.open())
    inbox, shelf, names = mail.open(), mail.answers(), Names.of(context.partition_key)
    files = _claimed(context.instance, nightly, night, inbox)
    work = mail.work(night, models.stored(production, abstain=config.abstain))
    tally = predict(work, files, schema_of(production.card.class_names), engine.open())
    with tracking.open(context) as tracker:
        records.predicted(tracker, night, len(files), tally, _answered_by(production))
    found = f"{tally.predictions:,} predictions, {tally.quarantined:,} quarantined"
    if tally.found:
        context.log.info(f"{night}: {tally.found:,} of {tally.shards:,} shards were scored by an earlier run")
    context.log.info(
        f"{night}: {found} of {len(files):,} files, by {production.card.name}"
        if files
        else f"{night}: nothing in the inbox {inbox.where()} was for it, so the table is empty"
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(tally.sha256),
        metadata={
            **_answered_by(production),
            "files": len(files),
            "predictions": tally.predictions,
            "quarantined": tally.quarantined,
            "uncertain": tally.uncertain,
            "shards": tally.shards,
            "manifest": dg.MetadataValue.path(shelf.where(names.manifest)),
            "manifest_digest": tally.manifest,
            "empty_inbox": not files,
            "still_waiting": len(inbox.waiting()),
            "table": dg.MetadataValue.path(shelf.where(names.predictions)),
            "quarantine": dg.MetadataValue.path(shelf.where(names.quarantine)),
            "inbox": dg.MetadataValue.path(inbox.where()),
            **_summary(tally),
            **records.page(tracker),
        },
    )


def _claimed(instance: dg.DagsterInstance, nightly: NightlyRun, night: str, inbox: "Mailbox") -> list[str]:
    """The files of a night: what came before its day ended, but for what earlier nights are still to take.

    A night that is not over was asked for by a person, who wants to see everything that waits.
    """
    from mnist_pipeline.inbox.mailbox import Span

    now, end = datetime.now(timezone.utc), nightly.end(night)
    over = now >= end
    earlier = still_to_come(instance, nightly, night, now) if over else []
    begin = nightly.end(earlier[-1]).timestamp() if earlier else -math.inf
    return inbox.claim(night, over=over, span=Span(begin, end.timestamp()))


@dg.asset(
    group_name="prediction",
    kinds={"python"},
    deps=["production_digit_classifier"],
    code_version=CODE,
    metadata=follows_only(),  # an answer stays what it was
)
@retrying
def digit_predictions(
    config: PredictionConfig, processed_mnist_data: DigitData, models: Models, pictures: Pictures, mail: Mail
) -> dg.MaterializeResult[list[dict[str, Any]]]:
    """Single images through the same front door and the same predictor as the nightly batch."""
    import numpy as np

    from mnist_pipeline.ml.answers import answer_of, with_set
    from mnist_pipeline.production import load_production

    production = load_production(models.open())
    names = tuple(production.card.class_names)
    faults: dict[str, str] = {}
    if not config.empty:
        given = _read(config, production)
        arrived, faults = _arrived(config, production, mail)
        given |= arrived
    else:
        given = {f"test image {i}": image for i, image in enumerate(processed_mnist_data["test"].images[:SHOWN])}
    seen = {name: image for name, image in given.items() if image is not None}
    pixels = np.stack(list(seen.values())) if seen else np.zeros((0, 28, 28), np.uint8)
    found = production.predictor.predict(pixels)
    answers = dict(zip(seen, found.probabilities.tolist(), strict=True))
    sets = production.predictor.sets
    possible = {name: sets.of(row, names) for name, row in answers.items()}
    rows = [{"image": name, **with_set(answer_of(answers.get(name), names), possible.get(name))} for name in given]
    rows += [{"image": name, **with_set(answer_of(None, names), None), "reason": faults[name]} for name in faults]
    return dg.MaterializeResult(
        value=[{**row, **_answered_by(production)} for row in rows],
        metadata={
            **_answered_by(production),
            "predictions": len(rows),
            "unreadable": len(faults),
            "source": "first images of the test set" if config.empty else "run configuration",
            "answers": dg.MetadataValue.table(
                [
                    dg.TableRecord(
                        {
                            "image": r["image"],
                            "label": r["label"] or r.get("reason", "no digit"),
                            "confidence": r["confidence"] or 0.0,
                        }
                    )
                    for r in rows
                ]
            ),
            **_drawn(pictures, pixels, found.probabilities, names),
        },
    )


def _drawn(
    pictures: Pictures, pixels: "np.ndarray", probabilities: "np.ndarray", names: tuple[str, ...]
) -> dict[str, Any]:
    """Pictures of what the network saw: the first images with a bar for each class, more as a sheet, and how many that
    is of all. pixels: uint8 [N, 28, 28]; probabilities: float32 [N, classes]."""
    from mnist_pipeline.ml import plots

    book, drawn = pictures.open(), min(len(pixels), SHOWN + ON_SHEET)
    first = plots.answers(pixels[:SHOWN], probabilities[:SHOWN], names)
    shown: dict[str, Any] = {"what_the_network_saw": book.show("digit_predictions", "answers", first)}
    if drawn > SHOWN:
        captions = [f"{names[row.argmax()]} {row.max():.0%}" for row in probabilities[SHOWN:drawn]]
        sheet = plots.contact_sheet(pixels[SHOWN:drawn], captions)
        shown["what_it_saw_further"] = book.show("digit_predictions", "more_answers", sheet)
    return {**shown, "drawn": f"{drawn:,} of {len(pixels):,} images"}


def _read(config: PredictionConfig, production: "Production") -> "dict[str, np.ndarray | None]":
    """Name -> what the network will see, None where there is no digit. Raises Unpredictable listing every fault."""
    from mnist_pipeline.ml.images import UnreadableImage, read_image

    preparation = preparation_named(production.card.preparation)
    seen: dict[str, np.ndarray | None] = {}
    faults = []
    for name, fetch in _sources(config).items():
        try:
            seen[name] = read_image(fetch(), preparation)
        except (UnreadableImage, OSError, ValueError, RuntimeError) as error:  # of base64, a path, somebody's home
            faults.append(f"{name}: {error}")
    if faults:
        raise Unpredictable("these images cannot be predicted:\n" + "\n".join(faults))
    return seen


def _arrived(
    config: PredictionConfig, production: "Production", mail: Mail
) -> "tuple[dict[str, np.ndarray | None], dict[str, str]]":
    """What the network will see of files that came by themselves, and why the others cannot be read.

    Nobody waits for this run, so one bad file must not take the answers of the others with it.
    """
    from mnist_pipeline.ml.images import UnreadableImage, read_image

    inbox, preparation = mail.open(), preparation_named(production.card.preparation)
    seen: dict[str, np.ndarray | None] = {}
    faults = {}
    for name, identity in config.inbox_files.items():
        try:
            seen[name] = read_image(inbox.fetch(name, identity), preparation)
        except UnreadableImage as error:
            faults[name] = str(error)
        except FileNotFoundError:
            faults[name] = "changed or taken back before it was read; a changed file is asked for again"
    return seen, faults


def _sources(config: PredictionConfig) -> dict[str, Any]:
    paths = {path: (lambda path=path: Path(path).expanduser().read_bytes()) for path in config.paths}
    encoded = {
        f"image {i + 1}": (lambda text=text: base64.b64decode(text, validate=True))
        for i, text in enumerate(config.images)
    }
    return {**paths, **encoded}


def _answered_by(production: "Production") -> dict[str, Any]:
    return {"model_version": production.card.name, "decision": production.decision.number}


def _summary(tally: "Tally") -> dict[str, Any]:
    mean, reasons = tally.mean_confidence, tally.reasons
    return {
        "labels": dg.MetadataValue.json(dict(sorted(tally.labels.items()))),
        **({"mean_confidence": mean} if mean is not None else {}),
        **({"quarantine_reasons": dg.MetadataValue.json(reasons)} if reasons else {}),
    }
