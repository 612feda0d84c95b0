"""`POST /feedback`: what people put right is kept as an image folder that the pipeline can train on."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipelines import Pipeline
from served import served

from mnist_pipeline.ml.sources import read_image_folder
from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.storage.shelves import DiskShelf


def drawing(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(255 - image).resize((140, 140)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_what_is_kept_can_be_trained_on(pipeline: Pipeline) -> None:
    test = pipeline.digits()["test"]
    rows = np.concatenate([np.flatnonzero(test.labels == digit)[:5] for digit in range(5)])
    with served(pipeline.state, log=False) as client:
        for image, label in zip(test.images[rows], test.labels[rows], strict=True):
            given = {"image": drawing(image), "label": str(label), "request_id": "r-1"}
            assert client.post("/feedback", json=given).status_code == 201
            assert client.post("/feedback", json=given).json() == {"kept": True, "label": str(label)}  # once
    kept = pipeline.state / "feedback"
    assert len(list((kept / "images").rglob("*.png"))) == 25
    data = read_image_folder(kept / "images", "ink")
    assert set(data.origin.class_names) == {str(digit) for digit in range(5)}
    (record, *_) = sorted((kept / "records").glob("*.json"))
    told = json.loads(record.read_text())
    assert told.keys() == {"label", "image", "time", "request_id"}  # whose row in the log says who answered
    assert (kept / told["image"]).exists()


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"label": "seven"}, "one of 0, 1, 2"),
        ({"label": 7}, "are texts"),
        ({"label": "../../x"}, "one of 0, 1, 2"),
        ({"image": "aGVsbG8="}, "not a PNG"),
        ({"image": ""}, "empty"),
        ({"more": "x"}, "feedback is"),
        ({"request_id": "x" * 65}, "64 characters"),
    ],
)
def test_what_cannot_be_kept_is_refused(pipeline: Pipeline, changed: dict[str, Any], word: str) -> None:
    given = {"image": drawing(pipeline.digits()["test"].images[0]), "label": "7", **changed}
    with served(pipeline.state, log=False) as client:
        response = client.post("/feedback", json=given)
    assert response.status_code == 422
    assert word in response.json()["error"]
    assert not (pipeline.state / "feedback").exists()


def test_a_page_of_another_site_teaches_nothing(pipeline: Pipeline) -> None:
    given = {"image": drawing(pipeline.digits()["test"].images[0]), "label": "7"}
    with served(pipeline.state, log=False) as client:
        for headers, status in (
            ({"Origin": "https://evil.example"}, 400),
            ({"Origin": "null"}, 400),
            ({"Content-Type": "text/plain"}, 400),
            ({"Origin": "http://testserver"}, 201),
        ):
            sent = {"Content-Type": "application/json", **headers}
            assert client.post("/feedback", content=json.dumps(given), headers=sent).status_code == status


def test_names_of_classes_that_are_no_names_of_folders_are_kept_too(tmp_path: Any) -> None:
    kept = Feedback(DiskShelf(tmp_path))
    for label in ("T-shirt/top", "..", "Ä b", ".hidden"):
        name = kept.keep(b"x", "png", label)
        assert (tmp_path / name).read_bytes() == b"x"
    assert {json.loads(path.read_text())["label"] for path in (tmp_path / "records").iterdir()} >= {
        "T-shirt/top",
        "Ä b",
    }


def test_storage_that_is_away_is_said(pipeline: Pipeline) -> None:
    (pipeline.state / "feedback").write_text("a file where the folder would be")
    given = {"image": drawing(pipeline.digits()["test"].images[0]), "label": "7"}
    with served(pipeline.state, log=False) as client:
        response = client.post("/feedback", json=given)
    assert (response.status_code, response.json()["code"]) == (503, "busy")
    assert response.headers["retry-after"] == "1"
    assert str(pipeline.state) not in response.text
