"""Champion and challenger: a share of the requests by a stable hash, or all of them in the shadow."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pipelines import Pipeline, flip_a_bit
from served import RAW, served

from mnist_pipeline.service.answering import is_challengers


@pytest.fixture
def challenger(pipeline: Pipeline) -> str:
    return pipeline.variant(lambda network: network.classifier.bias.add_(0.1))


def roles(state: Path) -> list[str]:
    parts = sorted((state / "prediction_log").rglob("*.parquet"))
    return [row["role"] for path in parts for row in pq.read_table(path).to_pylist()]


def test_a_share_of_the_keys_is_answered_by_the_challenger_and_always_the_same(
    pipeline: Pipeline, challenger: str
) -> None:
    image = pipeline.digits()["test"].images[0].tobytes()
    with served(pipeline.state, challenger=challenger, share=0.3) as client:

        def asked(key: int) -> tuple[str, str]:
            answer = client.post("/predict", content=image, headers={**RAW, "X-Routing-Key": f"user {key}"}).json()
            return answer["served_by"], answer["model_version"]

        first, again = ([asked(key) for key in range(200)] for _ in range(2))
    assert first == again
    assert set(first) == {("champion", pipeline.store.production()), ("challenger", challenger)}
    assert 30 <= sum(role == "challenger" for role, _ in first) <= 90
    logged = roles(pipeline.state)
    assert logged.count("challenger") == 2 * sum(role == "challenger" for role, _ in first)
    assert logged.count("champion") == logged.count("shadow") == 400 - logged.count("challenger")


def test_in_the_shadow_it_answers_nobody_and_every_image_is_logged_twice(pipeline: Pipeline, challenger: str) -> None:
    image = pipeline.digits()["test"].images[0].tobytes()
    with served(pipeline.state, challenger=challenger) as client:
        answers = [client.post("/predict", content=image, headers=RAW).json() for _ in range(20)]
        assert client.get("/model").json()["challenger"]["version"] == challenger
    assert {each["served_by"] for each in answers} == {"champion"}
    assert (roles(pipeline.state).count("champion"), roles(pipeline.state).count("shadow")) == (20, 20)


def test_a_challenger_that_is_damaged_or_unknown_takes_nothing_away(pipeline: Pipeline, challenger: str) -> None:
    image = pipeline.digits()["test"].images[0].tobytes()
    flip_a_bit(pipeline.state / "models" / "versions" / challenger / "model.onnx")
    for name in (challenger, "none-1"):
        with served(pipeline.state, challenger=name, share=1.0, log=False) as client:
            assert client.post("/predict", content=image, headers=RAW).json()["served_by"] == "champion"
            refused = client.get("/v2/health/ready").json()["refused_challenger"]
            assert refused["version"] == name


@given(some.text(), some.floats(0, 1))
def test_who_answers_depends_on_the_key_and_a_larger_share_takes_more(key: str, share: float) -> None:
    assert is_challengers(key, share) == is_challengers(key, share)
    assert not is_challengers(key, 0)
    assert is_challengers(key, 1)
    assert is_challengers(key, share) <= is_challengers(key, min(1, share + 0.1))
