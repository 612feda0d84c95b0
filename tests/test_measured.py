"""Feedback joined with answers: whose it is, which day, and what counts for nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from digit_files import png, strokes
from people import answered, in_a_file, night, on_the_page, places
from pipelines import Pipeline, metadata

from mnist_pipeline.corrections import Corrections
from mnist_pipeline.measured import Joined, join
from mnist_pipeline.ml.production_accuracy import ABSTAINED, NO_DIGIT, REPORTED, SAMPLED, measure


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


def test_where_no_label_was_given_it_is_counted_beside_in_nights_and_at_the_service_alike(tmp_path: Path) -> None:
    images = strokes(5)
    answered(tmp_path, "r-1", images[:1], [7], abstained=True)
    answered(tmp_path, "r-2", images[1:2], [7])
    night(tmp_path, "2026-01-05", {"unsure.png": png(images[2])}, label=None)
    night(tmp_path, "2026-01-06", {"blank.png": png(images[3])}, label=None, confidence=None)
    night(tmp_path, "2026-01-07", {"sure.png": png(images[4])}, label="7")
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,7", "r-2,7", "r-3,7")  # r-3 showed no digit: it has no row
    in_a_file(tmp_path, "b.csv", "file,label", "unsure.png,7", "blank.png,7", "sure.png,1")
    found = joined(tmp_path)
    assert sorted(each.answer for each in found.told) == ["7", "7", ABSTAINED, ABSTAINED, NO_DIGIT]
    assert ["no answer to request 'r-3'" in why for why in found.left_out.values()] == [True]
    sampled = measure(found.told)[SAMPLED]
    assert (sampled["labelled"], sampled["answered"], sampled["right"], sampled["accuracy"]) == (5, 2, 1, 0.5)
    assert (sampled["abstained"], sampled["no_digit"]) == (2, 1)
    assert sampled["mistakes"] == [{"truth": "1", "answer": "7", "count": 1}]


def test_a_part_of_the_log_from_before_abstentions_were_kept_counts_its_labels(tmp_path: Path) -> None:
    answered(tmp_path, "r-1", strokes(1), [7])
    (part,) = (tmp_path / "prediction_log").rglob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns(["abstained"]), part)
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,7")
    assert [each.right for each in joined(tmp_path).told] == [True]


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


def test_the_asset_tells_the_share_that_was_abstained_from(pipeline: Pipeline) -> None:
    for i in range(4):
        answered(pipeline.state, f"r-{i}", strokes(1), [7], abstained=i == 0)
    in_a_file(pipeline.state, "a.csv", "request_id,label", *(f"r-{i},7" for i in range(4)))
    said = metadata(pipeline.run("production_accuracy"), "production_accuracy")
    assert (said["sampled_accuracy"], said["sampled_labels"], said["sampled_abstained"]) == (1.0, 4, 0.25)
    assert "**100.0%** of 3 answers right" in said["summary"]
    assert "1 of 4 abstained from" in said["summary"]


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
