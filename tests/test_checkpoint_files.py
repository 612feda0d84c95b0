"""Checkpoint files: whole or refused by name, bound to one training, seldom enough to cost nothing, swept."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines import flip_a_bit

from mnist_pipeline.checkpoint_files import KEPT_S, SHARE, CheckpointFiles
from mnist_pipeline.ml.checkpoints import Checkpoint, bound_to
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import DiskShelf

BOUND, OTHER = bound_to(data="ours"), bound_to(data="theirs")


@dataclass
class Notes:
    """What was told."""

    lines: list[str] = field(default_factory=list)

    def info(self, msg: str, /) -> Any:
        self.lines.append(msg)

    def warning(self, msg: str, /) -> Any:
        self.lines.append(f"warning: {msg}")


class FullDisk(DiskShelf):
    """A disk that takes nothing."""

    def put(self, name: str, data: bytes) -> None:
        raise StoreUnavailable("the disk is full")


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def files(tmp_path: Path, notes: Notes) -> CheckpointFiles:
    return CheckpointFiles(DiskShelf(tmp_path / "checkpoints"), BOUND, 0.0, notes)


def after(epoch: int) -> Checkpoint:
    return Checkpoint({"weights": torch.full((50,), float(epoch))}, {"history": [{"number": epoch, "of": 15}]})


def reached(found: Checkpoint | None) -> int:
    assert found
    assert found.tensors["weights"][0] == found.facts["history"][-1]["number"]
    return found.facts["history"][-1]["number"]


def on_disk(files: CheckpointFiles) -> list[Path]:
    assert isinstance(files.shelf, DiskShelf)
    return sorted(path for path in files.shelf.root.glob("*") if path.is_file())


def test_nothing_is_there_at_first_and_nothing_is_said_or_made(files: CheckpointFiles, notes: Notes) -> None:
    assert files.load() is None
    files.clear()
    assert notes.lines == []
    assert not files.shelf.root.exists()  # type: ignore[attr-defined]


def test_the_newest_is_gone_on_from_and_the_only_one_kept(files: CheckpointFiles, notes: Notes) -> None:
    for epoch in (1, 2, 9):
        files.put(after(epoch))
    assert reached(files.load()) == 9
    (path,) = on_disk(files)
    assert notes.lines == [f"the training goes on after epoch 9 of 15: {path}"]
    files.clear()
    assert on_disk(files) == []


def test_it_is_the_same_in_a_bucket(place: Place, notes: Notes) -> None:
    shelf = shelf_at(f"s3://{place.bucket}/{place.prefix}", place.endpoint)
    files = CheckpointFiles(shelf, BOUND, 0.0, notes)
    files.put(after(3))
    files.put(after(4))
    assert len(shelf.list("")) == 1
    assert reached(CheckpointFiles(shelf, BOUND, 0.0, notes).load()) == 4
    files.clear()
    assert shelf.list("") == []


@pytest.mark.parametrize("damage", ["a flipped bit", "torn", "emptied"])
def test_a_damaged_one_is_refused_by_name_and_the_training_starts_anew(
    files: CheckpointFiles, notes: Notes, damage: str
) -> None:
    files.put(after(9))
    (path,) = on_disk(files)
    if damage == "a flipped bit":
        flip_a_bit(path)
    else:
        path.write_bytes(path.read_bytes()[:-20] if damage == "torn" else b"")
    assert files.load() is None
    refused, anew = notes.lines
    assert refused.startswith(f"warning: the checkpoint {path} is refused: it is not whole")
    assert anew == "warning: no checkpoint of this training can be used: it starts anew"
    files.put(after(1))
    assert len(on_disk(files)) == 1  # the damaged one has gone with it


def test_every_bit_counts(files: CheckpointFiles) -> None:
    files.put(after(9))
    (path,) = on_disk(files)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert files.load() is None


def test_behind_a_damaged_one_an_older_one_is_used(files: CheckpointFiles) -> None:
    files.put(after(8))
    (older,) = on_disk(files)
    kept = older.read_bytes()
    files.put(after(9))
    (newer,) = on_disk(files)
    older.write_bytes(kept)  # as after a kill between writing the one and removing the other
    assert reached(files.load()) == 9
    flip_a_bit(newer)
    assert reached(files.load()) == 8


def test_another_trainings_is_never_used(files: CheckpointFiles, notes: Notes) -> None:
    other = replace(files, bound=OTHER)
    other.put(after(9))
    assert files.load() is None
    assert notes.lines == []
    (path,) = on_disk(files)
    path.rename(path.with_name(path.name.replace(OTHER, BOUND)))  # what no program does
    assert files.load() is None
    assert "is refused: it belongs to another training" in notes.lines[0]
    files.clear()
    assert on_disk(files) == []


def test_clearing_leaves_those_of_others(files: CheckpointFiles) -> None:
    files.put(after(1))
    replace(files, bound=OTHER).put(after(2))
    files.clear()
    assert [path.name[:32] for path in on_disk(files)] == [OTHER]


@pytest.mark.parametrize(("aged_s", "left"), [(KEPT_S + 60, 0), (KEPT_S - 60, 1)])
def test_what_nobody_comes_back_to_is_swept(files: CheckpointFiles, aged_s: int, left: int) -> None:
    replace(files, bound=OTHER).put(after(5))
    (path,) = on_disk(files)
    bound, _, sha256 = path.name.split("-")
    path.rename(path.with_name(f"{bound}-{time.time_ns() - aged_s * 10**9:020d}-{sha256}"))
    files.load()
    assert len(on_disk(files)) == left


def test_a_young_checkpoint_is_not_replaced(files: CheckpointFiles) -> None:
    made: list[int] = []

    def make() -> Checkpoint:
        made.append(len(made))
        return after(len(made))

    patient = replace(files, every_s=3_600.0)
    for _ in range(3):
        patient.save(make, over=False)
    assert made == []  # an hour has not gone by since the start
    patient.due = time.monotonic()
    for _ in range(3):
        patient.save(make, over=False)
    assert made == [0]
    assert patient.due > time.monotonic() + 3_500


def test_a_slow_storage_is_asked_seldom(files: CheckpointFiles) -> None:
    def slowly() -> Checkpoint:
        time.sleep(0.05)
        return after(1)

    seldom = replace(files, every_s=0.001)
    time.sleep(0.002)
    seldom.save(slowly, over=False)
    assert seldom.due - time.monotonic() > 0.9 * 0.05 / SHARE


def test_after_each_epoch_is_after_each_epoch(files: CheckpointFiles) -> None:
    for epoch in (1, 2, 3):
        files.save(lambda epoch=epoch: after(epoch), over=False)
        assert reached(files.load()) == epoch


def test_the_last_state_is_kept_where_somebody_takes_it_from_there(files: CheckpointFiles, notes: Notes) -> None:
    assert isinstance(files.shelf, DiskShelf)
    handing_on = replace(files, every_s=3_600.0, last_too=True)
    handing_on.save(lambda: after(14), over=False)
    assert files.newest() is None
    handing_on.save(lambda: after(15), over=True)
    assert reached(files.newest()) == 15
    with pytest.raises(StoreUnavailable):
        replace(handing_on, shelf=FullDisk(files.shelf.root)).save(lambda: after(15), over=True)
    assert notes.lines == []


def test_a_storage_that_fails_ends_no_training_and_is_told(files: CheckpointFiles, notes: Notes) -> None:
    assert isinstance(files.shelf, DiskShelf)
    replace(files, shelf=FullDisk(files.shelf.root)).save(lambda: after(1), over=True)
    assert notes.lines == ["warning: no checkpoint was written, the training goes on without: the disk is full"]


def test_dagsters_and_pythons_log_will_do(files: CheckpointFiles, caplog: pytest.LogCaptureFixture) -> None:
    logged = replace(files, log=logging.getLogger("checkpoints"))
    logged.put(after(9))
    with caplog.at_level(logging.INFO):
        logged.load()
    assert "goes on after epoch 9 of 15" in caplog.text
