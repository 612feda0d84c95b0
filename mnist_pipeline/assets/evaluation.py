"""Measuring a version on validation and test, as a report bound to exactly that model and that data."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from mnist_pipeline.assets.checks import advisory, blocking, verdict
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.resources import Models, Pictures
from mnist_pipeline.retries import retrying

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
    digit_classifier: str, processed_mnist_data: DigitData, models: Models, pictures: Pictures
) -> dg.MaterializeResult[str]:
    """The report of the newest version; the value is the key of the report in the store."""
    from mnist_pipeline.ml.custom_metrics import METRICS
    from mnist_pipeline.ml.metrics import evaluate, scalars
    from mnist_pipeline.ml.predictor import Predictor

    store, names = models.open(), processed_mnist_data.origin.class_names
    predictor = Predictor.load(store.load(digit_classifier))
    parts = {
        part: evaluate(
            processed_mnist_data[part].labels,
            predictor.predict(processed_mnist_data[part].images).probabilities,
            names,
            METRICS,
        )
        for part in ("validation", "test")
    }
    report = {
        "version": digit_classifier,
        "model_digest": store.card(digit_classifier).digest,
        "data_digest": processed_mnist_data.digest(),
        "dataset": processed_mnist_data.origin.dataset,
        "source": processed_mnist_data.origin.source,
        **parts,
    }
    key = store.add_report(report)
    numbers = {f"{part}_{name}": value for part in parts for name, value in scalars(parts[part]).items()}
    return dg.MaterializeResult(
        value=key,
        data_version=dg.DataVersion(key),
        metadata={
            "version": digit_classifier,
            **_shown(parts["test"], processed_mnist_data["test"], names, pictures),
            "worst_class": parts["test"]["worst_class"]["name"],
            **dict(sorted(numbers.items())),
            "report": key,
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


def _shown(
    test: dict[str, Any], data: LabeledImages, names: tuple[str, ...], pictures: Pictures
) -> dict[str, dg.MetadataValue]:
    """The pictures of the test part, and its scores a class as a table."""
    from mnist_pipeline.ml import plots

    book, wrong = pictures.open(), test["mistakes"]
    sheet = plots.contact_sheet(
        data.images[[each["row"] for each in wrong]],
        [f"{each['truth']}→{each['predicted']} {each['confidence']:.0%}" for each in wrong],
        columns=9,
    )
    records = [
        dg.TableRecord({"class": name, **{score: round(value, 4) for score, value in scores.items()}})
        for name, scores in test["per_class"].items()
    ]
    return {
        "confusion": book.show("model_evaluation", "confusion", plots.confusion(test["confusion"], names)),
        "per_class": book.show("model_evaluation", "per_class", plots.per_class(test["per_class"])),
        "mistakes": book.show("model_evaluation", "mistakes", sheet),
        "scores": dg.MetadataValue.table(records),
    }
