"""What people put right, as training images: which label of a picture counts, and how much of it is added to a split.

Arrays in, values out. Reading what was said and finding the pictures is in `corrections` and `labelled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mnist_pipeline.ml.digits import SIDE, DigitData, FromFeedback, LabeledImages, Origin
from mnist_pipeline.ml.split import fingerprints

PART = "feedback"
EVERY = 1e-9  # rounding of shares


@dataclass(frozen=True)
class Judged:
    """data: the pictures that count, in the order given. rows: where they stood; left_out: row -> why the others do
    not."""

    data: LabeledImages
    rows: list[int]
    left_out: dict[int, str]


def judge(images: Sequence[np.ndarray], labels: Sequence[str], class_names: Sequence[str], test: np.ndarray) -> Judged:
    """Which pictures may be learned from. images: uint8 [28, 28] each, with labels, what was said last first.

    Of a picture with several labels the first counts, which is the newest; the same picture counts once. One of the
    test part (uint8 [N, 28, 28]) never does.
    """
    known, kept, left_out = {name: i for i, name in enumerate(class_names)}, dict[bytes, int](), dict[int, str]()
    prints, of_test = fingerprints(_stacked(images)), set(fingerprints(test)) if images else set()
    for row, (each, label) in enumerate(zip(prints, labels, strict=True)):
        if label not in known:
            left_out[row] = f"{label!r} is no class: {', '.join(class_names)}"
        elif each in of_test:
            left_out[row] = "it is a picture of the test part"
        elif (first := kept.setdefault(each, row)) != row:
            same = labels[first] == label
            left_out[row] = "the same picture with the same label" if same else f"newer: it is {labels[first]!r}"
    rows = list(kept.values())
    numbers = np.array([known[labels[row]] for row in rows], np.uint8)
    return Judged(LabeledImages(_stacked([images[row] for row in rows]), numbers), rows, left_out)


def with_feedback(split: DigitData, feedback: DigitData, share: float) -> DigitData:
    """The split with feedback at the end of its training part, and nowhere else.

    feedback: its part "feedback", the newest first, which are taken first. share: of the training part that comes out,
    which feedback is at most. Left out is what already stands in any part, and what is of no class here. Nothing to
    add: `split` itself.

    Raises ValueError where the pictures were prepared otherwise than those of the split.
    """
    added = _added(split, feedback, share)
    if len(added) == 0:
        return split
    if feedback.origin.preparation != split.origin.preparation:
        raise ValueError(
            f"feedback was prepared as {feedback.origin.preparation!r}, the training images as "
            f"{split.origin.preparation!r}: materialize feedback_digits again"
        )
    train = split["train"]
    joined = LabeledImages(np.concatenate([train.images, added.images]), np.concatenate([train.labels, added.labels]))
    told = FromFeedback(len(added), DigitData({PART: added}, split.origin).digest())
    return DigitData({**split.parts, "train": joined}, replace(split.origin, feedback=told))


def without_feedback(data: DigitData) -> LabeledImages:
    """The training part as it was split off, before feedback was added."""
    train, rows = data["train"], data.origin.feedback.rows
    return LabeledImages(train.images[: len(train) - rows], train.labels[: len(train) - rows])


def none(origin: Origin) -> DigitData:
    """No feedback at all."""
    return DigitData({PART: LabeledImages(_stacked([]), np.empty(0, np.uint8))}, origin)


def _added(split: DigitData, feedback: DigitData, share: float) -> LabeledImages:
    given, names = feedback[PART], split.origin.class_names
    if len(given) == 0:
        return given
    there = {each for part in split.parts.values() for each in fingerprints(part.images)}
    number = {name: i for i, name in enumerate(names)}
    known = [number.get(name, -1) for name in feedback.origin.class_names]
    prints = fingerprints(given.images)
    fits = [known[label] >= 0 and each not in there for label, each in zip(given.labels, prints, strict=True)]
    most = int(share / (1 - share) * len(split["train"]) + EVERY)
    newest = np.flatnonzero(fits)[:most]
    rows = sorted(newest.tolist(), key=prints.__getitem__)  # what is said once more is no other data
    return LabeledImages(given.images[rows], np.array([known[i] for i in given.labels[rows]], np.uint8))


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(images) if images else np.empty((0, SIDE, SIDE), np.uint8)
