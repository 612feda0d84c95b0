"""Drift: as many false alarms as were asked for, real changes found, and no verdict where there can be none."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from mnist_pipeline.ml import drift, drift_pictures, drift_report
from mnist_pipeline.ml.artifacts import version_files
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.drift import CLASSES, CONFIDENCE, Comparison, Limits, compare, psi
from mnist_pipeline.ml.predictor import ONNX, Predictor, softmax
from mnist_pipeline.ml.reference import (
    REFERENCE,
    Reference,
    Sample,
    pack_reference,
    read_reference,
    reference_of,
)
from mnist_pipeline.ml.training import Trained

NAMES = ["a", "b", "c"]
QUICK = Limits(tolerance=0.0)


def sample(count: int, seed: int, *, ink: float = 30.0, classes: tuple[float, ...] = (0.4, 0.3, 0.3)) -> Reference:
    """Images of a made-up world: answers that are mostly right and sure, and an amount of ink."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, count, p=classes).astype(np.uint8)
    logits = draw.normal(0, 1, (count, 3)) + 4 * np.eye(3)[labels]
    return Reference({"ink": draw.normal(ink, 5, count).astype(np.float32)}, softmax(logits).astype(np.float32), labels)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return sample(600, 0)


def verdicts(reference: Reference, nights: int, limits: Limits = QUICK, images: int = 150, **world: float) -> list[str]:
    return [compare(reference, sample(images, 10 + i, **world), NAMES, limits).verdict for i in range(nights)]  # type: ignore[arg-type]


# --- what counts as drift ---


def test_false_alarms_are_as_rare_as_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each night has a reference of its own: what is promised is promised for both by chance."""
    monkeypatch.setattr(drift, "DEALS", 100)
    asked = Limits(false_alarms=0.1, tolerance=0.0)
    alarms = sum(compare(sample(200, 2 * i), sample(60, 2 * i + 1), NAMES, asked).verdict != "none" for i in range(100))
    assert 2 <= alarms <= 18  # 10 ± 3 standard deviations


def test_a_tolerance_forgives_a_small_difference(reference: Reference) -> None:
    assert verdicts(reference, 3, images=3_000, ink=31.5) == ["drift"] * 3
    assert verdicts(reference, 3, Limits(tolerance=0.15), images=3_000, ink=31.5) == ["none"] * 3


def test_more_or_less_ink_is_told_by_name(reference: Reference) -> None:
    found = compare(reference, sample(150, 1, ink=35.0), NAMES)
    assert (found.verdict, found.worst[0].name) == ("drift", "ink")
    assert found.p_value is not None
    assert found.p_value < 0.005
    assert "most of all in ink" in drift_report.report("d", "drift_report", {"v": found}, NAMES)["sentence"]


def test_a_class_that_became_rare_is_told_by_name(reference: Reference) -> None:
    found = compare(reference, sample(300, 1, classes=(0.45, 0.4, 0.15)), NAMES)
    assert found.verdict == "drift"
    assert CLASSES in [each.name for each in found.statistics if each.drifted]
    assert found.class_change.startswith("c: ")


def test_what_is_far_away_is_strong_and_its_accuracy_not_to_be_trusted(reference: Reference) -> None:
    far = compare(reference, sample(150, 1, ink=60.0), NAMES)
    assert far.verdict == "strong"
    assert far.excess is not None
    assert far.excess > 0.8
    assert far.accuracy is not None
    assert not far.accuracy.trusted
    assert compare(reference, sample(150, 1, ink=60.0), NAMES, Limits(strong=0.95)).verdict == "drift"


def test_images_without_a_digit_are_unlike_all_others(reference: Reference) -> None:
    night = sample(200, 1)
    night.probabilities[:60], night.pixels["ink"][:60] = np.nan, np.nan
    found = compare(reference, night, NAMES)
    assert (found.verdict, found.blank) == ("drift", 60)
    night.probabilities[:], night.pixels["ink"][:] = np.nan, np.nan
    found = compare(reference, night, NAMES)
    assert (found.verdict, found.blank, found.accuracy) == ("strong", 200, None)
    assert "No digit was seen" in drift_report.report("d", "drift_report", {"v": found}, NAMES)["sentence"]
    assert json.dumps(found.as_json(), allow_nan=False)


def test_a_few_images_get_no_verdict(reference: Reference) -> None:
    assert compare(reference, sample(29, 1, ink=90.0), NAMES).verdict == "too few"
    assert compare(reference, sample(30, 1, ink=90.0), NAMES).verdict == "strong"
    assert compare(reference, sample(30, 1, ink=90.0), NAMES, Limits(least_images=31)).verdict == "too few"
    assert compare(sample(20, 2), sample(100, 1), NAMES).verdict == "too few"


def test_of_a_large_night_some_are_compared_and_always_the_same(reference: Reference) -> None:
    large = sample(6_000, 1)
    found = compare(reference, large, NAMES)
    assert (found.images, found.compared) == (6_000, 5_000)
    assert compare(reference, large, NAMES) == found
    assert compare(reference, large, NAMES, seed=1) != found


def test_ties_are_no_distance() -> None:
    """A network so sure that all its answers are the same number."""
    sure = np.tile(np.array([[1.0, 0.0, 0.0]], np.float32), (100, 1))
    same = {"ink": np.full(100, 30.0, np.float32)}
    old = Reference(same, sure, np.zeros(100, np.uint8))
    found = compare(old, Sample(same, sure), NAMES)
    assert (found.verdict, {each.distance for each in found.statistics}) == ("none", {0.0})


def test_a_fraction_of_rounding_is_no_drift(reference: Reference) -> None:
    """Another machine computes the last bits of a probability otherwise."""
    night = sample(600, 0)
    shaken = night.probabilities * np.float32(1 + 3e-7)
    found = compare(reference, Sample(night.pixels, shaken.astype(np.float32)), NAMES)
    assert max(each.distance for each in found.statistics) < 0.01


def test_statistics_that_only_one_side_has_are_left_out(reference: Reference) -> None:
    night = Sample({}, sample(150, 1).probabilities)
    assert [each.name for each in compare(reference, night, NAMES).statistics] == [
        *(f"probability of {name}" for name in NAMES),
        CONFIDENCE,
        CLASSES,
    ]


def test_the_distance_is_kolmogorovs_to_a_hundredth(reference: Reference) -> None:
    night = sample(300, 1, ink=32.0)
    (ink,) = [each for each in compare(reference, night, NAMES).statistics if each.name == "ink"]
    exact = ks_2samp(reference.pixels["ink"], night.pixels["ink"])
    assert ink.distance == pytest.approx(exact.statistic, abs=0.012)
    assert ink.p_value == pytest.approx(exact.pvalue, rel=0.3)


def test_psi_is_zero_for_equal_shares_and_grows() -> None:
    assert psi(np.array([50, 50]), np.array([500, 500])) == pytest.approx(0.0, abs=1e-6)
    assert psi(np.array([500, 500]), np.array([800, 200])) == pytest.approx(0.416, abs=0.01)  # by hand


# --- the reference ---


def test_a_version_keeps_what_its_graph_made_of_validation(trained: Trained, digits: DigitData) -> None:
    own = replace(trained, network=copy.deepcopy(trained.network))  # which gets a temperature
    files = version_files(own, digits["validation"])
    kept = read_reference(files[REFERENCE])
    answers = Predictor(files[ONNX], threads=1).predict(digits["validation"].images)
    np.testing.assert_allclose(kept.probabilities, answers.probabilities, atol=1e-6)
    np.testing.assert_array_equal(kept.labels, digits["validation"].labels)
    assert kept.accuracy == pytest.approx(np.mean(answers.labels == digits["validation"].labels))


def test_a_large_validation_part_is_drawn_from(predictor: Predictor, digits: DigitData) -> None:
    some = reference_of(predictor, digits["validation"], most=50)
    again = reference_of(predictor, digits["validation"], most=50)
    assert len(some) == 50
    assert pack_reference(some) == pack_reference(again)
    assert some.probabilities.dtype == np.float32


def test_test_images_are_as_they_were_and_inverted_ones_are_not(predictor: Predictor, digits: DigitData) -> None:
    from mnist_pipeline.ml.pixels import pixel_statistics

    reference, names = reference_of(predictor, digits["validation"]), [str(digit) for digit in range(10)]
    for images, verdict in ((digits["test"].images, "none"), (255 - digits["test"].images, "strong")):
        night = Sample(pixel_statistics(images), predictor.predict(images).probabilities)
        assert compare(reference, night, names).verdict == verdict


# --- report and pictures ---


@pytest.fixture(scope="module")
def found(reference: Reference) -> Comparison:
    return compare(reference, sample(150, 1), NAMES)


def test_the_worst_version_speaks_and_the_others_are_counted(found: Comparison) -> None:
    both = {"old": replace(found, verdict="strong", images=10), "new": found}
    made = drift_report.report("2026-01-05", "service_drift_report", both, NAMES)
    assert (made["version"], made["verdict"], made["images"]) == ("old", "strong", 160)
    assert "1 more version answered" in made["sentence"]
    assert made["sentence"].startswith("2026-01-05: the traffic of the service has drifted strongly")
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (None, "has no predictions, so there is nothing to compare"),
        (Comparison("too few", 1, reference_images=600), "has 1 image, compared with 600: too few for a verdict"),
        (Comparison("no reference", 9), "Train again (materialize key:digit_classifier)"),
    ],
)
def test_without_a_verdict_the_report_says_why(comparison: Comparison | None, said: str) -> None:
    made = drift_report.report("d", "drift_report", {"v": comparison} if comparison else {}, NAMES)
    assert said in made["sentence"]


def test_the_table_has_the_worst_first(found: Comparison) -> None:
    rows = drift_report.rows(found)
    assert [row["statistic"] for row in rows] == [each.name for each in found.worst]
    assert {row["verdict"] for row in rows} == {"as it was"}


def test_the_trend_has_a_gap_where_a_day_has_no_verdict(found: Comparison) -> None:
    usual, nothing = (drift_report.report("d", "drift_report", each, NAMES) for each in ({"v": found}, {}))
    assert np.isnan(drift_pictures.distances([usual, nothing, usual])).tolist() == [False, True, False]


@pytest.mark.slow
def test_pictures_are_drawn_of_every_kind_of_day(reference: Reference, found: Comparison) -> None:
    night = sample(150, 1)
    blank = Sample({"ink": np.full(9, np.nan, np.float32)}, np.full((9, 3), np.nan, np.float32))
    days = [drift_report.report(day, "drift_report", {}, NAMES) for day in ("2026-01-01", "2026-01-02")]
    days.append(drift_report.report("2026-01-03", "drift_report", {"v": found}, NAMES))
    for png in (
        drift_pictures.distributions(reference, night, found, NAMES),
        drift_pictures.distributions(reference, night, Comparison("too few", 3), NAMES),
        drift_pictures.answers(reference, night, NAMES),
        drift_pictures.answers(reference, blank, NAMES),
        drift_pictures.trend(days, 0.02, 0.25),
        drift_pictures.trend(days[:1], 0.02, 0.25),
    ):
        assert png.startswith(b"\x89PNG")
