"""Measuring a version on validation and test, as a report bound to exactly that model and that data."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from mnist_pipeline.assets import records
from mnist_pipeline.assets.checks import advisory, blocking, verdict
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.resources import Models, Pictures, Tracking
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import ModelStore

if TYPE_CHECKING:
    import numpy as np

GAP_ALLOWED = 0.02  # validation accuracy above test accuracy by more than this looks like a leak or a shift
WORST_CLASS_F1 = 0.9
MEASURED_BY = (
    *("ml/report.py", "ml/metrics.py", "ml/custom_metrics.py", "ml/predictor.py"),
    *("ml/calibration.py", "ml/conformal.py", "ml/corruptions.py"),
)


@dg.asset(
    group_name="evaluation",
    kinds={"scikitlearn"},
    code_version=code_version(*MEASURED_BY),
    automation_condition=KEPT_UP_TO_DATE,
)
@retrying
def model_evaluation(
    context: dg.AssetExecutionContext,
    digit_classifier: str,
    processed_mnist_data: DigitData,
    models: Models,
    pictures: Pictures,
    tracking: Tracking,
) -> dg.MaterializeResult[str]:
    """The report of the newest version; the value is the key of the report in the store."""
    from mnist_pipeline.ml.metrics import scalars
    from mnist_pipeline.ml.report import coverage_told

    store, names = models.open(), processed_mnist_data.origin.class_names
    report = report_on(store, digit_classifier, processed_mnist_data)
    key, parts = store.add_report(report), ("validation", "test")
    numbers = {f"{part}_{name}": value for part in parts for name, value in scalars(report[part]).items()}
    images = _drawn(report, processed_mnist_data, names)
    with tracking.open(context) as tracker:
        records.evaluated(tracker, digit_classifier, numbers, images)
    return dg.MaterializeResult(
        value=key,
        data_version=dg.DataVersion(key),
        metadata={
            "version": digit_classifier,
            **{name: pictures.open().show("model_evaluation", name, png) for name, png in images.items()},
            "scores": _scores({part: report[part] for part in parts}),
            "prediction_sets": coverage_told(report["test"]),
            "corruptions": _corruptions(report["corruptions"]),
            "worst_class": report["test"]["worst_class"]["name"],
            "worst_class_of_validation": report["validation"]["worst_class"]["name"],
            "worst_slice": report["test"]["worst_slice"],
            **dict(sorted(numbers.items())),
            "report": key,
            **records.page(tracker),
        },
    )


REPORT_IS_OF_THIS_MODEL = blocking(
    model_evaluation,
    "report_is_of_this_model",
    "model and data digests",
    also=["digit_classifier", "processed_mnist_data"],
)
VALIDATION_PREDICTS_TEST = advisory(model_evaluation, "validation_predicts_test", "accuracies close to each other")
NO_CLASS_IS_LEFT_BEHIND = advisory(model_evaluation, "no_class_is_left_behind", "F1 of the worst class")


@dg.multi_asset_check(specs=[REPORT_IS_OF_THIS_MODEL, VALIDATION_PREDICTS_TEST, NO_CLASS_IS_LEFT_BEHIND])
@retrying
def evaluation_checks(
    model_evaluation: str, digit_classifier: str, processed_mnist_data: DigitData, models: Models
) -> Iterable[dg.AssetCheckResult]:
    """Whether the report is the evidence that it claims to be, and whether it hides a weakness."""
    from mnist_pipeline.ml.gate import WrongEvidence, check_evidence

    store = models.open()
    report, fault = store.report(model_evaluation), None
    try:
        check_evidence(report, store.card(digit_classifier).digest, processed_mnist_data.digest())
    except WrongEvidence as error:
        fault = str(error)
    yield verdict(REPORT_IS_OF_THIS_MODEL, fault is None, fault)
    gap = report["validation"]["accuracy"] - report["test"]["accuracy"]
    yield verdict(VALIDATION_PREDICTS_TEST, gap <= GAP_ALLOWED, gap=gap, allowed=GAP_ALLOWED)
    worst = report["test"]["worst_class"]
    yield verdict(NO_CLASS_IS_LEFT_BEHIND, worst["f1"] >= WORST_CLASS_F1, worst=worst["name"], f1=worst["f1"])


def report_on(store: ModelStore, version: str, data: DigitData) -> dict[str, Any]:
    """What is measured of a stored version on validation and test, and under corruptions; nothing is stored here.

    Raises MetricFailed, WrongAnswers, and what the store raises.
    """
    from mnist_pipeline.ml.custom_metrics import METRICS
    from mnist_pipeline.ml.predictor import Predictor
    from mnist_pipeline.ml.report import measure

    card, predictor = store.card(version), Predictor.load(store.load(version))
    temperature = card.metrics.get("temperature", 1.0)  # a version may be older than temperatures
    return {
        "version": version,
        "model_digest": card.digest,
        "data_digest": data.digest(),
        "dataset": data.origin.dataset,
        "source": data.origin.source,
        **measure(predictor, data, METRICS, temperature),
    }


def _drawn(report: dict[str, Any], data: DigitData, names: tuple[str, ...]) -> dict[str, bytes]:
    """The pictures as PNG: answers and mistakes of both parts, of the others those of the test part."""
    from mnist_pipeline.ml import evidence_pictures, plots

    test, parts = report["test"], ("validation", "test")
    return {
        "confusion": plots.confusion({part: report[part]["confusion"] for part in parts}, names),
        "per_class": plots.per_class(test["per_class"]),
        "mistakes": plots.contact_sheets(dict(_mistakes(part, report[part], data[part]) for part in parts), columns=9),
        "reliability": evidence_pictures.reliability(
            {
                "before": (test["calibration_error_before"], test["reliability"]["before"]),
                "after": (test["calibration_error"], test["reliability"]["after"]),
            }
        ),
        "robustness": evidence_pictures.robustness(report["corruptions"]["accuracy"]),
    }


def _mistakes(part: str, measured: dict[str, Any], data: LabeledImages) -> "tuple[str, tuple[np.ndarray, list[str]]]":
    """Title, images and captions of the sheet of a part; the title says how many mistakes there are in all."""
    shown = measured["mistakes"]
    wrong = round((1 - measured["accuracy"]) * measured["images"])
    most = f", the {len(shown)} most confident" if len(shown) < wrong else ""
    captions = [f"{each['truth']}→{each['predicted']} {each['confidence']:.0%}" for each in shown]
    title = f"{part}: {wrong:,} mistakes in {measured['images']:,} images{most}"
    return title, (data.images[[each["row"] for each in shown]], captions)


def _scores(parts: dict[str, dict[str, Any]]) -> dg.TableMetadataValue:
    """The scores of each part, a class a row."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"part": part, "class": name, **{score: round(value, 4) for score, value in scores.items()}})
            for part, measured in parts.items()
            for name, scores in measured["per_class"].items()
        ]
    )


def _corruptions(card: dict[str, Any]) -> dg.TableMetadataValue:
    """The corruption card: a corruption a row, the accuracy at each severity with what it means."""
    from mnist_pipeline.ml.corruptions import CORRUPTIONS

    rows = []
    for name, (plain, *shares) in card["accuracy"].items():
        kind = CORRUPTIONS[name]
        worse = {
            f"severity {i + 1}": f"{share:.1%} ({amount:g} {kind.unit})"
            for i, (share, amount) in enumerate(zip(shares, kind.amounts, strict=True))
        }
        rows.append(dg.TableRecord({"corruption": name, "as it is": f"{plain:.1%}", **worse}))
    return dg.MetadataValue.table(rows)
