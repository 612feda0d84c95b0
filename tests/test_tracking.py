"""Recording: in order, whole, never in the way of a training; and the addresses of MLflow's pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from mlflow_places import RUN, Place

from mnist_pipeline.experiments.spool import Spool, ordered_name
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.tracking import NoTracker, Pages, experiment_key, without_login


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "http://mlflow.example")


class FullShelf(DiskShelf):
    """A disk that takes `room` more files."""

    room: ClassVar = [0]

    def put(self, name: str, data: bytes) -> None:
        if self.room[0] < 1:
            raise StoreUnavailable(f"cannot write {name}: the disk is full")
        self.room[0] -= 1
        super().put(name, data)


@pytest.fixture
def full(place: Place) -> Spool:
    FullShelf.room = [0]
    return replace(place.spool, shelf=FullShelf(Path(place.order.spool)))


# --- order and wholeness ---


def test_names_sort_in_the_order_in_which_they_were_given() -> None:
    names = [ordered_name() for _ in range(2_000)]
    assert names == sorted(names)
    assert len(set(names)) == len(names)


def test_records_of_several_steps_come_out_in_order(place: Place) -> None:
    for step in range(3):
        with place.tracker() as tracker:
            tracker.params({"step": step})
            tracker.metrics({"loss": 0.5}, step=step)
            tracker.artifact("curve.png", b"png")
    found = [place.spool.record(name) for name in place.spool.waiting(RUN)]
    kinds = [(entry[0].kind, entry[1]) for entry in found if entry]
    assert kinds == [("params", b""), ("metrics", b""), ("artifact", b"png")] * 3
    assert list(place.spool.runs()) == [RUN]


def test_an_artifact_without_its_record_is_no_record(place: Place, full: Spool) -> None:
    FullShelf.room = [2]  # run.json and the bytes, as if the process had been killed then
    with place.tracker(spool=full) as tracker:
        tracker.artifact("curve.png", b"png")
    assert place.spool.waiting(RUN) == []
    place.spool.close(RUN)
    assert place.spool.shelf.list("") == []


def test_a_record_that_comes_while_its_run_is_closed_is_not_forgotten(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.artifact("curve.png", b"png")
        place.spool.close(RUN)
    (name,) = place.spool.waiting(RUN)
    found, facts = place.spool.record(name), place.spool.facts(RUN)
    assert found is not None
    assert found[1] == b"png"
    assert facts is not None
    assert facts.run_id == RUN


def test_values_are_text_that_mlflow_takes(place: Place) -> None:
    with place.tracker() as tracker:
        tracker.params({"width": 8, "nothing": None})
        tracker.tags({"reason": "x" * 10_000})
    (params, tags) = (place.spool.record(name) for name in place.spool.waiting(RUN))
    assert params is not None
    assert params[0].values == {"width": "8"}
    assert tags is not None
    assert len(tags[0].values["reason"]) == 5_000


def test_nothing_is_recorded_where_tracking_is_off(tmp_path: Path) -> None:
    with NoTracker() as tracker:
        tracker.params({"a": 1})
        tracker.metrics({"a": 1.0})
        tracker.tags({"a": "b"})
        tracker.artifact("a", b"")
    assert tracker.link() == ""


# --- never in the way ---


def test_a_spool_that_cannot_be_written_is_tried_again_at_the_end(
    place: Place, full: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("test")
    with place.tracker(spool=full, log=log) as tracker:
        for epoch in range(5):
            tracker.metrics({"loss": 1.0}, step=epoch)
        FullShelf.room = [100]
    assert [entry[0].step for name in full.waiting(RUN) if (entry := full.record(name))] == [0, 1, 2, 3, 4]
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]


def test_records_that_are_lost_are_told_loudly_and_the_step_goes_on(
    place: Place, full: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    with place.tracker(spool=full, log=logging.getLogger("test")) as tracker:
        for epoch in range(5):
            tracker.metrics({"loss": 1.0}, step=epoch)
    assert caplog.records[-1].levelname == "ERROR"
    assert "5 tracking records of this step are lost" in caplog.text
    assert "the disk is full" in caplog.text


class Followed:
    """What begins and ends the sending while a run goes on, counted."""

    def __init__(self) -> None:
        self.begun, self.ended = 0, 0

    def start(self) -> Callable[[], None]:
        self.begun += 1
        return self.stop

    def stop(self) -> None:
        self.ended += 1


def test_sending_begins_with_the_first_record_and_is_told_the_end(place: Place) -> None:
    followed = Followed()
    with place.tracker(start=followed.start) as tracker:
        assert followed.begun == 0
        for epoch in range(3):
            tracker.metrics({"loss": 1.0}, step=epoch)
        assert (followed.begun, followed.ended) == (1, 0)
    assert (followed.begun, followed.ended) == (1, 1)


def test_the_end_is_told_also_when_the_step_fails(place: Place) -> None:
    followed = Followed()

    def diverge() -> None:
        with place.tracker(start=followed.start) as tracker:
            tracker.metrics({"loss": 1.0})
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    assert followed.ended == 1
    assert len(place.spool.waiting(RUN)) == 1


# --- addresses ---


def test_the_link_is_as_exact_as_what_is_known(place: Place) -> None:
    tracker, home = place.tracker(), "http://mlflow.example/#/experiments"
    assert tracker.link() == home
    place.spool.claim(experiment_key("experiment"), "7")
    assert tracker.link() == f"{home}/7/runs?searchFilter=tags.dagster_run_id%20%3D%20%27{RUN}%27"
    place.spool.claim(RUN, "abc")
    assert tracker.link() == f"{home}/7/runs/abc"


def test_a_store_that_is_no_server_is_shown_by_make_mlflow() -> None:
    assert Pages.of("sqlite:////tmp/mlflow.db", "x").home == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@mlflow.example/x", "https://mlflow.example/x"),
        ("http://mlflow.example:5000", "http://mlflow.example:5000"),
        ("postgresql://user:secret@host/db", "postgresql://host/db"),
    ],
)
def test_a_login_is_never_shown(uri: str, shown: str) -> None:
    assert without_login(uri) == shown
    assert "secret" not in Pages.of(uri, "x").home
