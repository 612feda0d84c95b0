"""Accuracy as people tell it: by kind, version and day, with intervals; and nothing where nothing was said."""

from __future__ import annotations

import pytest

from mnist_pipeline.ml.production_accuracy import REPORTED, SAMPLED, Told, measure, picture


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
