"""Getting the digits and cutting them into train, validation and test."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets.causes import read_from
from mnist_pipeline.assets.checks import advisory, blocking, verdict
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.digits import VALIDATION_SHARE, DigitData
from mnist_pipeline.resources import Pictures, Source
from mnist_pipeline.retries import retrying

if TYPE_CHECKING:
    import numpy as np

SHEET = 24
WORST_IMBALANCE = 10.0  # largest class over smallest; MNIST has 1.24
SPLIT_TOLERANCE = 0.02  # between the shares of a class in two parts, where there are images enough to meet it
ROUNDING = 1  # images by which a part, or a class of it, may miss its share: there are no halves
LEAKAGE_ALLOWED = 0.01  # share of the test images that also stand in another part
FULL_SIZE = {"mnist": 70_000, "fashion_mnist": 70_000, "kmnist": 70_000, "qmnist": 120_000, "embedded": 1_797}


class SplitConfig(dg.Config):
    """How the training images are cut."""

    # below, validation measures nothing; above, it is larger than what is learned from
    validation_share: float = Field(
        VALIDATION_SHARE, ge=0.01, le=0.5, description="share of each class put aside for validation"
    )
    seed: int = Field(0, ge=0, description="of the choice")
    feedback_share: float = Field(
        0.1, ge=0, lt=1, description="of the training images, which feedback is at most (MNIST_FEEDBACK=train)"
    )


@dg.asset(
    group_name="data",
    kinds={"numpy"},
    code_version=code_version(
        "acquire.py",
        "storage/mirror.py",
        "ml/decoding.py",
        "ml/digits.py",
        "ml/idx.py",
        "ml/images.py",
        "ml/published.py",
        "ml/sources.py",
        "ml/split.py",
    ),
    metadata=read_from("source"),
)
@retrying
def raw_mnist_data(
    context: dg.AssetExecutionContext, source: Source, pictures: Pictures
) -> dg.MaterializeResult[DigitData]:
    """Images and labels as they come, verified; the test set is the published one where there is one."""
    found = source.snapshot().tags()  # before it is read: what changes meanwhile is then seen as a change
    data = source.open().load(context.log)
    context.log.info(f"{len(data):,} images from {data.origin.source}")
    return _result("raw_mnist_data", data, pictures, found)


@dg.asset(
    group_name="data",
    kinds={"numpy"},
    code_version=code_version("ml/digits.py", "ml/feedback.py", "ml/split.py"),
    automation_condition=KEPT_UP_TO_DATE,
)
@retrying
def processed_mnist_data(
    config: SplitConfig, raw_mnist_data: DigitData, feedback_digits: DigitData, pictures: Pictures
) -> dg.MaterializeResult[DigitData]:
    """A stratified split of the training images, and the test set untouched. Pixels stay as they are, uint8.

    Feedback, where there is any, is added to the training part and to no other.
    """
    from mnist_pipeline.ml.feedback import with_feedback
    from mnist_pipeline.ml.split import count_duplicates, split_digits

    split = split_digits(raw_mnist_data, config.validation_share, config.seed)
    data = with_feedback(split, feedback_digits, config.feedback_share)
    added = data.origin.feedback
    shared = {f"test_images_also_in_{part}": count for part, count in count_duplicates(data).items()}
    told: dict[str, int | str] = {
        "feedback_images": added.rows,
        **({"feedback_sha256": added.digest} if added.rows else {}),
    }
    return _result("processed_mnist_data", data, pictures, {}, **shared, **told)


IS_COMPLETE = blocking(raw_mnist_data, "is_complete", "as many images as the data set is known to have")
LABELS_ARE_VALID = blocking(raw_mnist_data, "labels_are_valid", "0 to classes - 1")
CLASSES_ARE_BALANCED = advisory(raw_mnist_data, "classes_are_balanced", "largest class over smallest")
IS_WHAT_WAS_ASKED_FOR = advisory(raw_mnist_data, "is_what_was_asked_for", "not the embedded fallback")


@dg.multi_asset_check(specs=[IS_COMPLETE, LABELS_ARE_VALID, CLASSES_ARE_BALANCED, IS_WHAT_WAS_ASKED_FOR])
def raw_data_checks(raw_mnist_data: DigitData) -> Iterable[dg.AssetCheckResult]:
    """Whether the data is all there and can be learned from."""
    import numpy as np

    data, origin = raw_mnist_data, raw_mnist_data.origin
    wanted = FULL_SIZE.get(origin.dataset)
    yield verdict(IS_COMPLETE, wanted in (None, len(data)), images=len(data), expected=wanted or "any")
    highest, classes = max(int(part.labels.max()) for part in data.parts.values()), len(origin.class_names)
    yield verdict(LABELS_ARE_VALID, highest < classes, highest=highest, classes=classes)
    counts = np.sum([_counts(data, part) for part in data.parts], axis=0)
    imbalance = float(counts.max() / max(1, counts.min()))
    yield verdict(CLASSES_ARE_BALANCED, imbalance <= WORST_IMBALANCE, imbalance=imbalance, allowed=WORST_IMBALANCE)
    yield verdict(IS_WHAT_WAS_ASKED_FOR, not origin.fallback, source=origin.source)


SPLIT_IS_STRATIFIED = blocking(processed_mnist_data, "split_is_stratified", "the same share of each class")
SPLIT_IS_IN_PROPORTION = blocking(
    processed_mnist_data,
    "split_is_in_proportion",
    "validation is the share that was asked for, and nothing is lost",
    also=["raw_mnist_data"],
)
NOTHING_LEAKS = blocking(processed_mnist_data, "nothing_leaks", "test images that also stand elsewhere")


@dg.multi_asset_check(specs=[SPLIT_IS_STRATIFIED, SPLIT_IS_IN_PROPORTION, NOTHING_LEAKS])
def processed_data_checks(processed_mnist_data: DigitData, raw_mnist_data: DigitData) -> Iterable[dg.AssetCheckResult]:
    """Whether validation looks like training, and whether the test is really unseen."""
    import numpy as np

    from mnist_pipeline.ml.feedback import without_feedback
    from mnist_pipeline.ml.split import count_duplicates

    data, added = processed_mnist_data, processed_mnist_data.origin.feedback.rows
    train = _count(without_feedback(data).labels, len(data.origin.class_names))  # that is in no proportion
    validation = _counts(data, "validation")
    gap = float(np.abs(train / train.sum() - validation / validation.sum()).max())
    allowed = max(SPLIT_TOLERANCE, ROUNDING / validation.sum() + ROUNDING / train.sum())
    yield verdict(SPLIT_IS_STRATIFIED, gap <= allowed, largest_gap=gap, allowed=float(allowed))
    whole = len(data) - added == len(raw_mnist_data) and len(data["test"]) == len(raw_mnist_data["test"])
    images, asked = int(train.sum() + validation.sum()), data.origin.validation_share
    yield verdict(
        SPLIT_IS_IN_PROPORTION,
        whole and abs(int(validation.sum()) - asked * images) <= ROUNDING,
        validation_share=float(validation.sum() / images),
        asked_for=asked,
        lost=len(raw_mnist_data) + added - len(data),
    )
    leaked = count_duplicates(data)
    leakage = sum(leaked.values()) / len(data["test"])
    yield verdict(NOTHING_LEAKS, leakage <= LEAKAGE_ALLOWED, share=leakage, allowed=LEAKAGE_ALLOWED, also_in=leaked)


def _result(
    asset: str, data: DigitData, pictures: Pictures, tags: dict[str, str], /, **more: int | str
) -> dg.MaterializeResult[DigitData]:
    from mnist_pipeline.ml import plots

    book, names, first = pictures.open(), data.origin.class_names, data["train"]
    counts = {part: _counts(data, part).tolist() for part in data.parts}
    digest = data.digest()
    captions = [names[label] for label in first.labels[:SHEET]]
    mean, std = _mean_std(first.images)
    metadata: dict[str, Any] = {
        "source": data.origin.source,
        "samples": book.show(asset, "samples", plots.contact_sheet(first.images[:SHEET], captions)),
        "class_distribution": book.show(asset, "class_distribution", plots.class_distribution(counts, names)),
        "dataset": data.origin.dataset,
        "fallback": data.origin.fallback,
        "images": len(data),
        **{f"{part}_images": len(data[part]) for part in data.parts},
        **more,
        "classes": len(names),
        "pixel_mean": mean,
        "pixel_std": std,
        "sha256": digest,
    }
    return dg.MaterializeResult(value=data, metadata=metadata, data_version=dg.DataVersion(digest), tags=tags)


def _counts(data: DigitData, part: str) -> "np.ndarray":
    """Images a class; a label that is no class is counted in none."""
    return _count(data[part].labels, len(data.origin.class_names))


def _count(labels: "np.ndarray", classes: int) -> "np.ndarray":
    import numpy as np

    return np.bincount(labels, minlength=classes)[:classes]


def _mean_std(images: "np.ndarray") -> tuple[float, float]:
    """Of all pixels scaled to 0..1, a thousand images at a time: no float copy of them all."""
    import numpy as np

    total, squares = 0.0, 0.0
    for at in range(0, len(images), 1_000):
        chunk = images[at : at + 1_000].astype(np.float32) / 255
        total += float(chunk.sum(dtype=np.float64))
        squares += float(np.square(chunk).sum(dtype=np.float64))
    mean = total / images.size
    return mean, (squares / images.size - mean**2) ** 0.5
