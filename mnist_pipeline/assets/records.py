"""What the assets record for MLflow: from the values of a stage to parameters, metrics, tags and pictures.

Not here: how it gets there (`tracking.py`), and what is shown in Dagster (the assets' metadata).
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import BaseModel

from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.store import Card
from mnist_pipeline.tracking import Tracker

if TYPE_CHECKING:
    from mnist_pipeline.inbox.tables import Tally
    from mnist_pipeline.ml.training import Epoch, Trained


def settings(tracker: Tracker, config: ModelConfig, data: DigitData, code: str) -> None:
    """Before training: every knob, and which images."""
    parts = {f"{part}_images": len(data[part]) for part in ("train", "validation", "test")}
    tracker.params({**config.model_dump(), "dataset": data.origin.dataset, **parts})
    tracker.tags({"data_source": data.origin.source, "data_version": data.digest(), "code_version": code})


def each_epoch(tracker: Tracker, log: Callable[[str], None]) -> "Callable[[Epoch], None]":
    """What is called after every epoch of a training: a line in the log, and its numbers in MLflow."""

    def record(epoch: "Epoch") -> None:
        log(epoch.line())
        tracker.metrics(_numbers(epoch), step=epoch.number)

    return record


def resumed(tracker: Tracker, trained: "Trained") -> None:
    """After a training that went on from a checkpoint: the epochs before it, which another run may have trained."""
    if trained.resumed_at:
        tracker.tags({"resumed_at_epoch": trained.resumed_at})
    for epoch in trained.history[: trained.resumed_at]:
        tracker.metrics(_numbers(epoch), step=epoch.number)


def _numbers(epoch: "Epoch") -> dict[str, float]:
    return {
        "train_loss": epoch.train_loss,
        "validation_loss": epoch.validation_loss,
        "validation_accuracy": epoch.validation_accuracy,
        "images_per_second": epoch.images_per_s,
    }


def stored(tracker: Tracker, card: Card) -> None:
    """The version that came of a training; the registry gets it from the store."""
    tracker.tags({"model_version": card.name, "model_digest": card.digest})


def evaluated(tracker: Tracker, version: str, numbers: Mapping[str, float], pictures: Mapping[str, bytes]) -> None:
    """The numbers of a report, of both parts, and its pictures."""
    tracker.tags({"evaluated_version": version})
    tracker.metrics(numbers)
    for name, png in pictures.items():
        tracker.artifact(f"evaluation/{name}.png", png)


def rivals(tracker: Tracker, made: Mapping[str, Mapping[str, Any]]) -> None:
    """Versions of several architectures that one run has trained. made: architecture -> version and test accuracy."""
    tracker.tags({f"{name}_version": each["version"] for name, each in made.items()})
    tracker.metrics({f"{name}/test_accuracy": each["test_accuracy"] for name, each in made.items()})


def decided(tracker: Tracker, decision: Decision) -> None:
    """What the ledger says now, and why."""
    tracker.tags(
        {
            "decision": decision.number,
            "decision_outcome": decision.outcome,
            "decision_strategy": decision.strategy,
            "decision_reason": decision.reason,
            "serves_now": decision.serves or "nothing",
        }
    )


def predicted(tracker: Tracker, night: str, files: int, tally: "Tally", answered_by: Mapping[str, Any]) -> None:
    """What a night came to, and which model has answered it. The night's run may have trained another one as well."""
    shares = {_metric_name(f"share_{label}"): n / tally.predictions for label, n in sorted(tally.labels.items())}
    mean = tally.mean_confidence
    tracker.tags({"night": night, **{f"predicted_by_{name}": value for name, value in answered_by.items()}})
    tracker.metrics(
        {
            "night_files": files,
            "night_predictions": tally.predictions,
            "night_quarantined": tally.quarantined,
            "night_uncertain": tally.uncertain,
            **({} if mean is None else {"night_mean_confidence": mean}),
            **{f"night_{name}": share for name, share in shares.items()},
        }
    )


def learned(
    tracker: Tracker,
    model: str,
    settings: BaseModel,
    numbers: Mapping[str, float],
    card: Card,
    files: Mapping[str, bytes],
) -> None:
    """One model of a table, with its files; the others of its run are recorded beside it, under their names."""
    tracker.params({f"{model}/{name}": value for name, value in settings.model_dump().items()})
    tracker.metrics({f"{model}/{name}": value for name, value in numbers.items()})
    tracker.tags({f"{model}_version": card.name, f"{model}_digest": card.digest, "data_version": card.data_version})
    for name, data in files.items():
        tracker.artifact(f"models/{model}/{name}", data)


def compared(tracker: Tracker, sentence: str, pictures: Mapping[str, bytes]) -> None:
    """Which model of a table is best, and what shows it."""
    tracker.tags({"comparison": sentence})
    for name, png in pictures.items():
        tracker.artifact(f"comparison/{name}.png", png)


def _metric_name(text: str) -> str:
    """As MLflow takes it: class names may be anything."""
    return re.sub(r"[^\w.\- ]", "_", text)[:200]


def page(tracker: Tracker) -> dict[str, Any]:
    """The link to the MLflow run as metadata; nothing when nothing is tracked."""
    link = tracker.link()
    return {"mlflow_run": dg.MetadataValue.url(link)} if link else {}
