"""A contest of models in production with everything in S3, over real sockets: the service, what people say of its
answers and of a night's, the report that decides, and where all of it came from."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import document, told
from digit_files import hugging_face, parquet, png
from pipelines import NIGHT, PROD, Pipeline, metadata
from processes import wait
from s3_server import new_bucket, put_long_ago
from served import People, service_at

from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.storage.s3_requests import Place

pytestmark = pytest.mark.slow
PREFIX = "team/digits"
NEVER = 4  # the class that the worse version does not know


@pytest.fixture
def versions(pipeline: Pipeline) -> tuple[str, str]:
    """One that takes every 4 for something else, and the one that serves."""

    def blind(network: DigitCNN) -> None:
        network.classifier.bias[NEVER] -= 1_000

    return pipeline.variant(blind), str(pipeline.store.production())


@pytest.fixture
def prod(pipeline: Pipeline, versions: tuple[str, str], s3_endpoint: str, tmp_path: Path) -> Pipeline:
    """All that has a place in S3 copied there, and another state folder, which is empty."""
    bucket = new_bucket(s3_endpoint)
    for kept in ("models", "assets"):
        for path in (pipeline.state / kept).rglob("*.*"):
            if path.is_file():
                Place(bucket, PREFIX, s3_endpoint).put(path.relative_to(pipeline.state).as_posix(), path)
    where = {"MNIST_S3_BUCKET": bucket, "MNIST_S3_PREFIX": PREFIX, "S3_ENDPOINT_URL": s3_endpoint}
    return Pipeline(tmp_path / "prod", **PROD | where, MNIST_PIPELINE_ENV="prod", MNIST_FEEDBACK="train")


def bucket(prod: Pipeline, name: str) -> Place:
    return Place(prod.env["MNIST_S3_BUCKET"], f"{PREFIX}/{name}", prod.env["S3_ENDPOINT_URL"])


def asked(pipeline: Pipeline) -> LabeledImages:
    """Every 4 of validation, and as many others."""
    part = pipeline.digits()["validation"]
    known = part.labels == NEVER
    others = np.flatnonzero(~known)[: known.sum()]
    return part.take(np.concatenate([np.flatnonzero(known), others]))


def logged(prod: Pipeline, role: str) -> int:
    """Rows in the prediction log."""
    now, day = datetime.now(timezone.utc), timedelta(days=1)
    traffic = (prod.definitions.resources or {})["served"].open(pytest.fail)
    roles: list[str] = traffic.rows(now - day, now + day, ["role"])["role"].to_pylist()
    return roles.count(role)


def why_left_out(said: dict[str, Any]) -> str:
    return "\n".join(f"{row.data['what']}: {row.data['why']}" for row in said["left_out_because"].records)


def test_a_contest_is_decided_and_traced_in_s3(
    prod: Pipeline, pipeline: Pipeline, versions: tuple[str, str], tmp_path: Path
) -> None:
    worse, better = versions
    data = asked(pipeline)
    assert told(prod, "deploy", worse, "--yes").exit_code == 0
    assert told(prod, "challenge", better, "--yes").exit_code == 0

    # the better one answers in the shadow, people put right what production said, and the report promotes it
    env = {**prod.env, "SLACK_BOT_TOKEN": "", "MNIST_KEEP_IMAGES": "yes"}
    with service_at(prod.state, tmp_path / "service.log", **env) as url:
        people = People(url)
        people.wait_for("challenger", better)
        answers = people.ask(data.images)
        wrong = people.correct(data, answers)
        assert wrong >= (data.labels == NEVER).sum() > 10
        wait("the shadow", lambda: logged(prod, "shadow") == len(data), 20, every=0.5)
        promoted = metadata(prod.run("ab_report"), "ab_report")
        assert (promoted["strategy"], promoted["challenger"], promoted["labels"]) == ("promotion", better, wrong)
        people.wait_for("champion", better)
        people.wait_for("challenger", worse)  # the predecessor, as the yardstick
    assert prod.store.production() == better

    # a night answers rows of a Parquet file, and people say what these and some answers of the service were
    one, other = pipeline.digits()["train"].images[:2]
    images = parquet(image=hugging_face([png(one), b"no picture", png(other)]))
    bucket(prod, "inbox").put("x.parquet", images)
    put_long_ago(
        bucket(prod, "inbox"),
        (datetime.now(timezone.utc) - datetime.fromisoformat(f"{NIGHT}T00:00+00:00")).days,
        "x.parquet",
    )
    prod.run("batch_digit_predictions", night=NIGHT)
    labels, right = (
        bucket(prod, "feedback/labels"),
        [answer for answer in answers if answer["label"] != str(NEVER)][-3:],
    )
    labels.put("asked.csv", "\n".join(["request_id,label", *(f"{each['request_id']},8" for each in right)]).encode())
    labels.put("night.csv", b"file,label,row\nx.parquet,0,0\nx.parquet,1,1\nx.parquet,2,")
    measured = metadata(prod.run("production_accuracy"), "production_accuracy")
    assert measured["reported_labels"] == 2 * wrong  # of champion and shadow
    assert measured["sampled_labels"] == 2 * len(right) + 1
    for said in (measured, metadata(prod.run("feedback_digits"), "feedback_digits")):
        assert f"night.csv, line 3: night {NIGHT} could not read row 1 of 'x.parquet'" in why_left_out(said)
        assert "night.csv, line 4: x.parquet holds an image a row: a column row says which" in why_left_out(said)
    assert said["by_origin"] == {"page": wrong, "answers": len(right), "nights": 1}

    labels.put("night.csv", b"file,label,row\nx.parquet,0,0")  # somebody puts the file right

    # one command leads back from an answer, another one forward from the data
    traced, card = document(prod, "trace", answers[0]["request_id"]), prod.store.card(better)
    assert {each["role"] for each in traced["answers"]} == {"champion", "shadow"}
    assert [each["label"] for each in traced["said"]] == [str(NEVER)]
    assert {each["version"] for each in traced["versions"]} == {worse, better}
    about = next(each for each in traced["versions"] if each["version"] == better)
    assert (about["data_digest"], about["code_version"], about["run_id"]) == (
        card.data_version,
        card.code_version,
        card.run_id,
    )
    assert [[each["strategy"] for each in one["decisions"]] for one in traced["versions"]] == [
        ["manual"],
        ["challenge"],
    ]
    assert [each["key"] for each in about["reports"]] == prod.store.reports(better)
    (row,) = document(prod, "trace", "x.parquet", "--night", NIGHT)["said"]
    assert (row["label"], row["where"]) == ("0", "labels/night.csv, line 2")
    forward = document(prod, "trace", "--data", card.data_version)
    assert [each["strategy"] for each in forward["decisions"]] == ["quality", "manual", "challenge", "promotion"]
    assert {each["version"] for each in forward["versions"]} == {worse, better}
    assert (forward["nights"], forward["answers"]["count"]) == ({NIGHT: 2}, len(data))

    # and nothing of it can be taken out of the bucket unseen
    ledger = bucket(prod, "models/decisions")
    assert told(prod, "decisions", "--verify").exit_code == 0
    kept = ledger.get("00000004.json")
    ledger.delete("00000004.json")
    assert f"cut off: night {NIGHT} was answered under decision 4" in told(prod, "decisions", "--verify").stderr
    ledger.put("00000004.json", kept.replace(b"promotion", b"challenge"))
    assert told(prod, "decisions", "--verify").exit_code == 1
    ledger.put("00000004.json", kept)
    assert told(prod, "decisions", "--verify").exit_code == 0
