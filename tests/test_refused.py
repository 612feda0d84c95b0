"""Records that were put aside: nothing of them is lost, and they go again as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_places import RUN, Place, put_aside

from mnist_pipeline.refused import Refused


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


def test_a_kill_in_the_middle_leaves_each_record_in_one_place_at_least(place: Place) -> None:
    """It is there first; what is in both is sent twice, which counts once."""
    refused = put_aside(place)
    (tag, _) = refused.names()
    name = tag.replace("refused/", "runs/")
    place.spool.shelf.put(name, place.spool.shelf.get(tag))  # killed before it was taken off
    with pytest.raises(TypeError):
        place.spool.record(name)  # the reason is not part of a record
    place.spool.shelf.delete(name)
    assert refused.retry() == 2
