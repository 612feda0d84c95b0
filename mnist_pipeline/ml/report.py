"""What an evaluation report says of a version, from its predictor and the labelled parts. How each number is found is
in `metrics`, `calibration`, `conformal` and `corruptions`; binding the report to model and data is its asset's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_pipeline.ml.corruptions import card
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.metrics import Metric, evaluate
from mnist_pipeline.ml.predictor import Predictor


def measure(predictor: Predictor, data: DigitData, metrics: Sequence[Metric], temperature: float) -> dict[str, Any]:
    """The parts `validation` and `test`, and `corruptions`, ready for JSON. Raises MetricFailed.

    temperature: what the version's logits were divided by. The sets were calibrated on validation, so only of test is
    their coverage told.
    """
    names, test = data.origin.class_names, data["test"]
    probabilities = {part: predictor.predict(data[part].images).probabilities for part in ("validation", "test")}
    corruptions = card(test.images, test.labels, lambda images: predictor.predict(images).labels)
    of_test = {
        **predictor.sets.measured(test.labels, probabilities["test"]),
        "worst_slice": f"{corruptions['worst_slice']['name']}, severity {corruptions['worst_slice']['severity']}",
        "worst_slice_accuracy": corruptions["worst_slice"]["accuracy"],
    }
    return {
        "validation": evaluate(
            data["validation"].labels, probabilities["validation"], names, metrics, temperature=temperature
        ),
        "test": evaluate(test.labels, probabilities["test"], names, metrics, temperature=temperature, more=of_test),
        "corruptions": corruptions,
    }


def coverage_told(test: Mapping[str, Any]) -> str:
    """Of the part `test`, for people: which sets cover how much, and of which images."""
    if "coverage_shown" not in test:
        return "this version has no prediction sets"
    interval = f"{test['coverage_low']:.2%} to {test['coverage_high']:.2%}"
    return (
        f"{test['coverage_asked']:.4g} was asked for. Of {test['images']:,} test images, which calibrated nothing, the "
        f"sets as given hold the truth in {test['coverage_shown']:.2%}, with {test['mean_set_size']:.2f} classes on "
        f"average; as calibrated, where a set may be empty, in {test['coverage']:.2%} ({interval})"
    )
