"""Feedback joined with answers: whose it is, which day, and what counts for nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from digit_files import png, strokes
from people import answered, in_a_file, night, on_the_page, places
from pipelines import Pipeline, metadata

from mnist_pipeline.corrections import Corrections
from mnist_pipeline.measured import Joined, join
from mnist_pipeline.ml.production_accuracy import REPORTED, SAMPLED


def joined(state: Path, days: int = 92) -> Joined:
    there = places(state)
    return join(Corrections(there.traffic).all(), there.traffic, there.nights, days)


def test_answers_and_nights_are_joined_with_what_was_said(tmp_path: Path) -> None:
    images = strokes(3)
    answered(tmp_path, "r-1", images[:1], [1], version="v-1")
    answered(tmp_path, "r-2", images[1:2], [2], version="v-2", role="challenger")
    night(tmp_path, "2026-01-05", {"a.png": png(images[2])}, label="4", version="v-0")
    on_the_page(tmp_path, images[0], "7", request_id="r-1")
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-2,2")
    in_a_file(tmp_path, "b.csv", "file,label", "a.png,9")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    found = {(each.kind, each.version, each.day, each.answer, each.truth) for each in joined(tmp_path).told}
    assert found == {
        (REPORTED, "v-1", today, "1", "7"),
        (SAMPLED, "v-2", today, "2", "2"),
        (SAMPLED, "v-0", "2026-01-05", "4", "9"),
    }


def test_the_newest_counts_and_a_file_before_the_page(tmp_path: Path) -> None:
    one, other = strokes(2)
    answered(tmp_path, "r-1", strokes(1), [1])
    on_the_page(tmp_path, one, "7", request_id="r-1")
    on_the_page(tmp_path, other, "8", request_id="r-1")
    assert [each.truth for each in joined(tmp_path).told] == ["8"]
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,9")
    assert [(each.truth, each.kind) for each in joined(tmp_path).told] == [("9", SAMPLED)]


def test_a_shadow_is_measured_by_the_same_label_and_a_draft_is_not(tmp_path: Path) -> None:
    answered(tmp_path, "r-1", strokes(1), [1], door="draft")
    answered(tmp_path, "r-1", strokes(1), [7], version="v-2", role="shadow")
    on_the_page(tmp_path, strokes(1)[0], "7", request_id="r-1")
    assert [(each.version, each.right) for each in joined(tmp_path).told] == [("v-2", True)]


@pytest.mark.parametrize(
    ("line", "word"),
    [("request_id,label\nr-9,7", "no answer to request"), ("request_id,label\nr-1,7", "several images")],
)
def test_what_cannot_be_joined_says_why(tmp_path: Path, line: str, word: str) -> None:
    answered(tmp_path, "r-1", strokes(2), [1, 2])
    in_a_file(tmp_path, "a.csv", line)
    found = joined(tmp_path)
    assert found.told == []
    assert word in "".join(found.left_out.values())


def test_the_asset_says_what_was_measured_and_that_there_was_nothing(pipeline: Pipeline) -> None:
    nothing = metadata(pipeline.run("production_accuracy"), "production_accuracy")
    assert "nothing to measure" in nothing["summary"]
    answered(pipeline.state, "r-1", strokes(1), [1])
    on_the_page(pipeline.state, strokes(1)[0], "7", request_id="r-1")
    said = metadata(pipeline.run("production_accuracy", production_accuracy={"days": 3}), "production_accuracy")
    assert "a lower bound" in said["summary"]
    assert (said["reported_accuracy"], said["reported_labels"], said["sampled_labels"]) == (0.0, 1, 0)
    value = pipeline.value("production_accuracy")
    assert value["reported"]["by_version"]["v-1"]["labelled"] == 1
    assert (pipeline.state / "pictures" / "production_accuracy" / "over_days.png").exists()
