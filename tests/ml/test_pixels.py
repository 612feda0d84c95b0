"""Numbers of an image: each moves with what it is named after, and with nothing it is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mnist_pipeline.ml import pixels
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.pixels import PIXELS, pixel_statistics


def line(lean: int = 0) -> np.ndarray:
    """An upright stroke, or one that leans by so many pixels over its height."""
    image = np.zeros((1, 28, 28), np.uint8)
    for row in range(4, 24):
        column = 14 - round(lean * (row - 14) / 20)
        image[0, row, column - 1 : column + 2] = 200
    return image


def of(image: np.ndarray) -> dict[str, float]:
    return {name: float(values[0]) for name, values in pixel_statistics(image).items()}


def test_ink_is_the_mean_that_the_service_logs(digits: DigitData) -> None:
    images = digits["test"].images
    found = pixel_statistics(images)
    np.testing.assert_array_equal(found["ink"], images.reshape(len(images), -1).mean(1, dtype=np.float32))
    assert tuple(found) == PIXELS
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


def test_slant_is_how_far_a_stroke_leans() -> None:
    assert of(line())["slant"] == pytest.approx(0.0, abs=0.01)
    assert of(line(10))["slant"] == pytest.approx(0.5, abs=0.05)
    assert of(line(-10))["slant"] == pytest.approx(-0.5, abs=0.05)


def test_a_blurred_image_has_the_same_ink_and_less_contrast_and_sharpness() -> None:
    sharp, soft = of(line()), of(gaussian_filter(line(), (0, 1, 1)))
    assert soft["ink"] == pytest.approx(sharp["ink"], rel=0.02)
    assert soft["contrast"] < 0.9 * sharp["contrast"]
    assert soft["sharpness"] < 0.9 * sharp["sharpness"]


def test_blank_images_and_none_at_all_have_finite_numbers() -> None:
    blank = of(np.zeros((1, 28, 28), np.uint8))
    assert set(blank.values()) == {0.0}
    assert [len(values) for values in pixel_statistics(np.zeros((0, 28, 28), np.uint8)).values()] == [0] * len(PIXELS)


def test_images_at_once_have_the_numbers_that_they_have_by_parts(
    digits: DigitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits["test"].images[:50]
    whole = pixel_statistics(images)
    monkeypatch.setattr(pixels, "ROWS", 7)
    for name, values in pixel_statistics(images).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-5)
