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
from mnist_pipeline.ml.config import NETWORKS, ModelConfig, Preset, configure
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Models, Pictures, Tracking, Training
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import Card, ModelStore
from mnist_pipeline.trainers import Lesson

if TYPE_CHECKING:
    from mnist_pipeline.ml.training import Trained

LEARNING = (
    *("ml/config.py", "ml/network.py", "ml/architectures.py", "ml/resnet.py", "ml/vision_transformer.py"),
    *("ml/classical.py", "ml/augmentation.py", "ml/training.py", "ml/optimizers.py"),
    *("ml/training_state.py", "ml/checkpoints.py"),
    "ml/learning.py",
)
STORING = (
    *("ml/classical_graphs.py", "ml/artifacts.py", "ml/calibration.py", "ml/conformal.py", "ml/predictor.py"),
    *("ml/pixels.py", "ml/reference.py"),
)
CODE = code_version(*LEARNING, *STORING)
SHOWN = 12
LEAST_LEARNED = 0.1  # of the way from guessing to perfect: 0.19 for ten classes, 0.55 for two


ChosenPreset: Any = choice(Preset, "Preset")


class WithPreset(dg.Config):
    """What every other field falls back to."""

    preset: ChosenPreset = Field(
        ChosenPreset("fast"),
        description="fast: 99 % in seconds; accurate: 99.7 % in 2 minutes; resnet: 99.6 %; vit: 20 epochs of it",
    )


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
    training: Training,
) -> dg.MaterializeResult[str]:
    """A trained model, stored as an immutable version; the value is its name. `architecture` says which it is.

    A training that was killed goes on from its last checkpoint when it is asked for again with the same settings.
    """
    from mnist_pipeline.ml import plots

    chosen, data = _chosen(config), processed_mnist_data
    with tracking.open(context) as tracker, _progress_bar() as on_step:
        records.settings(tracker, chosen, data, CODE)
        on_epoch, lesson = records.each_epoch(tracker, context.log.info), Lesson(data, chosen, CODE)
        with training.open(context.log).fitted(lesson, on_epoch, on_step) as trained:
            card = store_version(models.open(), trained, data, context.run.run_id)
        curves = plots.training_curves(trained.history)
        records.resumed(tracker, trained)
        records.stored(tracker, card)
        tracker.artifact("training_curves.png", curves)
    context.log.info(f"stored version {card.name}")
    return dg.MaterializeResult(
        value=card.name,
        data_version=dg.DataVersion(card.digest),
        metadata={
            "version": card.name,
            "training_curves": pictures.open().show("digit_classifier", "training_curves", curves),
            "augmentation": _augmentation(chosen, data, pictures),
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
    """Whether what was stored answers as what was trained (by torch, or by scikit-learn), and better than a guess."""
    from mnist_pipeline.ml.predictor import TOLERANCE

    store = models.open()
    card, off = store.card(digit_classifier), largest_difference(store, digit_classifier, processed_mnist_data)
    yield verdict(TORCH_AND_ONNX_AGREE, off <= TOLERANCE, largest_difference=off)
    accuracy, guess, floor = card.metrics["validation_accuracy"], 1 / len(card.class_names), least_accuracy(card)
    yield verdict(LEARNED_SOMETHING, accuracy > floor, validation_accuracy=accuracy, guessing=guess, floor=floor)


def largest_difference(store: ModelStore, version: str, data: DigitData) -> float:
    """Between the logits of the graph of a version and of the library that trained it, on validation images."""
    import numpy as np

    from mnist_pipeline.ml.artifacts import original_logits
    from mnist_pipeline.ml.predictor import Predictor

    card, files, images = store.card(version), store.load(version), data["validation"].images
    original = original_logits(files, ModelConfig(**card.config), len(card.class_names), images)
    return float(np.abs(original - Predictor.load(files).logits(images[: len(original)])).max())


def least_accuracy(card: Card) -> float:
    """What validation accuracy must exceed: a tenth of the way from guessing to perfect."""
    guess = 1 / len(card.class_names)
    return guess + LEAST_LEARNED * (1 - guess)


def _chosen(config: Any) -> ModelConfig:
    """The preset with the fields that were set."""
    fields = given(config)
    return configure(fields.pop("preset"), **fields)


def _augmentation(config: ModelConfig, data: DigitData, pictures: Pictures) -> Any:
    """A sheet: in the first row images as they are, below what the network sees of them. Else why there is none."""
    import numpy as np

    from mnist_pipeline.ml.augmentation import changes_images, samples
    from mnist_pipeline.ml.plots import contact_sheet

    if config.architecture not in NETWORKS:
        return f"none: {config.architecture} learns from the images as they are"
    if not changes_images(config):
        moved = f"batches are moved by up to {config.shift} pixels" if config.shift else "nothing is switched on"
        return f"no image is changed by itself: {moved}"
    shown = data["train"].take(np.arange(min(SHOWN, len(data["train"]))))
    rows = samples(shown.images, config)
    names = [data.origin.class_names[label] for label in shown.labels]
    blank = [""] * (len(rows) - 1) * len(names)
    sheet = contact_sheet(rows.reshape(-1, *rows.shape[2:]), names + blank, columns=len(names))
    return pictures.open().show("digit_classifier", "augmentation", sheet)


def store_version(store: ModelStore, trained: "Trained", data: DigitData, run_id: str) -> Card:
    """What was trained as a version, with everything that it came from on its card."""
    from mnist_pipeline.ml.artifacts import version_files

    best, files = trained.best, version_files(trained, data["validation"])
    return store.add_version(
        files,
        label=trained.config.label(best.validation_accuracy),
        metrics={
            "validation_accuracy": best.validation_accuracy,
            "validation_loss": best.validation_loss,
            "training_seconds": trained.history[-1].seconds,
            "temperature": round(float(trained.network.temperature), 4),
        },
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
    weights = sum(each.numel() for each in trained.network.parameters())  # a classical model has none
    return {
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "train_loss": best.train_loss,
        "best_epoch": best.number,
        "temperature": round(float(trained.network.temperature), 4),
        "epochs": last.number,
        "training_seconds": last.seconds,
        "images_per_second": last.images_per_s,
        **({"parameters": weights} if weights else {}),
        **({"resumed_at_epoch": trained.resumed_at} if trained.resumed_at else {}),
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
