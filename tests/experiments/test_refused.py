"""Records that were put aside: nothing of them is lost, and they go again as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_places import RUN, Place, put_aside

from mnist_pipeline.experiments.refused import Refused


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "http://mlflow.example")


def test_nothing_is_told_of_nothing(place: Place) -> None:
    assert Refused(place.spool).told() == ""


def test_what_is_sent_again_is_what_was_recorded_in_its_order(place: Place) -> None:
    with place.tracker() as tracker:
        for epoch in range(3):
            tracker.metrics({"loss": 0.5}, step=epoch)
        tracker.artifact("pictures/curve.png", b"png")
    before = [(name, place.spool.record(name)) for name in place.spool.waiting(RUN)]
    refused = put_aside(place)
    assert place.spool.waiting(RUN) == []
    assert len(refused.names()) == 6
    assert refused.retry() == 6
    assert [(name, place.spool.record(name)) for name in place.spool.waiting(RUN)][:4] == before
    assert place.spool.shelf.list("refused/") == []


def test_some_are_named_with_their_reason_and_all_are_counted(place: Place) -> None:
    for _ in range(3):
        refused = put_aside(place)
    lines = refused.told().splitlines()
    assert lines[0] == "MLflow has refused 6 records, which are kept:"
    shown = [f"{place.folder}/tracking/{name}: 413 Request Entity Too Large" for name in refused.names()]
    assert lines[1:5] == [*shown[:3], "and 3 more"]
    assert "experiments retry` sends them again" in lines[5]


def test_what_a_kill_in_the_middle_of_sending_again_left_in_both_places_is_sent_again_whole(place: Place) -> None:
    refused = put_aside(place)
    kept = {name: place.spool.shelf.get(name) for name in place.spool.shelf.list("refused/")}
    refused.retry()
    before = {name: place.spool.record(name) for name in place.spool.waiting(RUN)}
    for name, data in kept.items():  # as if killed before they were taken off here
        place.spool.shelf.put(name, data)
    assert refused.retry() == 2
    assert {name: place.spool.record(name) for name in place.spool.waiting(RUN)} == before
    assert place.spool.shelf.list("refused/") == []
