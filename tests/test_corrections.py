"""What people said was right: read whole, or named with the reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from digit_files import strokes
from people import in_a_file, on_the_page, places

from mnist_pipeline import corrections
from mnist_pipeline.corrections import Correction, Corrections, NoCorrections


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def said(tmp_path: Path, faults: list[str]) -> Corrections:
    return Corrections(places(tmp_path, faults).traffic, faults.append)


def test_nothing_was_said(said: Corrections, faults: list[str]) -> None:
    assert said.all() == NoCorrections().all() == faults == []


def test_what_the_page_keeps_comes_with_request_and_time(said: Corrections, tmp_path: Path) -> None:
    name = on_the_page(tmp_path, strokes(1)[0], "7", request_id="r-1")
    (found,) = said.all()
    assert (found.label, found.origin, found.image, found.request_id) == ("7", "page", name, "r-1")
    assert found.time.endswith("+00:00")


def test_a_picture_without_a_record_is_what_its_folder_says(said: Corrections, tmp_path: Path) -> None:
    name = on_the_page(tmp_path, strokes(1)[0], "7")
    for record in (tmp_path / "feedback" / "records").iterdir():
        record.unlink()
    assert said.all() == [Correction("7", "page", name, image=name)]


def test_lines_about_answers_and_about_files_of_nights(said: Corrections, tmp_path: Path, faults: list[str]) -> None:
    in_a_file(tmp_path, "a.csv", "\ufeffrequest_id, label,index", "r-1,7,", "r-2, 3 ,1")
    in_a_file(tmp_path, "b.csv", "file,label,night,row,time", "x.png,4,2026-01-05,,2026-01-06T10:00:00+02:00")
    in_a_file(tmp_path, "notes.txt", "not for us")
    first, second, third = said.all()
    assert (first.request_id, first.index, second.label, second.index) == ("r-1", None, "3", 1)
    assert first.where == "labels/a.csv, line 2"
    assert (third.file, third.night, third.row, third.origin) == ("x.png", "2026-01-05", 0, "nights")
    assert third.time == "2026-01-06T08:00:00.000000+00:00"
    assert faults == []


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["request_id,file,label", "r,f,1"], "its columns are"),
        (["request_id", "r"], "its columns are"),
        (["request_id,label,colour", "r,1,red"], "colour"),
        (["request_id,label", "r-1"], "fewer fields"),
        (["request_id,label", "r-1,7,8"], "fewer fields"),
        (["request_id,label", ",7"], "must not be empty"),
        (["request_id,label,index", "r-1,7,x"], "index='x'"),
        (["file,label,time", "x.png,7,yesterday"], "yesterday"),
        (["file,label", "x.parquet,7"], "x.parquet holds an image a row: a column row says which, from 0"),
        (["file,label,row", "x.npy,7,"], "a column row says which"),
        (["request_id,label", '"r-1,7'], "left out"),
        ([""], "its columns are"),
    ],
)
def test_a_line_that_says_nothing_is_named(
    said: Corrections, tmp_path: Path, faults: list[str], lines: list[str], word: str
) -> None:
    in_a_file(tmp_path, "bad.csv", *lines)
    in_a_file(tmp_path, "good.csv", "request_id,label", "r-9,9")
    assert [each.request_id for each in said.all()] == ["r-9"]
    assert len(faults) == 1
    assert "bad.csv" in faults[0]
    assert word in faults[0]


def test_a_file_in_another_encoding_and_a_bad_record_hold_nothing_up(
    said: Corrections, tmp_path: Path, faults: list[str]
) -> None:
    in_a_file(tmp_path, "latin.csv", "request_id,label").write_bytes(b"request_id,label\nr\xe4,1\n")
    on_the_page(tmp_path, strokes(1)[0], "7")
    (record,) = (tmp_path / "feedback" / "records").iterdir()
    record.write_text(json.dumps({**json.loads(record.read_text()), "time": "soon"}))
    assert [(each.label, each.time) for each in said.all()] == [("7", "")]
    assert ["soon" in fault or "latin.csv" in fault for fault in faults] == [True, True]


def test_a_file_of_labels_that_cannot_be_read_for_its_name_is_told(
    said: Corrections, tmp_path: Path, faults: list[str]
) -> None:
    in_a_file(tmp_path, "LABELS.CSV", "request_id,label", "r-1,1")
    in_a_file(tmp_path, "labels (1).csv", "request_id,label", "r-2,2")
    assert [each.request_id for each in said.all()] == ["r-1"]
    (fault,) = faults
    assert fault.startswith("labels/labels (1).csv is not read: rename it")


def test_lines_are_bounded(
    said: Corrections, tmp_path: Path, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "MOST_LINES", 2)
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,1", "r-2,2", "r-3,3")
    assert len(said.all()) == 2
    assert "line 4" in faults[0]
    monkeypatch.setattr(corrections, "MOST_BYTES", 5)
    assert said.all() == []
