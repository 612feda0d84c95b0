"""MLflow's and SageMaker's dialect over the same predictor."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from pipelines import Pipeline
from served import RAW, served
from starlette.testclient import TestClient

from mnist_pipeline.production import load_production

CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def client(first_run: tuple[Pipeline, object]) -> Iterator[TestClient]:
    with served(first_run[0].state, log=False) as found:
        yield found


def test_every_dialect_gets_the_answer_of_predict(client: TestClient, finished: Pipeline) -> None:
    images, production = finished.digits()["test"].images[:2], load_production(finished.store)
    labels = [production.card.class_names[i] for i in production.predictor.predict(images).labels]
    flat = images.reshape(2, -1)
    columns = [f"pixel{i}" for i in range(784)]
    for content in (
        {"inputs": images.tolist()},
        {"inputs": {"images": flat.tolist()}},
        {"inputs": images[..., None].tolist()},
        {"instances": flat.tolist()},
        {"instances": [{"images": image.tolist()} for image in images]},
        {"dataframe_split": {"columns": columns, "data": flat.astype(float).tolist()}},
        {"dataframe_records": [dict(zip(columns, row, strict=True)) for row in flat.tolist()]},
    ):
        answer = client.post("/invocations", json=content).json()
        assert [each["label"] for each in answer["predictions"]] == labels, next(iter(content))
        assert answer["model_version"] == production.card.name
    rows = "\n".join(",".join(map(str, row)) for row in flat.tolist())
    for csv in (rows, f"{','.join(columns)}\n{rows}\n"):
        answer = client.post("/invocations", content=csv, headers={"Content-Type": "text/csv"}).json()
        assert [each["label"] for each in answer["predictions"]] == labels
    raw = client.post("/invocations", content=images.tobytes(), headers=RAW).json()
    assert [each["label"] for each in raw["predictions"]] == labels


def test_what_load_balancers_and_mlflows_clients_ask_for(client: TestClient) -> None:
    for path in ("/ping", "/health"):
        assert client.get(path).status_code == client.head(path).status_code == 200
    assert client.get("/version").text == version("mnist-pipeline")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"inputs": []},
        {"inputs": [[1, 2, 3]]},
        {"inputs": np.zeros((1, 783)).tolist()},
        {"inputs": np.full((1, 784), 256).tolist()},
        {"inputs": {"pixels": []}},
        {"inputs": [], "instances": []},
        {"instances": [{"images": []}, {"pixels": []}]},
        {"dataframe_split": []},
        {"dataframe_split": {"columns": []}},
        {"dataframe_records": {}},
        {"dataframe_records": [1]},
        {"dataframe_records": []},
        {"inputs": np.zeros((10_001, 1)).tolist()},
    ],
)
def test_what_is_none_of_them_is_refused(client: TestClient, content: Any) -> None:
    response = client.post("/invocations", json=content)
    assert response.status_code in (400, 413, 422), response.json()
    assert response.json()["error"]


@pytest.mark.parametrize("csv", ["", "1,2,3", "a,b\nc,d", "0,1\n2", "nan" + ",0" * 783])
def test_csv_that_is_none(client: TestClient, csv: str) -> None:
    response = client.post("/invocations", content=csv, headers={"Content-Type": "text/csv"})
    assert response.status_code in (400, 422), response.json()


def test_numbers_as_numpy_writes_them_are_no_header_and_no_row_is_a_comment(
    client: TestClient, finished: Pipeline
) -> None:
    rows = finished.digits()["test"].images[:3].reshape(3, -1)
    text = io.StringIO()
    np.savetxt(text, rows, delimiter=",")
    answer = client.post("/invocations", content=text.getvalue(), headers=CSV).json()
    assert len(answer["predictions"]) == 3
    below = ",".join(["-1", *["0"] * 783]) + "\n" + ",".join(["0"] * 784)
    assert client.post("/invocations", content=below, headers=CSV).status_code == 422
    hidden = ",".join(["0"] * 784) + "\n#" + ",".join(["0"] * 784)
    assert client.post("/invocations", content=hidden, headers=CSV).status_code == 422
