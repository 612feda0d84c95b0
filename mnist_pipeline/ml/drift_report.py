"""A day's drift as one plain value with a sentence for whoever has to act, and what of it is an alarm.

Not here: how drift is found (`drift.py`), pictures (`drift_pictures.py`), where the images came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_pipeline.ml.drift import CLASSES, Comparison, Statistic

SEVERITY = ("empty", "no reference", "too few", "none", "drift", "strong")  # the worst last
NAMED = 3  # statistics in the sentence


def report(day: str, what: str, comparisons: Mapping[str, Comparison], class_names: Sequence[str]) -> dict[str, Any]:
    """Ready for JSON. what: the asset that it is of. comparisons: by version; none on an empty day."""
    version = worst(comparisons)
    verdict = comparisons[version].verdict if version else "empty"
    return {
        "day": day,
        "what": what,
        "verdict": verdict,
        "sentence": _sentence(day, what, comparisons, version),
        "version": version,
        "class_names": list(class_names),
        "images": sum(each.images for each in comparisons.values()),
        "comparisons": {name: each.as_json() for name, each in comparisons.items()},
    }


def worst(comparisons: Mapping[str, Comparison]) -> str:
    """The version whose images are least like they were; of equal verdicts that with the most images; "" for none."""

    def badness(name: str) -> tuple[int, int]:
        return SEVERITY.index(comparisons[name].verdict), comparisons[name].images

    return max(sorted(comparisons), key=badness, default="")


def accuracy_of(made: Mapping[str, Any]) -> dict[str, Any] | None:
    """The estimate in a report, of the version that it speaks of; None where there is none."""
    comparison = made["comparisons"].get(made["version"]) or {}
    estimate: dict[str, Any] | None = comparison.get("accuracy")
    return estimate


def least_accuracy_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """Of all versions that answered, the estimate whose upper end is lowest, with the version; {} where there is none.

    Also one that is not to be trusted: far from what is known a network is too sure, so its estimate is too high.
    """
    found = {name: each["accuracy"] for name, each in made["comparisons"].items() if each.get("accuracy")}
    if not found:
        return {}
    version = min(sorted(found), key=lambda name: found[name]["high"])
    return {"model_version": version, **found[version]}


def cannot_be_told(made: Mapping[str, Any]) -> list[str]:
    """The versions whose images were compared and whose accuracy cannot be estimated: strong drift, or no digit."""
    compared = {name: each for name, each in made["comparisons"].items() if each["statistics"]}
    return [name for name, each in compared.items() if not (each["accuracy"] and each["accuracy"]["trusted"])]


def excess_of(made: Mapping[str, Any]) -> float | None:
    """The largest distance beyond chance in a report, of the version that it speaks of."""
    comparison = made["comparisons"].get(made["version"]) or {}
    excess: float | None = comparison.get("excess")
    return excess


def _sentence(day: str, what: str, comparisons: Mapping[str, Comparison], version: str) -> str:
    begin = f"{day}: {'the night' if what == 'drift_report' else 'the traffic of the service'}"
    if not version:
        return f"{begin} has no predictions, so there is nothing to compare."
    found, others = comparisons[version], len(comparisons) - 1
    more = f" {others} more version{'s' * (others > 1)} answered, with less to tell." if others else ""
    return f"{begin} {_told(found, version)}{more}"


def _told(found: Comparison, version: str) -> str:
    if found.verdict == "no reference":
        return (
            f"was answered by {version}, which was stored before versions kept a reference, so it cannot be compared. "
            f"Train again (materialize key:digit_classifier) and deploy: from then on it is."
        )
    if found.verdict == "too few":
        return (
            f"has {found.images:,} image{'s' * (found.images != 1)}, compared with {found.reference_images:,}: "
            f"too few for a verdict."
        )
    if found.verdict == "none":
        return f"has {found.images:,} images like those the model was measured on. {_accuracy(found)}"
    words = ", ".join(_named(each, found) for each in found.worst[:NAMED] if each.drifted)
    share = f"at least {100 * max(found.excess or 0.0, 0.01):.0f} in 100 of its {found.images:,} images are unlike"
    drifted = f"{share} those the model was measured on, most of all in {words}"
    if found.verdict == "drift":
        return f"has drifted: {drifted}. {_accuracy(found)} Look at the pictures, and at where the images come from."
    return (
        f"has drifted strongly: {drifted}. {_accuracy(found)} Do not rely on its answers; "
        f"look at the images, repair where they come from, or label some and train again."
    )


def _named(each: Statistic, found: Comparison) -> str:
    return f"{each.name} ({found.class_change})" if each.name == CLASSES else each.name


def _accuracy(found: Comparison) -> str:
    estimate = found.accuracy
    if estimate is None or found.reference_accuracy is None:
        return "No digit was seen, so nothing can be said of the accuracy."
    was = f"it was {found.reference_accuracy:.1%} when the model was new"
    if not estimate.trusted:
        return f"The accuracy cannot be told without labels, so far from what is known ({was})."
    return f"Estimated accuracy {estimate.estimate:.1%} ({estimate.low:.1%} to {estimate.high:.1%}); {was}."


def rows(found: Comparison) -> list[dict[str, Any]]:
    """The statistics as a table, those that differ most beyond chance first."""
    return [_row(each) for each in found.worst]


def _row(each: Statistic) -> dict[str, Any]:
    return {
        "statistic": each.name,
        "distance": round(each.distance, 3),
        "threshold": round(each.threshold, 3),
        "verdict": "drifted" if each.drifted else "as it was",
        "p_value": float(f"{each.p_value:.2g}"),
        "psi": round(each.psi, 3),
        "test": "chi-square" if each.name == CLASSES else "Kolmogorov-Smirnov",
    }
