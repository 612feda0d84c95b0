"""Measuring a version on validation and test, as a report bound to exactly that model and that data."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from mnist_pipeline.assets import records
from mnist_pipeline.assets.checks import advisory, blocking, verdict
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.resources import Models, Pictures, Tracking
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import ModelStore

GAP_ALLOWED = 0.02  # validation accuracy above test accuracy by more than this looks like a leak or a shift
WORST_CLASS_F1 = 0.9


@dg.asset(
    group_name="evaluation",
    kinds={"scikitlearn"},
    code_version=code_version("ml/metrics.py", "ml/custom_metrics.py", "ml/predictor.py"),
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

    store, names = models.open(), processed_mnist_data.origin.class_names
    report = report_on(store, digit_classifier, processed_mnist_data)
    key, parts = store.add_report(report), {part: report[part] for part in ("validation", "test")}
    numbers = {f"{part}_{name}": value for part in parts for name, value in scalars(parts[part]).items()}
    images = _drawn(parts["test"], processed_mnist_data["test"], names)
    with tracking.open(context) as tracker:
        records.evaluated(tracker, digit_classifier, numbers, images)
    return dg.MaterializeResult(
        value=key,
        data_version=dg.DataVersion(key),
        metadata={
            "version": digit_classifier,
            **{name: pictures.open().show("model_evaluation", name, png) for name, png in images.items()},
            "scores": _scores(parts["test"]),
            "worst_class": parts["test"]["worst_class"]["name"],
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
    """What is measured of a stored version on validation and test; nothing is stored here.

    Raises MetricFailed, WrongAnswers, and what the store raises.
    """
    from mnist_pipeline.ml.custom_metrics import METRICS
    from mnist_pipeline.ml.metrics import evaluate
    from mnist_pipeline.ml.predictor import Predictor

    predictor = Predictor.load(store.load(version))
    parts = {
        part: evaluate(
            data[part].labels, predictor.predict(data[part].images).probabilities, data.origin.class_names, METRICS
        )
        for part in ("validation", "test")
    }
    return {
        "version": version,
        "model_digest": store.card(version).digest,
        "data_digest": data.digest(),
        "dataset": data.origin.dataset,
        "source": data.origin.source,
        **parts,
    }


def _drawn(test: dict[str, Any], data: LabeledImages, names: tuple[str, ...]) -> dict[str, bytes]:
    """The pictures of the test part, as PNG."""
    from mnist_pipeline.ml import plots

    wrong = test["mistakes"]
    sheet = plots.contact_sheet(
        data.images[[each["row"] for each in wrong]],
        [f"{each['truth']}→{each['predicted']} {each['confidence']:.0%}" for each in wrong],
        columns=9,
    )
    return {
        "confusion": plots.confusion(test["confusion"], names),
        "per_class": plots.per_class(test["per_class"]),
        "mistakes": sheet,
    }


def _scores(test: dict[str, Any]) -> dg.TableMetadataValue:
    """The scores of the test part, a class a row."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"class": name, **{score: round(value, 4) for score, value in scores.items()}})
            for name, scores in test["per_class"].items()
        ]
    )
