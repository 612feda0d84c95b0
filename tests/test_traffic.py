"""What the service answered, read back as it was logged: the right rows, and nothing lost without a word."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Parts, Predicted
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.traffic import SCHEMA, Traffic, types

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def logged(folder: Path, *requests: str, at: datetime = NOON, door: str = "predict") -> None:
    """One part with a row for each request, a minute apart."""
    log, image, shares = (
        PredictionLog(Parts(DiskShelf(folder))),
        np.zeros((1, 28, 28), np.uint8),
        np.array([[0.25, 0.75]]),
    )
    for minute, request in enumerate(requests):
        answered = at.timestamp() + 60 * minute
        log.add(Predicted(answered, request, door, "champion", "v-1", 3, ["no", "yes"], image, shares))
    log.flush()


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def traffic(tmp_path: Path, faults: list[str]) -> Traffic:
    return Traffic(DiskShelf(tmp_path / "log"), DiskShelf(tmp_path / "feedback"), faults.append)


def requests(traffic: Traffic, since: datetime, until: datetime, *, drafts: bool = False) -> list[str]:
    found: list[str] = traffic.rows(since, until, ["request_id"], drafts=drafts)["request_id"].to_pylist()
    return found


def test_rows_of_a_time_come_in_the_order_of_their_answers(traffic: Traffic, tmp_path: Path) -> None:
    today = datetime.now(timezone.utc)  # a part is named after the day it is written on
    logged(tmp_path / "log", "c", "d", at=today + timedelta(minutes=2))
    logged(tmp_path / "log", "a", "b", at=today)
    assert requests(traffic, today, today + DAY) == ["a", "b", "c", "d"]
    assert requests(traffic, today + timedelta(minutes=1), today + timedelta(minutes=3)) == ["b", "c"]
    assert requests(traffic, today + DAY, today + 2 * DAY) == []
    assert traffic.days() == [f"{today:%Y-%m-%d}"]


def test_every_column_can_be_had_with_rows_and_without(traffic: Traffic, tmp_path: Path) -> None:
    assert set(types()) == set(SCHEMA)
    today = datetime.now(timezone.utc)
    empty = traffic.rows(today, today + DAY, list(SCHEMA))
    logged(tmp_path / "log", "a", at=today)
    full = traffic.rows(today, today + DAY, list(SCHEMA))
    assert empty.column_names == full.column_names == list(SCHEMA)
    assert (len(empty), len(full)) == (0, 1)
    assert full["probabilities"].to_pylist() == [[0.25, 0.75]]
    assert full["label"].to_pylist() == ["yes"]


def test_a_part_from_before_a_column_was_kept_is_read_without_it(
    traffic: Traffic, tmp_path: Path, faults: list[str]
) -> None:
    today = datetime.now(timezone.utc)
    logged(tmp_path / "log", "old", at=today)
    (part,) = (tmp_path / "log").rglob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns(["contrast", "sharpness", "slant"]), part)
    logged(tmp_path / "log", "new", at=today + timedelta(minutes=1))
    rows = traffic.rows(today, today + DAY, ["request_id", "ink", "slant"])
    assert rows.to_pydict() == {"request_id": ["old", "new"], "ink": [0, 0], "slant": [None, 0]}
    assert faults == []


def test_drawings_on_their_way_are_left_out_unless_asked_for(traffic: Traffic, tmp_path: Path) -> None:
    today = datetime.now(timezone.utc)
    logged(tmp_path / "log", "on its way", at=today, door="draft")
    logged(tmp_path / "log", "finished", at=today + timedelta(seconds=1))
    assert requests(traffic, today, today + DAY) == ["finished"]
    assert requests(traffic, today, today + DAY, drafts=True) == ["on its way", "finished"]


def test_a_part_that_is_damaged_is_named_and_the_others_are_read(
    traffic: Traffic, tmp_path: Path, faults: list[str]
) -> None:
    today = datetime.now(timezone.utc)
    logged(tmp_path / "log", "whole", at=today)
    logged(tmp_path / "log", "half", at=today)
    damaged = max((tmp_path / "log").rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert requests(traffic, today, today + DAY) == ["whole"]
    assert [str(damaged) in fault for fault in faults] == [True]


def test_what_people_said_is_read_and_a_record_that_is_broken_is_named(
    traffic: Traffic, tmp_path: Path, faults: list[str]
) -> None:
    kept = Feedback(DiskShelf(tmp_path / "feedback"))
    kept.keep(b"a", "png", "3", request_id="r1", model_version="v-1")
    kept.keep(b"c", "png", "5", request_id="", model_version="v-1")
    (tmp_path / "feedback" / "records" / "broken.json").write_text("{")
    assert sorted((each["request_id"], each["label"]) for each in traffic.records()) == [("", "5"), ("r1", "3")]
    assert ["broken.json" in fault for fault in faults] == [True]


def test_parts_and_records_are_read_many_at_a_time(tmp_path: Path) -> None:
    """In a bucket each takes its time: one after the other, thousands would take longer than a sensor may."""
    today, together = datetime.now(timezone.utc), threading.Barrier(8, timeout=10)

    class FarAway(DiskShelf):
        """Answers when eight have asked."""

        def local(self, name: str) -> AbstractContextManager[Path]:
            together.wait()
            return super().local(name)

    kept = Feedback(DiskShelf(tmp_path / "feedback"))
    for number in range(8):
        logged(tmp_path / "log", f"r-{number}", at=today + timedelta(seconds=number))
        kept.keep(bytes([number]), "png", str(number), request_id=f"r-{number}", model_version="v-1")
    traffic = Traffic(FarAway(tmp_path / "log"), FarAway(tmp_path / "feedback"))
    assert requests(traffic, today, today + DAY) == [f"r-{number}" for number in range(8)]
    said = {each["request_id"]: each["label"] for each in traffic.records()}
    assert said == {f"r-{number}": str(number) for number in range(8)}
