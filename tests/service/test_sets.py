"""What `/predict` says of an image that may be several things, and when it abstains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pipelines import Pipeline
from served import RAW, deploy, served
from starlette.testclient import TestClient

from mnist_pipeline.service.settings import Settings

FIELDS = {"label", "confidence", "probabilities", "set"}


@pytest.fixture(scope="module")
def undecided(first_run: tuple[Pipeline, object], tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A version that says 4 to everything, and leaves 9 possible, is in production."""
    copy = first_run[0].copy(tmp_path_factory.mktemp("undecided") / "state")
    deploy(copy.store, copy.four_or_nine())
    return copy


@pytest.fixture(scope="module", params=[False, True], ids=["answers", "abstains"])
def asked(undecided: Pipeline, request: pytest.FixtureRequest) -> Iterator[tuple[TestClient, bool]]:
    """A service, and whether it abstains."""
    with served(undecided.state, log=False, abstain=request.param) as client:
        yield client, request.param


@pytest.fixture
def image(undecided: Pipeline) -> bytes:
    return undecided.digits()["test"].images[0].tobytes()


def test_an_answer_has_the_set_of_what_it_may_be(asked: tuple[TestClient, bool], image: bytes) -> None:
    client, abstains = asked
    said = client.post("/predict", content=image, headers=RAW).json()
    assert said["set"] == ["4", "9"]
    assert said["confidence"] == said["probabilities"]["4"] > said["probabilities"]["9"] > 0.3
    assert said["label"] == (None if abstains else "4")
    assert said.get("reason") == ("4 or 9: not sure enough to say which" if abstains else None)


def test_each_of_many_images_has_its_own(asked: tuple[TestClient, bool], image: bytes) -> None:
    client, _abstains = asked
    many = client.post("/predict?seen=true", content=image + bytes(784) + image, headers=RAW).json()["predictions"]
    assert [each["set"] for each in many] == [["4", "9"], None, ["4", "9"]]
    assert ["seen" in each for each in many] == [True, False, True]
    assert many[1]["reason"] == "there is no digit on the image that the model could look at"
    assert many[0]["seen"] == np.frombuffer(image, np.uint8).reshape(28, 28).tolist()


def test_the_other_dialects_stay_as_they_are(asked: tuple[TestClient, bool], image: bytes) -> None:
    client, _ = asked
    pixels = np.frombuffer(image, np.uint8).reshape(1, 28, 28)
    (said,) = client.post("/invocations", json={"inputs": pixels.tolist()}).json()["predictions"]
    assert (said.keys(), said["label"]) == ({"label", "confidence", "probabilities"}, "4")
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": pixels.ravel().tolist()}
    infer = client.post("/v2/models/digit_classifier/infer", json={"inputs": [tensor]}).json()
    assert infer["outputs"][0]["data"] == [4]


def test_abstentions_are_counted(undecided: Pipeline, image: bytes) -> None:
    with served(undecided.state, log=False, abstain=True) as client:
        client.post("/predict", content=image + bytes(784) + image, headers=RAW)
        assert 'mnist_abstentions_total{role="champion"} 2.0' in client.get("/metrics").text
    with served(undecided.state, log=False) as client:
        client.post("/predict", content=image, headers=RAW)
        assert "mnist_abstentions_total{" not in client.get("/metrics").text


def test_a_version_from_before_there_were_sets_has_none_and_never_abstains(pipeline: Pipeline, image: bytes) -> None:
    deploy(pipeline.store, pipeline.variant(lambda network: None))
    with served(pipeline.state, log=False, abstain=True) as client:
        said = client.post("/predict", content=image, headers=RAW).json()
    assert said.keys() >= FIELDS
    assert said["set"] is None
    assert said["label"] is not None


def test_a_version_whose_sets_cannot_be_read_is_not_served(pipeline: Pipeline, image: bytes) -> None:
    before = pipeline.value("digit_classifier")
    deploy(pipeline.store, pipeline.variant(lambda network: None, sets=b"{}"))
    with served(pipeline.state, log=False) as client:
        ready = client.get("/v2/health/ready")
        assert ready.status_code == 503 or before in ready.text


@pytest.mark.parametrize(("value", "abstains"), [("on", True), ("off", False), ("", False)])
def test_abstaining_is_a_setting(value: str, abstains: bool) -> None:
    assert Settings.of({"MNIST_ABSTAIN": value}).abstain == abstains


def test_a_setting_that_is_neither_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="MNIST_ABSTAIN"):
        Settings.of({"MNIST_ABSTAIN": "yes"})
