"""CSV files of a task: a key stands for the content, wherever the file lies and whatever it is called."""

from __future__ import annotations

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


def test_a_folder_that_is_not_there_has_no_files_and_a_named_file_must_be_there(tmp_path: Path) -> None:
    assert Datasets(tmp_path / "none").files() == {}
    with pytest.raises(StoreUnavailable, match=r"none\.csv"):
        Datasets(tmp_path, tmp_path / "none.csv").files()


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
