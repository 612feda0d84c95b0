"""Cutting labelled images into parts, and finding images that stand in more than one."""

import hashlib
from dataclasses import replace

import numpy as np

from mnist_pipeline.ml.digits import DigitData, LabeledImages


def split_off(data: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """(rest, share): every class divided in the same proportion, order kept. Raises ValueError when too few."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(data))
    try:
        rest, off = train_test_split(rows, test_size=share, stratify=data.labels, random_state=seed)
    except ValueError as error:
        counts = np.bincount(data.labels)
        raise ValueError(
            f"cannot split {len(data):,} images {1 - share:.0%}/{share:.0%} by class ({error}); "
            f"images a class: {counts.tolist()}. Every class needs at least two, better twenty"
        ) from error
    return data.take(np.sort(rest)), data.take(np.sort(off))


def split_digits(raw: DigitData, validation_share: float, seed: int) -> DigitData:
    """train -> train + validation, stratified; the test part is handed on untouched."""
    train, validation = split_off(raw["train"], validation_share, seed)
    origin = replace(raw.origin, validation_share=validation_share)
    return DigitData({"train": train, "validation": validation, "test": raw["test"]}, origin)


def count_duplicates(data: DigitData) -> dict[str, int]:
    """How many images of the test part also stand, pixel for pixel, in each other part."""
    test = fingerprints(data["test"].images)
    others = {name: set(fingerprints(part.images)) for name, part in data.parts.items() if name != "test"}
    return {name: sum(each in prints for each in test) for name, prints in others.items()}


def fingerprints(images: np.ndarray) -> list[bytes]:
    """Of each image, uint8 [N, 28, 28]: the same for the same pixels."""
    return [hashlib.blake2b(image, digest_size=16).digest() for image in np.ascontiguousarray(images)]
