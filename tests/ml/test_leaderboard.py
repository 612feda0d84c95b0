"""The leaderboard: who is best, who is behind beyond noise, and what it looks like."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import binomtest

from mnist_pipeline.ml.leaderboard import Entry, Speed, holm, ranked, sentence, speed_of
from mnist_pipeline.ml.leaderboard_pictures import _few_ticks, standing
from mnist_pipeline.ml.metrics import wilson_interval
from mnist_pipeline.ml.predictor import Predictor

IMAGES = 2_000


def entry(name: str, wrong: range, latency_ms: float = 1.0) -> Entry:
    right = np.ones(IMAGES, bool)
    right[list(wrong)] = False
    return Entry(f"{name}-0123456789ab", name, right, 1_000, None, Speed(latency_ms, 500.0))


def test_the_best_comes_first_and_of_equals_the_quicker() -> None:
    rows = ranked([entry("slow", range(10), 3.0), entry("bad", range(90)), entry("quick", range(5, 15), 1.0)])
    assert [row["architecture"] for row in rows] == ["quick", "slow", "bad"]
    assert [row["place"] for row in rows] == [1, 2, 3]
    assert (rows[2]["low"], rows[2]["high"]) == wilson_interval(IMAGES - 90, IMAGES)


def test_who_is_behind_is_told_by_mcnemars_test_corrected_for_the_number_of_comparisons() -> None:
    rows = ranked([entry("best", range(10)), entry("close", range(8, 22)), entry("far", range(100, 160))])
    close = binomtest(12, 20).pvalue  # 8 only it has right, 12 only the best
    far = binomtest(60, 70).pvalue
    assert [row["p"] for row in rows] == pytest.approx([1.0, close, 2 * far])
    assert [row["behind"] for row in rows] == [False, False, True]
    assert "best-0123456789ab is best: 99.50%" in sentence(rows)
    assert "ahead of 1 of 2 others beyond noise; not told apart from close-0123456789ab" in sentence(rows)


def test_holms_correction_is_that_of_the_book() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_version_is_best_and_none_is_told_in_words() -> None:
    (row,) = ranked([entry("only", range(3))])
    assert (row["p"], row["behind"]) == (1.0, False)
    assert ranked([]) == []
    assert sentence([]) == "no version was measured on this data yet"


def test_speed_is_measured(predictor: Predictor) -> None:
    speed = speed_of(predictor, np.zeros((3, 28, 28), np.uint8))
    assert speed.latency_ms > 0
    assert speed.images_per_second > 100


@pytest.mark.parametrize("count", [0, 1, 9])
def test_the_picture_is_a_png(count: int) -> None:
    rows = ranked([entry(f"architecture{i}", range(i * 40)) for i in range(count)])
    assert standing(rows).startswith(b"\x89PNG")


@pytest.mark.parametrize("times", [[0.02], [0.006, 0.03], [0.006, 0.11], [0.006, 9.0]])
def test_the_times_have_few_labels_that_do_not_touch(times: list[float]) -> None:
    """Within a decade matplotlib labels every ninth of it: 2×10⁻²3×10⁻²4×10⁻²."""
    figure = Figure(figsize=(2.2, 1.5), dpi=110)
    axes = figure.subplots()
    axes.plot(times, times, "o")
    axes.set_xscale("log")
    axes.tick_params(axis="x", labelsize=8)
    _few_ticks(axes, times)
    FigureCanvasAgg(figure).draw()
    low, high = axes.get_xlim()
    shown = [each for each in axes.get_xticklabels(which="both") if low <= each.get_position()[0] <= high]
    boxes = [each.get_window_extent() for each in shown if each.get_text()]
    assert 1 <= len(boxes) <= 6
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
