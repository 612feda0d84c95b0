"""Accuracy as people tell it: by kind, version and day, with intervals; and nothing where nothing was said."""

from __future__ import annotations

import pytest

from mnist_pipeline.ml.production_accuracy import (
    ABSTAINED,
    NO_DIGIT,
    REPORTED,
    SAMPLED,
    Told,
    measure,
    picture,
)


def told(count: int, right: int, *, kind: str = SAMPLED, version: str = "v-1", day: str = "2026-03-01") -> list[Told]:
    return [Told(kind, version, day, "7" if i < right else "1", "7") for i in range(count)]


def test_by_version_and_day_with_intervals() -> None:
    measured = measure([*told(100, 97), *told(50, 40, version="v-2"), *told(50, 50, version="v-2", day="2026-03-02")])
    sampled = measured[SAMPLED]
    assert (sampled["labelled"], sampled["right"]) == (200, 187)
    assert sampled["by_version"]["v-1"]["accuracy"] == pytest.approx(0.97)
    assert sampled["by_version"]["v-1"]["low"] == pytest.approx(0.9155, abs=1e-3)  # Wilson's, by his formula
    assert sampled["by_version"]["v-1"]["high"] == pytest.approx(0.9897, abs=1e-3)
    assert [each["accuracy"] for each in sampled["by_day"]["v-2"].values()] == [0.8, 1.0]
    assert sampled["mistakes"] == [{"truth": "7", "answer": "1", "count": 13}]


def test_what_is_reported_is_never_mixed_with_what_was_sampled() -> None:
    measured = measure([*told(10, 0, kind=REPORTED), *told(10, 10)])
    assert measured[REPORTED]["accuracy"] == 0.0
    assert measured[SAMPLED]["accuracy"] == 1.0


def test_images_that_got_no_label_are_no_mistakes_and_are_told_beside() -> None:
    unanswered = [Told(SAMPLED, "v-1", "2026-03-01", answer, "7") for answer in (*[ABSTAINED] * 30, *[NO_DIGIT] * 20)]
    measured = measure([*told(50, 49), *unanswered])[SAMPLED]
    assert (measured["labelled"], measured["answered"], measured["accuracy"]) == (100, 50, 0.98)
    assert (measured["abstained"], measured["no_digit"]) == (30, 20)
    assert measured["mistakes"] == [{"truth": "7", "answer": "1", "count": 1}]
    assert measured["by_version"]["v-1"]["abstained"] == 30


def test_where_no_image_got_a_label_there_is_no_accuracy_and_nothing_to_draw() -> None:
    measured = measure([Told(SAMPLED, "v-1", "2026-03-01", ABSTAINED, "7")])
    assert "accuracy" not in measured[SAMPLED]
    assert picture(measured) == picture(measure([]))
    both = measure([Told(SAMPLED, "v-1", "2026-03-01", ABSTAINED, "7"), *told(9, 8, day="2026-03-02")])
    assert picture(both) == picture(measure(told(9, 8, day="2026-03-02")))


def test_nothing_was_said() -> None:
    measured = measure([])
    assert measured[SAMPLED] == measured[REPORTED]
    assert measured[SAMPLED]["labelled"] == 0
    assert "accuracy" not in measured[SAMPLED]
    assert picture(measured).startswith(b"\x89PNG")


def test_the_picture_shows_the_sample_and_else_the_reports() -> None:
    reports = measure(told(5, 1, kind=REPORTED))
    both = measure([*told(5, 1, kind=REPORTED), *told(50, 49)])
    assert len({picture(reports), picture(both), picture(measure(told(50, 49)))}) == 2
