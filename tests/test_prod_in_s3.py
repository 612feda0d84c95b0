"""The graph of production with everything in S3, over a real socket: data, values, models, inbox, predictions."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from digit_files import png
from pipelines import NIGHT, PROD, TINY, UP_TO_DEPLOYMENT, Pipeline, metadata
from s3_server import new_bucket, put_long_ago

from mnist_pipeline.datasets.files import key_of
from mnist_pipeline.ml import idx, sources
from mnist_pipeline.ml.tables.embedded import superstore
from mnist_pipeline.ml.tables.models import MODELS
from mnist_pipeline.run import _fill_inbox
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import Shelf

pytestmark = pytest.mark.slow
DAY_OF_NIGHT = datetime.fromisoformat(f"{NIGHT}T00:00+00:00")
DROPPED = ("datasets", "inbox", "predictions")  # by other tests, which may have run before
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="module")
def prod(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Trained on digits from a bucket, evaluated and deployed."""
    bucket, data = new_bucket(s3_endpoint), sources.read_embedded()
    parts = (data["train"].images, data["train"].labels, data["test"].images, data["test"].labels)
    for name, array in zip(FILES, parts, strict=True):
        Place(bucket, "raw/digits", s3_endpoint).put(name, idx.dump(array))
    made = Pipeline(
        tmp_path_factory.mktemp("prod") / "state",
        **{**PROD, "MNIST_S3_BUCKET": bucket},
        MNIST_PIPELINE_ENV="prod",
        MNIST_DATASET="idx",
        MNIST_DATA_DIR=f"s3://{bucket}/raw/digits",
        MNIST_S3_PREFIX="team/digits",
        S3_ENDPOINT_URL=s3_endpoint,
    )
    made.run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)
    return made


def root(prod: Pipeline) -> Place:
    return Place(prod.env["MNIST_S3_BUCKET"], "team/digits", prod.env["S3_ENDPOINT_URL"])


def rows(shelf: Shelf, name: str) -> list[dict[str, Any]]:
    with shelf.local(name) as path:
        return pq.ParquetFile(path).read().to_pylist()


def test_everything_is_stored_in_the_bucket_and_nothing_but_copies_on_disk(prod: Pipeline) -> None:
    names = {entry.name.split("/")[0] for entry in root(prod).entries("")}
    assert {"assets", "models", "pictures"} <= names <= {"assets", "models", "pictures", *DROPPED}
    assert [path.name for path in prod.state.iterdir()] == ["downloads"]
    assert prod.store.verify_chain() == []
    assert prod.store.production() == prod.value("digit_classifier")


def test_a_table_in_the_bucket_is_learned_from_and_its_models_are_kept_there(prod: Pipeline) -> None:
    text = superstore().to_csv(index=False).encode()
    place = Place(root(prod).bucket, "team/digits/datasets/superstore", root(prod).endpoint)
    place.put("odd name/Ünsere orders.csv", text)
    key = key_of("Ünsere orders.csv", text)
    prod.instance.add_dynamic_partitions("superstore_datasets", [key])
    names = ("raw_data", "prepared_data", "eda_summary", "train_validation_test", *MODELS, "comparison")
    result = prod.run(*(f"superstore/{name}" for name in names), night=key)
    assert metadata(result, "superstore/raw_data")["source"] == place.where("odd name/Ünsere orders.csv")
    versions = {metadata(result, f"superstore/{name}")["version"] for name in MODELS}
    assert set(prod.models.of_table("superstore").versions()) == versions
    under = {entry.name for entry in root(prod).entries("models/tables/superstore/versions/")}
    assert len(under) == 3 * len(versions)  # model, golden rows, card


def test_the_data_says_from_which_bucket_it_is(prod: Pipeline) -> None:
    bucket = prod.env["MNIST_S3_BUCKET"]
    assert prod.digits("raw_mnist_data").origin.source == f"own IDX files in s3://{bucket}/raw/digits, not verified"


def test_a_night_is_answered_once_and_a_rerun_gives_the_same(prod: Pipeline) -> None:
    inbox, images = Place(root(prod).bucket, "team/digits/inbox", root(prod).endpoint), prod.digits()["test"].images
    dropped = {f"{i}.png": png(image) for i, image in enumerate(images[:5])} | {"bad.png": b"no image"}
    dropped |= {"odd name/ü+%.png": png(images[5]), "two-ubyte": idx.dump(images[6:8])}
    for name, data in dropped.items():
        inbox.put(name, data)
    put_long_ago(inbox, (datetime.now(timezone.utc) - DAY_OF_NIGHT).days, *dropped)
    ran = prod.run("batch_digit_predictions", night=NIGHT)
    shelf, said = prod.mail.answers(), metadata(ran, "batch_digit_predictions")
    first, refused = rows(shelf, f"{NIGHT}.parquet"), rows(shelf, f"quarantine/{NIGHT}.parquet")
    assert {row["file"] for row in first} == dropped.keys() - {"bad.png"}
    assert len(first) == 8
    assert all(row["sha256"] == hashlib.sha256(dropped[row["file"]]).hexdigest() for row in first + refused)
    assert [row["file"] for row in refused] == ["bad.png"]
    assert (said["files"], said["predictions"], said["quarantined"], said["still_waiting"]) == (8, 8, 1, 0)
    assert said["table"] == f"s3://{inbox.bucket}/team/digits/predictions/{NIGHT}.parquet"
    inbox.put("late.png", png(images[8]))
    prod.run("batch_digit_predictions", night=NIGHT)
    assert rows(shelf, f"{NIGHT}.parquet") == first
    assert [path.name for path in prod.mail.open().waiting()] == ["late.png"]


def test_single_predictions_and_pictures_work_there_too(prod: Pipeline) -> None:
    prod.run("digit_predictions")
    assert len(prod.value("digit_predictions")) == 10
    assert root(prod).get("pictures/digit_predictions/answers.png").startswith(b"\x89PNG")


def test_a_state_folder_that_is_lost_costs_nothing(prod: Pipeline, tmp_path: Path) -> None:
    elsewhere = Pipeline(tmp_path / "state", **{**prod.env, "MNIST_PIPELINE_STATE": str(tmp_path / "state")})
    assert elsewhere.store.production() == prod.store.production()
    elsewhere.run("digit_predictions")


def test_make_run_fills_an_inbox_in_s3_once(prod: Pipeline) -> None:
    other = Pipeline(prod.state, **{**prod.env, "MNIST_INBOX": f"s3://{root(prod).bucket}/drops"})
    for _ in range(2):
        _fill_inbox(other.definitions)
        assert len(other.mail.open().waiting()) == 200
    assert len(other.mail.open().claim(NIGHT, over=True)) == 200
    _fill_inbox(other.definitions)
    assert other.mail.open().waiting() == []
