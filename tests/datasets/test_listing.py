"""`make datasets`: what it lists, what it makes known, and how it ends."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from pipelines import at_home, call, instance_of

from mnist_pipeline.assets.tabular_datasets import make_known
from mnist_pipeline.datasets.files import EMBEDDED, key_of
from mnist_pipeline.resources import Tables

PARTITIONS = "superstore_datasets"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets" / "superstore"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tables(folder: Path) -> Tables:
    return Tables(location=str(folder.parent), named={})


def test_files_become_partitions_once_for_each_content(folder: Path, tables: Tables) -> None:
    (folder / "a.csv").write_bytes(b"one")
    (folder / "copy of a.csv").write_bytes(b"one")
    with dg.DagsterInstance.ephemeral() as instance:
        (found,) = make_known(instance, tables)
        key = key_of("a.csv", b"one")
        assert (found.new, dict(found.where), found.faults) == ([key], {key: str(folder / "a.csv")}, [])
        (folder / "a.csv").unlink()
        (again,) = make_known(instance, tables)
        assert (again.new, dict(again.where)) == ([], {key: str(folder / "copy of a.csv")})
        assert list(instance.get_dynamic_partitions(PARTITIONS)) == [key]


def test_storage_that_cannot_be_read_is_a_fault_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> dict[str, tuple[int, int]]:
        from mnist_pipeline.storage.blobs import StoreUnavailable

        raise StoreUnavailable("no bucket")

    monkeypatch.setattr("mnist_pipeline.datasets.files.listing", broken)
    (tmp_path / "superstore").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        (found,) = make_known(instance, Tables(location=str(tmp_path), named={}))
    assert (found.faults, found.new) == (["no bucket"], [])


@pytest.mark.slow
def test_each_dataset_is_listed_with_its_command_and_a_wrong_variable_by_its_name(tmp_path: Path) -> None:
    env = at_home(tmp_path, SUPERSTORE_CSV=str(tmp_path / "nowhere.csv"), MLFLOW_TRACKING_URI="none")
    folder = tmp_path / "state" / "datasets" / "superstore"
    folder.mkdir(parents=True)
    (folder / "orders.csv").write_bytes(b"one")
    key = key_of("orders.csv", b"one")
    told = call("-m", "mnist_pipeline.datasets", **env)
    assert told.returncode == 1, told.stderr
    assert f"FAILED: SUPERSTORE_CSV names {tmp_path / 'nowhere.csv'}, which is not there" in told.stdout
    assert "Traceback" not in told.stderr
    for each in (EMBEDDED, key):
        assert f"--select 'key:superstore/*' --partition {each}\n" in told.stdout
    with instance_of(env) as instance:
        assert set(instance.get_dynamic_partitions(PARTITIONS)) == {EMBEDDED, key}
    del env["SUPERSTORE_CSV"]
    assert call("-m", "mnist_pipeline.datasets", **env).returncode == 0
