"""Pictures of a report: whatever there is to show, and another picture for other numbers."""

from __future__ import annotations

import numpy as np
import pytest
from pngs import picture

from mnist_pipeline.ml import evidence_pictures
from mnist_pipeline.ml.calibration import reliability
from mnist_pipeline.ml.corruptions import CORRUPTIONS


def bins(confidence: float, count: int = 10) -> list[dict]:
    return reliability(np.zeros(count, int), np.tile([confidence, 1 - confidence], (count, 1)))


@pytest.mark.parametrize("count", [1, 10_000])
@pytest.mark.parametrize("confidence", [0.5, 0.97, 1.0])
def test_reliability_of_one_bin(confidence: float, count: int) -> None:
    drawn = evidence_pictures.reliability({"before": (0.5, bins(confidence, count)), "after": (0.0, bins(0.9, count))})
    assert picture(drawn).min() < 200


def test_reliability_shows_other_bins_as_another_picture() -> None:
    one, other = (
        evidence_pictures.reliability({"before": (0.1, bins(c)), "after": (0.1, bins(0.9))}) for c in (0.6, 0.8)
    )
    assert one != other


def test_robustness_has_a_curve_for_each_corruption() -> None:
    drawn = evidence_pictures.robustness({name: [0.99, 0.9, 0.8, 0.5, 0.1] for name in CORRUPTIONS})
    assert picture(drawn).min() < 200
    assert drawn != evidence_pictures.robustness({name: [0.99, 0.9, 0.8, 0.5, 0.2] for name in CORRUPTIONS})
