"""Versions side by side on the same test images: how often each is right, how fast, how big, and what is noise.

A leaderboard tells, it does not decide: whoever takes the best of many on the test part finds it a little too good.
Decisions are made in `gate`; the picture is in `leaderboard_pictures`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_pipeline.ml.metrics import wilson_interval
from mnist_pipeline.ml.paired import compare
from mnist_pipeline.ml.predictor import BATCH, Predictor

ALPHA = 0.05
SINGLE_CALLS = 30
TIMED_IMAGES = 4 * BATCH


@dataclass(frozen=True)
class Speed:
    """On one thread: the median time of one image in milliseconds, and images a second in batches of 256."""

    latency_ms: float
    images_per_second: float


@dataclass(frozen=True, eq=False)
class Entry:
    """One version. right: bool [N], on which test images; bytes: of its graph; training_seconds: None if unknown."""

    version: str
    architecture: str
    right: np.ndarray
    bytes: int
    training_seconds: float | None
    speed: Speed


def speed_of(predictor: Predictor, images: np.ndarray) -> Speed:
    """Measured on these images, uint8 [N, 28, 28], after a first answer that does not count."""
    several = np.resize(images, (TIMED_IMAGES, *images.shape[1:]))
    predictor.logits(several[:BATCH])
    singles = [_seconds(lambda one=several[i : i + 1]: predictor.logits(one)) for i in range(SINGLE_CALLS)]  # type: ignore[misc]
    return Speed(1e3 * statistics.median(singles), TIMED_IMAGES / _seconds(lambda: predictor.logits(several)))


def ranked(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row a version, the best first, ready for JSON.

    p: that the best and this one are equally good, by McNemar's exact test (two-sided) on the same images, corrected
    for as many comparisons as there are (Holm 1979); 1 for the best itself. behind: whether p is below 5 %.
    """
    best_first = sorted(entries, key=lambda entry: (-int(entry.right.sum()), entry.speed.latency_ms))
    p = [1.0, *holm([_p_equal(best_first[0], other) for other in best_first[1:]])] if entries else []
    return [_row(place, entry, each) for place, (entry, each) in enumerate(zip(best_first, p, strict=True), start=1)]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several comparisons, each made larger for there being others, in their order (Holm 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def sentence(rows: Sequence[dict[str, Any]]) -> str:
    """The leaderboard for a manager."""
    if not rows:
        return "no version was measured on this data yet"
    best, behind = rows[0], [row for row in rows if row["behind"]]
    close = [row["version"] for row in rows[1:] if not row["behind"]]
    score = f"{best['version']} is best: {best['accuracy']:.2%} ({best['low']:.2%} to {best['high']:.2%})"
    others = f"ahead of {len(behind)} of {len(rows) - 1} others beyond noise"
    return f"{score}, {others}" + (f"; not told apart from {', '.join(close)}" if close else "")


def _p_equal(best: Entry, other: Entry) -> float:
    """Two-sided: the distribution is symmetric, and the best is right at least as often."""
    everywhere = np.ones(len(best.right), bool)
    return min(1.0, 2 * compare(everywhere, other.right, best.right).p_worse)


def _row(place: int, entry: Entry, p: float) -> dict[str, Any]:
    right, images = int(entry.right.sum()), len(entry.right)
    low, high = wilson_interval(right, images)
    return {
        "place": place,
        "version": entry.version,
        "architecture": entry.architecture,
        "accuracy": right / images,
        "low": low,
        "high": high,
        "p": p,
        "behind": p < ALPHA,
        "bytes": entry.bytes,
        "training_seconds": entry.training_seconds,
        "latency_ms": entry.speed.latency_ms,
        "images_per_second": entry.speed.images_per_second,
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
