"""Training a network and storing it as a version."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets import records
from mnist_pipeline.assets.checks import blocking, verdict
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.assets.launchpad import choice, given, optional_fields
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.config import ModelConfig, Preset, configure
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Models, Pictures, Tracking
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import Card, ModelStore

if TYPE_CHECKING:
    from mnist_pipeline.ml.training import Trained

CODE = code_version(
    "ml/config.py",
    "ml/network.py",
    "ml/augmentation.py",
    "ml/training.py",
    "ml/artifacts.py",
    "ml/predictor.py",
)
COMPARED_IMAGES = 1_000
LEAST_LEARNED = 0.1  # of the way from guessing to perfect: 0.19 for ten classes, 0.55 for two


ChosenPreset: Any = choice(Preset, "Preset")


class WithPreset(dg.Config):
    """What every other field falls back to."""

    preset: ChosenPreset = Field(ChosenPreset("fast"), description="fast: 99 % in seconds; accurate: 99.68 % in 80 s")


DigitClassifierConfig: Any = optional_fields(ModelConfig, WithPreset, "DigitClassifierConfig", __name__)


@dg.asset(group_name="model", kinds={"pytorch"}, code_version=CODE, automation_condition=KEPT_UP_TO_DATE)
@retrying
def digit_classifier(
    context: dg.AssetExecutionContext,
    config: DigitClassifierConfig,
    processed_mnist_data: DigitData,
    models: Models,
    pictures: Pictures,
    tracking: Tracking,
) -> dg.MaterializeResult[str]:
    """A trained `DigitCNN`, stored as an immutable version; the value is its name."""
    from mnist_pipeline.ml import plots
    from mnist_pipeline.ml.training import train

    chosen, data = _chosen(config), processed_mnist_data
    with tracking.open(context) as tracker, _progress_bar() as on_step:
        records.settings(tracker, chosen, data, CODE)
        trained = train(
            data["train"],
            data["validation"],
            len(data.origin.class_names),
            chosen,
            on_epoch=records.each_epoch(tracker, context.log.info),
            on_step=on_step,
        )
        card = _store(models.open(), trained, data, context.run.run_id)
        curves = plots.training_curves(trained.history)
        records.stored(tracker, card)
        tracker.artifact("training_curves.png", curves)
    context.log.info(f"stored version {card.name}")
    return dg.MaterializeResult(
        value=card.name,
        data_version=dg.DataVersion(card.digest),
        metadata={
            "version": card.name,
            "training_curves": pictures.open().show("digit_classifier", "training_curves", curves),
            **_facts(trained),
            **records.page(tracker),
        },
    )


TORCH_AND_ONNX_AGREE = blocking(
    digit_classifier, "torch_and_onnx_agree", "logits within 1e-4", also=["processed_mnist_data"]
)
LEARNED_SOMETHING = blocking(digit_classifier, "learned_something", "clearly better than guessing")


@dg.multi_asset_check(specs=[TORCH_AND_ONNX_AGREE, LEARNED_SOMETHING])
@retrying
def model_checks(
    digit_classifier: str, processed_mnist_data: DigitData, models: Models
) -> Iterable[dg.AssetCheckResult]:
    """Whether what was stored answers as what was trained, and better than a guess."""
    import numpy as np

    from mnist_pipeline.ml.artifacts import load_network, torch_logits
    from mnist_pipeline.ml.predictor import TOLERANCE, Predictor

    store = models.open()
    card, files = store.card(digit_classifier), store.load(digit_classifier)
    images = processed_mnist_data["validation"].images[:COMPARED_IMAGES]
    network = load_network(files, ModelConfig(**card.config), len(card.class_names))
    off = float(np.abs(torch_logits(network, images) - Predictor.load(files).logits(images)).max())
    yield verdict(TORCH_AND_ONNX_AGREE, off <= TOLERANCE, largest_difference=off)
    accuracy, guess = card.metrics["validation_accuracy"], 1 / len(card.class_names)
    floor = guess + LEAST_LEARNED * (1 - guess)
    yield verdict(LEARNED_SOMETHING, accuracy > floor, validation_accuracy=accuracy, guessing=guess, floor=floor)


def _chosen(config: Any) -> ModelConfig:
    """The preset with the fields that were set."""
    fields = given(config)
    return configure(fields.pop("preset"), **fields)


def _store(store: ModelStore, trained: "Trained", data: DigitData, run_id: str) -> Card:
    """What was trained as a version, with everything that it came from on its card."""
    from mnist_pipeline.ml.artifacts import pack

    best = trained.best
    return store.add_version(
        pack(trained.network, data["validation"].images),
        label=trained.config.label(best.validation_accuracy),
        metrics={"validation_accuracy": best.validation_accuracy, "validation_loss": best.validation_loss},
        config=trained.config.model_dump(),
        class_names=data.origin.class_names,
        preparation=data.origin.preparation,
        dataset=data.origin.called,
        data_version=data.digest(),
        code_version=CODE,
        run_id=run_id,
    )


def _facts(trained: "Trained") -> dict[str, Any]:
    best, last = trained.best, trained.history[-1]
    return {
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "train_loss": best.train_loss,
        "best_epoch": best.number,
        "epochs": last.number,
        "training_seconds": last.seconds,
        "images_per_second": last.images_per_s,
        "parameters": sum(weights.numel() for weights in trained.network.parameters()),
        "config": dg.MetadataValue.json(trained.config.model_dump()),
    }


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar where there is a terminal to draw it on; elsewhere the log has a line an epoch."""
    from tqdm import tqdm

    with tqdm(unit="step", desc="training", leave=False, disable=None) as bar:

        def draw(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        yield draw
