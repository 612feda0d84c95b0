"""The Open Inference Protocol: by hand, and by Triton's own client as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipelines import Pipeline
from served import deploy, served, service_at
from starlette.testclient import TestClient

from mnist_pipeline.production import load_production

MODEL = "/v2/models/digit_classifier"


@pytest.fixture(scope="module")
def client(first_run: tuple[Pipeline, object]) -> Iterator[TestClient]:
    with served(first_run[0].state, log=False) as found:
        yield found


def question(images: np.ndarray, **more: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": images.tolist()}
    return {"inputs": [{**tensor, **more}]}


def test_metadata_says_what_goes_in_and_out(client: TestClient, finished: Pipeline) -> None:
    version = finished.store.production()
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    told = client.get(MODEL).json()
    assert told["versions"] == [version]
    assert told["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [(each["name"], each["shape"]) for each in told["outputs"]] == [
        ("labels", [-1]),
        ("probabilities", [-1, 10]),
    ]
    for path in (f"{MODEL}/versions/{version}", f"{MODEL}/ready", f"{MODEL}/versions/{version}/ready"):
        assert client.get(path).status_code == 200
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json()["model_version"] == version


def test_flat_and_nested_data_give_what_the_predictor_gives(client: TestClient, finished: Pipeline) -> None:
    images = finished.digits()["test"].images[:3]
    expected = load_production(finished.store).predictor.predict(images)
    for asked in (question(images), question(images, data=images.ravel().tolist()), question(images, datatype="FP32")):
        answer = client.post(f"{MODEL}/infer", json={**asked, "id": "one"}).json()
        labels, probabilities = answer["outputs"]
        assert answer["id"] == "one"
        assert labels == {"name": "labels", "datatype": "INT64", "shape": [3], "data": expected.labels.tolist()}
        assert probabilities["data"] == pytest.approx(expected.probabilities.ravel().tolist())


def test_where_there_is_no_digit_the_label_is_minus_one(client: TestClient, finished: Pipeline) -> None:
    images = np.stack([np.zeros((28, 28), np.uint8), finished.digits()["test"].images[0]])
    labels, probabilities = client.post(f"{MODEL}/infer", json=question(images)).json()["outputs"]
    assert labels["data"][0] == -1
    assert labels["data"][1] >= 0
    assert sum(probabilities["data"][:10]) == 0


def test_only_the_outputs_that_are_asked_for_come_back(client: TestClient, finished: Pipeline) -> None:
    asked = {**question(finished.digits()["test"].images[:1]), "outputs": [{"name": "labels"}]}
    assert [each["name"] for each in client.post(f"{MODEL}/infer", json=asked).json()["outputs"]] == ["labels"]


def test_unknown_names_are_not_found(client: TestClient) -> None:
    for path in ("/v2/models/other", f"{MODEL}/versions/9", f"{MODEL}/versions/9/ready", "/v2/models/other/ready"):
        assert (client.get(path).status_code, client.get(path).json()["code"]) == (404, "not_found")
    image = np.zeros((1, 28, 28), np.uint8)
    assert client.post(f"{MODEL}/versions/9/infer", json=question(image)).status_code == 404


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": []},
        {"inputs": [{}]},
        {"inputs": "images"},
        question(np.zeros((0, 28, 28), np.uint8)),
        question(np.zeros((1, 28, 27), np.uint8)),
        question(np.zeros((1, 28, 28), np.uint8), shape=[2, 28, 28]),
        question(np.zeros((1, 28, 28), np.uint8), shape=[True, 28, 28]),
        question(np.zeros((1, 28, 28), np.uint8), shape=[10_001, 28, 28]),
        question(np.zeros((1, 28, 28), np.uint8), datatype="BYTES"),
        question(np.zeros((1, 28, 28), np.uint8), datatype=["UINT8"]),
        question(np.zeros((1, 28, 28), np.uint8), name="pixels"),
        question(np.zeros((1, 28, 28), np.uint8), parameters=[]),
        question(np.zeros((1, 28, 28), np.uint8), parameters={"binary_data_size": 784}),
        question(np.full((1, 28, 28), 0.5)),
        {**question(np.zeros((1, 28, 28), np.uint8)), "outputs": [{"name": "logits"}]},
        {**question(np.zeros((1, 28, 28), np.uint8)), "outputs": "labels"},
        {**question(np.zeros((1, 28, 28), np.uint8)), "id": 7},
        [],
    ],
)
def test_tensors_that_are_none_are_refused_with_a_reason(client: TestClient, changed: Any) -> None:
    response = client.post(f"{MODEL}/infer", json=changed)
    assert response.status_code in (400, 422)
    assert isinstance(response.json()["error"], str)  # as the protocol has it


def test_a_length_of_the_json_that_cannot_be(client: TestClient) -> None:
    for length in ("-1", "x", "999"):
        response = client.post(f"{MODEL}/infer", content=b"{}", headers={"Inference-Header-Content-Length": length})
        assert response.status_code == 400


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_tritons_own_client_works_unchanged(finished: Pipeline, tmp_path: Path) -> None:
    import tritonclient.http as triton

    images = finished.digits()["test"].images[:5]
    expected = load_production(finished.store).predictor.predict(images)
    with service_at(finished.state, tmp_path / "log", MNIST_PREDICTION_LOG="off") as url:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digit_classifier")
        assert not client.is_model_ready("digit_classifier", "9")
        assert client.get_server_metadata()["name"] == "mnist_pipeline"
        version = client.get_model_metadata("digit_classifier")["versions"][0]
        tensor = triton.InferInput("images", list(images.shape), "UINT8")
        for binary in (True, False):
            tensor.set_data_from_numpy(images, binary_data=binary)
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("labels", "probabilities")]
            for asked in (None, outputs):
                found = client.infer("digit_classifier", [tensor], outputs=asked, model_version=version)
                assert found.as_numpy("labels").tolist() == expected.labels.tolist()
                assert found.as_numpy("probabilities") == pytest.approx(expected.probabilities)
        with pytest.raises(triton.InferenceServerException, match="there is no model"):
            client.infer("other", [tensor])
        client.close()


def test_a_version_can_be_asked_for_by_name_while_it_serves(pipeline: Pipeline) -> None:
    store = pipeline.store
    first, second = str(store.production()), pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    deploy(store, second)
    image = pipeline.digits()["test"].images[:1]
    with served(pipeline.state, log=False) as client:
        assert client.post(f"{MODEL}/versions/{second}/infer", json=question(image)).status_code == 200
        refused = client.post(f"{MODEL}/versions/{first}/infer", json=question(image))
        assert refused.status_code == 404
        assert second in refused.json()["error"]
