"""Models of other architectures, trained to compete, and all versions that were measured on the same data side by side.

Nothing here is deployed: who wins is trained again by `digit_classifier` with its architecture, and decided on.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets import records
from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.assets.checks import verdict
from mnist_pipeline.assets.evaluation import model_evaluation, report_on
from mnist_pipeline.assets.launchpad import choice
from mnist_pipeline.assets.model import CODE, largest_difference, least_accuracy, store_version
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.config import Architecture, ModelConfig, rival
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Models, Pictures, Tracking
from mnist_pipeline.retries import PASSES_BY_ITSELF, retrying
from mnist_pipeline.storage.sealed import canonical, sha256
from mnist_pipeline.store import CorruptReport, CorruptVersion, ModelStore

Rival: Any = choice(Architecture, "Rival")
RIVALS = ["resnet", "vit", "tree", "forest", "logistic", "knn"]  # as text: Dagster keeps defaults as JSON
ALL_TRAINED = dg.AssetCheckSpec(
    "every_rival_was_trained", asset="rival_classifiers", description="none failed, and none answers otherwise as ONNX"
)


class RivalsConfig(dg.Config):
    """Who competes."""

    architectures: list[Rival] = Field(RIVALS, description="which are trained, each with its preset if it has one")
    settings: dict[str, Any] = Field(
        {}, description='fields of digit_classifier that all of them take over their own, e.g. {"epochs": 3, "seed": 1}'
    )


class LeaderboardConfig(dg.Config):
    """How many are compared."""

    most: int = Field(30, ge=1, description="versions at most: those with the best reports; each is run and timed")


class NotFit(dg.DagsterError):
    """What was trained must not compete."""


@dg.asset(
    group_name="competition",
    kinds={"pytorch", "scikitlearn"},
    code_version=CODE,
    dagster_type=dg.Any,  # which Dagster cannot tell of an asset with checks
    check_specs=[ALL_TRAINED],
    metadata=follows_only(),  # minutes of work: made when somebody asks for it
)
@retrying
def rival_classifiers(
    context: dg.AssetExecutionContext,
    config: RivalsConfig,
    processed_mnist_data: DigitData,
    models: Models,
    tracking: Tracking,
) -> dg.MaterializeResult:
    """Other architectures, each trained, stored as a version and measured; the value is version and report of each.

    One that fails takes no other along: its error is in the metadata, and the check fails.
    """
    store = models.open()
    made: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for each in _configurations(config):
        try:
            made[each.architecture] = _compete(context, store, each, processed_mnist_data)
        except PASSES_BY_ITSELF:
            raise
        except Exception as error:
            context.log.exception(f"{each.architecture} failed")
            failed[each.architecture] = f"{type(error).__name__}: {error}"
    with tracking.open(context) as tracker:
        records.rivals(tracker, made)
    return dg.MaterializeResult(
        value=made,
        data_version=dg.DataVersion(sha256(canonical({"rivals": made}))),
        metadata={
            **{f"{name}_version": rival["version"] for name, rival in made.items()},
            **{f"{name}_test_accuracy": rival["test_accuracy"] for name, rival in made.items()},
            "failed": dg.MetadataValue.json(failed),
            **records.page(tracker),
        },
        check_results=[verdict(ALL_TRAINED, not failed, "; ".join(failed.values()) or None, failed=sorted(failed))],
    )


@dg.asset(
    group_name="competition",
    kinds={"python", "matplotlib"},
    code_version=code_version(
        *("ml/leaderboard.py", "ml/leaderboard_pictures.py", "ml/paired.py", "ml/metrics.py", "ml/predictor.py"),
    ),
    deps=[rival_classifiers, model_evaluation],
    metadata=follows_only(),
)
@retrying
def leaderboard(
    config: LeaderboardConfig, processed_mnist_data: DigitData, models: Models, pictures: Pictures
) -> dg.MaterializeResult[dict[str, Any]]:
    """All versions with a report on the present data: accuracy with interval, size, speed, and who is behind the best.

    It tells and does not decide: the best of many on the same test images looks a little better than it is.
    """
    from mnist_pipeline.ml.leaderboard import ranked, sentence
    from mnist_pipeline.ml.leaderboard_pictures import standing

    store, data = models.open(), processed_mnist_data.digest()
    reported, left_out = _reported(store, data)
    entries = []
    for name in sorted(reported, key=lambda name: -reported[name])[: config.most]:
        try:
            entries.append(_entry(store, name, processed_mnist_data))
        except CorruptVersion as error:
            left_out[name] = str(error)
    rows = ranked(entries)
    return dg.MaterializeResult(
        value={"data": data, "test_images": len(processed_mnist_data["test"]), "rows": rows, "left_out": left_out},
        data_version=dg.DataVersion(sha256(canonical({"rows": [[row["version"], row["p"]] for row in rows]}))),
        metadata={
            "result": sentence(rows),
            "standing": pictures.open().show("leaderboard", "standing", standing(rows)),
            **({"versions": _table(rows)} if rows else {}),
            "left_out": dg.MetadataValue.json(left_out),
        },
    )


def _configurations(config: RivalsConfig) -> list[ModelConfig]:
    """All of them before anything is trained. Raises pydantic.ValidationError."""
    return [rival(Rival(each).value, **config.settings) for each in dict.fromkeys(config.architectures)]


def _compete(
    context: dg.AssetExecutionContext, store: ModelStore, config: ModelConfig, data: DigitData
) -> dict[str, Any]:
    """As digit_classifier and model_evaluation do it: a version and its report."""
    from mnist_pipeline.ml.learning import learn
    from mnist_pipeline.ml.predictor import TOLERANCE

    def told(epoch: Any) -> None:
        context.log.info(f"{config.architecture}: {epoch.line()}")

    trained = learn(data["train"], data["validation"], len(data.origin.class_names), config, told)
    card = store_version(store, trained, data, context.run.run_id)
    if (off := largest_difference(store, card.name, data)) > TOLERANCE:
        raise NotFit(f"{card.name}: its ONNX graph is off by {off:.2g} from what was trained")
    if (accuracy := card.metrics["validation_accuracy"]) <= (least := least_accuracy(card)):
        raise NotFit(f"{card.name} has learned nothing: validation accuracy {accuracy:.2%}, at least {least:.2%}")
    report = report_on(store, card.name, data)
    return {
        "version": card.name,
        "report": store.add_report(report),
        "test_accuracy": report["test"]["accuracy"],
    }


def _reported(store: ModelStore, data_digest: str) -> tuple[dict[str, float], dict[str, str]]:
    """Version -> test accuracy of those with a report on this data, and why others with a report were left out."""
    found: dict[str, float] = {}
    damaged: dict[str, str] = {}
    for version in store.versions():
        for key in store.reports(version):
            try:
                report = store.report(key)
            except CorruptReport as error:
                damaged[version] = str(error)
                continue
            if report["data_digest"] == data_digest:
                found[version] = report["test"]["accuracy"]
    return found, {version: why for version, why in damaged.items() if version not in found}


def _entry(store: ModelStore, version: str, data: DigitData) -> Any:
    """A version, run and timed on the test part. Raises CorruptVersion."""
    from mnist_pipeline.ml.leaderboard import Entry, speed_of
    from mnist_pipeline.ml.predictor import ONNX, Predictor, WrongAnswers

    card, files, test = store.card(version), store.load(version), data["test"]
    try:
        predictor = Predictor.load(files, threads=1)
    except WrongAnswers as error:
        raise CorruptVersion(f"{version}: {error}") from error
    return Entry(
        version=version,
        architecture=card.config.get("architecture", "cnn"),  # versions from when there was nothing else
        right=predictor.predict(test.images).labels == test.labels,
        bytes=len(files[ONNX]),
        training_seconds=card.metrics.get("training_seconds"),
        speed=speed_of(predictor, test.images),
    )


def _table(rows: list[dict[str, Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord(_said(row)) for row in rows])


def _said(row: Mapping[str, Any]) -> dict[str, str | int | float]:
    seconds = row["training_seconds"]
    return {
        "place": row["place"],
        "version": row["version"],
        "architecture": row["architecture"],
        "accuracy": f"{row['accuracy']:.2%}",
        "95 %": f"{row['low']:.2%} to {row['high']:.2%}",
        "against the best": _against(row),
        "model.onnx": f"{row['bytes'] / 1e6:.2f} MB",
        "training": "unknown" if seconds is None else f"{seconds:,.1f} s",
        "one image": f"{row['latency_ms']:.3f} ms",
        "images/s": round(row["images_per_second"]),
    }


def _against(row: Mapping[str, Any]) -> str:
    if row["place"] == 1:
        return "the best"
    return f"{'behind' if row['behind'] else 'within noise'} (p = {row['p']:.3f})"
