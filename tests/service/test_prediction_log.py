"""The prediction log: complete, never in the way of an answer, and bounded."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipelines import Pipeline
from processes import wait
from served import RAW, deploy, served

from mnist_pipeline.service import prediction_log
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Parts, Predicted
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.shelves import DiskShelf

NAMES = ["no", "yes"]


def predicted(count: int = 1, request: str = "r") -> Predicted:
    images = np.full((count, 28, 28), 7, np.uint8)
    return Predicted(1e9, request, "predict", "champion", "v-1", 3, NAMES, images, np.full((count, 2), [0.25, 0.75]))


def rows(folder: Path) -> list[dict[str, Any]]:
    """In the order of their answers; parts that were begun in the same second are named in any order."""
    parts = sorted(folder.rglob("*.parquet"))
    found = pa.concat_tables([pq.read_table(path) for path in parts]).to_pylist() if parts else []
    return sorted(found, key=lambda row: row["time"])


def test_a_row_says_everything_about_a_prediction(tmp_path: Path) -> None:
    log = PredictionLog(Parts(DiskShelf(tmp_path), images=True))
    log.add(predicted(2))
    log.flush()
    first, second = rows(tmp_path)
    assert first["time"].isoformat() == "2001-09-09T01:46:40+00:00"
    assert (first["request_id"], first["index"], second["index"]) == ("r", 0, 1)
    assert (first["door"], first["role"], first["model_version"], first["decision"]) == (
        "predict",
        "champion",
        "v-1",
        3,
    )
    assert (first["label"], first["confidence"], first["probabilities"]) == ("yes", 0.75, [0.25, 0.75])
    assert (first["class_names"], first["ink"], first["image"]) == (NAMES, 7.0, bytes([7]) * 784)
    assert (first["contrast"], first["sharpness"], first["slant"]) == (0, 0, 0)
    assert first["sha256"] == hashlib.sha256(bytes([7]) * 784).hexdigest()


def test_every_door_leaves_a_row_and_images_only_where_wanted(pipeline: Pipeline) -> None:
    image = pipeline.digits()["test"].images[0]
    blank = np.zeros((28, 28), np.uint8)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": image.tolist()}
    for images in (False, True):
        with served(pipeline.state, images=images) as client:
            client.post("/predict", content=image.tobytes() + blank.tobytes(), headers=RAW)
            client.post("/invocations", json={"inputs": [image.tolist()]})
            client.post("/v2/models/digit_classifier/infer", json={"inputs": [tensor]})
        found = rows(pipeline.state / "prediction_log")
        assert [each["door"] for each in found[-3:]] == ["predict", "invocations", "infer"]
        assert [each["image"] is not None for each in found[-3:]] == [images] * 3
        assert {each["model_version"] for each in found} == {pipeline.store.production()}
    assert len(found) == 6  # where there was no digit, nothing was predicted


def test_a_row_says_which_of_the_images_sent_it_is_about(pipeline: Pipeline) -> None:
    """Those without a digit count too, as they do in the answer."""
    test = pipeline.digits()["test"]
    blank = np.zeros((28, 28), np.uint8)
    with served(pipeline.state, images=True) as client:
        for sent in ([blank, *test.images[:2]], [test.images[2]], [blank, test.images[3], blank], [blank]):
            body = {"images": [{"pixels": each.tolist()} for each in sent]}
            assert client.post("/predict", json=body).status_code == 200
    found = [(row["index"], row["image"]) for row in rows(pipeline.state / "prediction_log")]
    images = [each.tobytes() for each in test.images[:4]]
    assert found == [(1, images[0]), (2, images[1]), (0, images[2]), (1, images[3])]


@pytest.mark.parametrize("abstain", [False, True])
def test_a_row_says_whether_a_label_was_given(pipeline: Pipeline, abstain: bool) -> None:
    """Only `/predict` abstains; the most probable class is kept all the same, and a blank image has no row."""
    deploy(pipeline.store, pipeline.four_or_nine())
    image = pipeline.digits()["test"].images[0]
    with served(pipeline.state, abstain=abstain) as client:
        client.post("/predict", content=bytes(784) + image.tobytes(), headers=RAW)
        client.post("/invocations", json={"inputs": [image.tolist()]})
    found = [(row["door"], row["label"], row["abstained"]) for row in rows(pipeline.state / "prediction_log")]
    assert found == [("predict", "4", abstain), ("invocations", "4", False)]


def test_what_was_on_its_way_only_is_told_apart(pipeline: Pipeline) -> None:
    image = pipeline.digits()["test"].images[0].tobytes()
    with served(pipeline.state) as client:
        for query in ("", "?draft=true", "?seen=true&draft=false"):
            assert client.post(f"/predict{query}", content=image, headers=RAW).status_code == 200
        assert client.post("/predict?draft=1", content=image, headers=RAW).status_code == 400
    assert [row["door"] for row in rows(pipeline.state / "prediction_log")] == ["predict", "draft", "predict"]


def test_it_can_be_switched_off(pipeline: Pipeline) -> None:
    with served(pipeline.state, log=False) as client:
        client.post("/predict", content=pipeline.digits()["test"].images[0].tobytes(), headers=RAW)
    assert not (pipeline.state / "prediction_log").exists()


def test_a_part_grows_until_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "ROWS_A_PART", 5)
    log = PredictionLog(Parts(DiskShelf(tmp_path)))
    for i in range(12):
        log.add(predicted(request=str(i)))
        log.flush()
    assert [pq.read_metadata(path).num_rows for path in sorted(tmp_path.rglob("*.parquet"))] == [5, 5, 2]
    assert [row["request_id"] for row in rows(tmp_path)] == [str(i) for i in range(12)]


def test_a_part_that_is_old_enough_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "PART_S", 0.0)
    log = PredictionLog(Parts(DiskShelf(tmp_path)))
    for _ in range(3):
        log.add(predicted())
        log.flush()
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


class Away(DiskShelf):
    """A shelf that cannot be written to for a while."""

    away = True

    def put(self, name: str, data: bytes) -> None:
        if self.away:
            raise StoreUnavailable("the disk is full")
        super().put(name, data)


def test_while_storage_is_away_rows_wait_and_none_is_written_twice(tmp_path: Path) -> None:
    shelf = Away(tmp_path)
    log = PredictionLog(Parts(shelf))
    for i in range(3):
        log.add(predicted(request=str(i)))
        with pytest.raises(StoreUnavailable):
            log.flush()
    Away.away = False
    try:
        log.flush()
        log.flush()
    finally:
        Away.away = True
    assert [row["request_id"] for row in rows(tmp_path)] == ["0", "1", "2"]


def test_what_does_not_fit_any_more_is_dropped_and_counted(tmp_path: Path) -> None:
    log = PredictionLog(Parts(Away(tmp_path)), most=5)
    for _ in range(4):
        log.add(predicted(2))
        with pytest.raises(StoreUnavailable):
            log.flush()
    assert log.dropped == 4


class Stuck(DiskShelf):
    """A shelf that takes as long as it is let."""

    let = threading.Event()

    def put(self, name: str, data: bytes) -> None:
        self.let.wait(30)
        super().put(name, data)


def test_an_answer_never_waits_for_it(tmp_path: Path) -> None:
    log = PredictionLog(Parts(Stuck(tmp_path)), most=100)
    log.start()
    for i in range(200):
        log.add(predicted(request=str(i)))  # would not return, if it waited
    assert log.dropped == 100
    Stuck.let.set()
    log.stop()
    assert [row["request_id"] for row in rows(tmp_path)] == [str(i) for i in range(100)]


def test_versions_with_other_classes_go_into_one_part(tmp_path: Path) -> None:
    log = PredictionLog(Parts(DiskShelf(tmp_path)))
    log.add(predicted())
    other = predicted()
    log.add(
        Predicted(
            *(
                *(getattr(other, n) for n in ("at", "request_id", "door", "role")),
                "v-2",
                4,
                ["a", "b", "c"],
                other.images,
                np.full((1, 3), 1 / 3),
            )
        )
    )
    log.flush()
    assert [row["class_names"] for row in rows(tmp_path)] == [NAMES, ["a", "b", "c"]]


def test_the_row_of_an_answer_names_the_model_that_gave_it(pipeline: Pipeline) -> None:
    second = pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    image = pipeline.digits()["test"].images[0].tobytes()
    answers = []
    with served(pipeline.state) as client:
        answers.append(client.post("/predict", content=image, headers=RAW).json())
        deploy(pipeline.store, second)
        wait("it", lambda: client.get("/model").json()["champion"]["version"] == second, 5, every=0.05)
        answers.append(client.post("/predict", content=image, headers=RAW).json())
    kept = [(r["request_id"], r["model_version"], r["decision"]) for r in rows(pipeline.state / "prediction_log")]
    assert kept == [(each["request_id"], each["model_version"], each["decision"]) for each in answers]


def test_after_a_quiet_time_rows_go_into_a_part_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(Parts(DiskShelf(tmp_path)))
    log.add(predicted())
    log.flush()
    monkeypatch.setattr(prediction_log, "PART_S", 0.0)  # as if the night had passed
    log.add(predicted(request="next morning"))
    log.flush()
    assert [pq.read_metadata(path).num_rows for path in tmp_path.rglob("*.parquet")] == [1, 1]
