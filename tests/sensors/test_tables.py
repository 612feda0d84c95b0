"""New CSV files: each content is asked for once, when it is whole, through restarts and under any name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnist_pipeline.assets.tabular import tabular_assets
from mnist_pipeline.assets.tabular_datasets import make_known
from mnist_pipeline.datasets.files import EMBEDDED, content_of, key_of
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.resources import Tables, dev_resources
from mnist_pipeline.sensors.tables import FILES_A_TICK, new_tables

SENSOR = new_tables(SUPERSTORE)
PARTITIONS = "superstore_datasets"
RAW = dg.AssetKey(["superstore", "raw_data"])


class Folder:
    """A folder that is watched: what the daemon does with what the sensor says."""

    def __init__(self, root: Path) -> None:
        self.path = root / "superstore"
        self.path.mkdir(parents=True)
        self.tables = Tables(location=str(root), named={})
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.asked: list[str] = []
        self.run_keys: list[str] = []

    def tick(self) -> list[str]:
        """The partitions that are asked for in one tick."""
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, resources={"tables": self.tables})
        result = SENSOR(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(PARTITIONS, list(request.partition_keys))
        self.cursor = result.cursor
        keys = [str(request.partition_key) for request in result.run_requests or []]
        assert set(keys) <= set(self.partitions())
        for key in keys:
            self.run_on(key)
        self.asked += keys
        self.run_keys += [str(request.run_key) for request in result.run_requests or []]
        return keys

    def run_on(self, key: str) -> None:
        """What a run leaves behind of which no more is known here."""
        self.instance.report_runless_asset_event(dg.AssetMaterialization(RAW, partition=key))

    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(PARTITIONS))

    def drop(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)


@pytest.fixture(autouse=True, scope="module")
def nothing_is_waited_for() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_pipeline.datasets.files.SETTLE_S", 0.0)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_first_tick_offers_the_embedded_table_and_runs_nothing(folder: Folder) -> None:
    assert folder.tick() == []
    assert folder.partitions() == [EMBEDDED]


def test_a_file_is_asked_for_once_when_two_ticks_saw_it_the_same(folder: Folder) -> None:
    folder.drop("orders.csv", b"one")
    assert folder.tick() == []
    assert folder.tick() == [key_of("orders.csv", b"one")]
    assert folder.tick() == folder.tick() == []
    assert folder.partitions() == [EMBEDDED, key_of("orders.csv", b"one")]


def test_a_file_that_grows_waits(folder: Folder) -> None:
    for size in range(1, 5):
        folder.drop("orders.csv", b"x" * size)
        assert folder.tick() == []
    assert folder.tick() == [key_of("orders.csv", b"xxxx")]


def test_a_changed_file_is_another_dataset_and_a_copy_is_none(folder: Folder) -> None:
    folder.drop("orders.csv", b"one")
    folder.tick(), folder.tick()
    folder.drop("orders.csv", b"other")
    folder.drop("copy.csv", b"one")
    folder.tick()
    assert folder.tick() == [key_of("orders.csv", b"other")]
    assert folder.tick() == []


def test_many_files_are_spread_over_ticks(folder: Folder) -> None:
    for number in range(FILES_A_TICK + 3):
        folder.drop(f"{number:03}.csv", str(number).encode())
    folder.tick()
    assert len(folder.tick()) == FILES_A_TICK
    assert len(folder.tick()) == 3


def test_nothing_that_is_unfinished_or_no_csv_is_asked_for(folder: Folder) -> None:
    for name in ("a.csv.part", ".a.csv", "a.txt"):
        folder.drop(name, b"one")
    assert folder.tick() == folder.tick() == []


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_seen(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv"):
        folder.drop(name, name.encode())
    read = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.name == "a.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    folder.tick()
    assert folder.tick() == [key_of("b.csv", b"b.csv")]
    monkeypatch.undo()
    assert folder.tick() == [key_of("a.csv", b"a.csv")]


def test_a_deleted_dataset_runs_again_when_its_file_is_dropped_again(folder: Folder) -> None:
    folder.drop("a.csv", b"one")
    folder.tick(), folder.tick()
    folder.instance.delete_dynamic_partition(PARTITIONS, folder.asked[0])
    assert folder.tick() == []
    os.utime(folder.path / "a.csv", (1, 1))
    folder.tick()
    assert folder.tick() == [folder.asked[0]]
    assert len(set(folder.run_keys)) == 2


def test_a_dataset_that_was_only_made_known_is_asked_for_once(folder: Folder) -> None:
    folder.drop("late.csv", b"one")
    make_known(folder.instance, folder.tables)
    assert folder.tick() == []
    assert folder.tick() == [key_of("late.csv", b"one")]
    assert folder.tick() == []
    folder.cursor = None
    assert folder.tick() == folder.tick() == []


def test_it_is_asked_for_under_the_name_by_which_it_is_known(folder: Folder) -> None:
    folder.drop("late.csv", b"one")
    make_known(folder.instance, folder.tables)
    (folder.path / "late.csv").rename(folder.path / "other.csv")
    folder.tick()
    assert folder.tick() == [key_of("late.csv", b"one")]
    assert folder.partitions() == [key_of("late.csv", b"one"), EMBEDDED]


def test_a_dataset_that_somebody_runs_on_by_hand_is_not_asked_for(folder: Folder) -> None:
    """Neither while that run goes on, nor when it has failed."""
    folder.drop("late.csv", b"one")
    (found,) = make_known(folder.instance, folder.tables)
    definitions = dg.Definitions(tabular_assets(SUPERSTORE), resources=dev_resources({}))
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={RAW})
    tags = {"dagster/partition": found.new[0]}
    folder.instance.create_run_for_job(job, asset_selection=frozenset([RAW]), tags=tags)
    assert folder.tick() == folder.tick() == []


def test_a_file_that_a_variable_names_wrongly_keeps_no_other_from_being_seen(folder: Folder, tmp_path: Path) -> None:
    folder.tables = Tables(location=str(tmp_path), named={"superstore": str(tmp_path / "nowhere.csv")})
    folder.drop("a.csv", b"one")
    folder.tick()
    assert folder.tick() == [key_of("a.csv", b"one")]


class DroppedFiles(RuleBasedStateMachine):
    """Whatever is dropped, changed, renamed and removed, and whenever the daemon restarts from an older cursor:
    each content that stayed for two ticks is asked for exactly once."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Folder(Path(self.temporary.name))

    def teardown(self) -> None:
        self.temporary.cleanup()

    @rule(name=st.sampled_from("ab"), content=st.sampled_from(["1", "22", "333"]))
    def drop(self, name: str, content: str) -> None:
        self.folder.drop(f"{name}.csv", content.encode())

    @rule(name=st.sampled_from("ab"))
    def remove(self, name: str) -> None:
        (self.folder.path / f"{name}.csv").unlink(missing_ok=True)

    @rule()
    def make_datasets(self) -> None:
        make_known(self.folder.instance, self.folder.tables)

    @rule()
    def tick(self) -> None:
        self.folder.tick()

    @rule()
    def forget(self) -> None:
        """The cursor is lost; partitions are not."""
        self.folder.cursor = None

    @rule()
    def settle(self) -> None:
        self.folder.tick(), self.folder.tick()
        there = {content_of(key_of("", path.read_bytes())) for path in self.folder.path.iterdir()}
        assert there <= {content_of(key) for key in self.folder.asked}

    @invariant()
    def nothing_is_asked_for_twice(self) -> None:
        contents = [content_of(key) for key in self.folder.asked]
        assert len(contents) == len(set(contents))


TestDroppedFiles = DroppedFiles.TestCase
TestDroppedFiles.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
