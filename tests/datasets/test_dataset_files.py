"""CSV files of a task: a key stands for the content, wherever the file lies and whatever it is called."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mnist_pipeline.datasets.files import Datasets, UnknownDataset, content_of, key_of
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.s3_requests import Place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "superstore"
    folder.mkdir()
    (folder / "Sample - Superstore (2).csv").write_bytes(b"one")
    (folder / "orders.CSV").write_bytes(b"two")
    for other in ("notes.txt", ".hidden.csv", "half.csv.part"):
        (folder / other).write_bytes(b"no")
    return folder


def test_the_csv_files_of_a_folder_are_datasets(folder: Path) -> None:
    assert [each.key for each in Datasets(folder).all()] == ["sample-superstore-2-7692c3ad", "orders-3fc4ccfe"]


def test_those_under_a_prefix_in_s3_too(place: Place, folder: Path) -> None:
    for path in folder.iterdir():
        place.put(path.name, path.read_bytes())
    found = list(Datasets(place).all())
    assert [each.key for each in found] == ["sample-superstore-2-7692c3ad", "orders-3fc4ccfe"]
    assert Datasets(place).find("orders-3fc4ccfe").data == b"two"
    assert found[1].where == place.where("orders.CSV")


def test_a_named_file_is_one_more(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_bytes(b"three")
    assert next(each.name for each in Datasets(folder, elsewhere).all()) == str(elsewhere)
    assert Datasets(tmp_path / "none", elsewhere).find(key_of("elsewhere.csv", b"three")).where == str(elsewhere)


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert Datasets(tmp_path / "none").files() == {}


@pytest.mark.parametrize(("named", "what"), [("none.csv", "is not there"), ("superstore", "is a folder")])
def test_a_named_file_that_cannot_be_read_is_told_by_its_variable_and_hides_no_other(
    folder: Path, tmp_path: Path, named: str, what: str
) -> None:
    files, faults = Datasets(folder, tmp_path / named, "SUPERSTORE_CSV"), list[str]()
    assert [each.name for each in files.all(faults.append)] == ["Sample - Superstore (2).csv", "orders.CSV"]
    told = f"SUPERSTORE_CSV names {tmp_path / named}, which {what}: name a CSV file, or unset SUPERSTORE_CSV"
    assert faults == [told]
    with pytest.raises(StoreUnavailable, match=what):
        files.read(str(tmp_path / named))
    assert files.find("orders-3fc4ccfe").data == b"two"
    with pytest.raises(UnknownDataset, match=f"It may be one that cannot be read: SUPERSTORE_CSV .* {what}"):
        files.find("other-00000000")


def test_a_file_that_somebody_writes_is_told_and_left_for_the_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(seconds: float) -> None:
        (folder / "orders.CSV").write_bytes(b"two and more")

    os.utime(folder / "orders.CSV")
    monkeypatch.setattr("time.sleep", meanwhile)
    faults: list[str] = []
    assert [each.name for each in Datasets(folder).whole(faults.append)] == ["Sample - Superstore (2).csv"]
    assert faults == ["orders.CSV is being written: try again when it is whole"]


def test_files_that_have_been_there_for_a_while_are_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time_ns() + 2_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: later)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waited"))
    assert len(list(Datasets(folder).whole())) == 2


def test_content_is_gone_when_no_file_has_it_and_all_can_be_read(folder: Path, tmp_path: Path) -> None:
    keys = ["embedded", "renamed-3fc4ccfe", "orders-00000000"]
    assert Datasets(folder).gone(keys) == {"orders-00000000"}
    assert Datasets(folder, tmp_path / "none.csv").gone(keys) == set()


def test_a_dataset_is_found_under_another_name(folder: Path) -> None:
    (folder / "orders.CSV").rename(folder / "renamed.csv")
    assert Datasets(folder).find("orders-3fc4ccfe").where == str(folder / "renamed.csv")


def test_content_that_is_gone_is_told_with_what_there_is(folder: Path) -> None:
    (folder / "orders.CSV").write_bytes(b"other")
    with pytest.raises(UnknownDataset, match=r"'orders-3fc4ccfe' any more; there are .*sample-superstore-2-7692c3ad"):
        Datasets(folder).find("orders-3fc4ccfe")


@pytest.mark.parametrize(
    ("name", "simple"), [("../../etc/Päss wörd.csv", "p-ss-w-rd"), ("…", "table"), ("x" * 99 + ".csv", "x" * 60)]
)
def test_a_key_is_made_of_simple_characters(name: str, simple: str) -> None:
    assert key_of(name, b"") == f"{simple}-e3b0c442"
    assert content_of(key_of(name, b"")) == "e3b0c442"
