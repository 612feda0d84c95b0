"""What a night asks of S3: requests a shard, counted before a server on loopback, and what a billion images so cost."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.common import Row
from mnist_pipeline.inbox.engines import LocalEngine
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.shards import ROWS_A_SHARD
from mnist_pipeline.inbox.work import StoredModel, Work, made_with
from mnist_pipeline.storage.s3_requests import Place

NIGHT = "2026-01-01"
SHARDS = (2, 12)  # the difference is what ten cost
PRICES = {"PUT": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0.0}
"""Dollars a request by the list of S3 Standard in us-east-1; yours may differ. A list counts as a PUT."""


def asked(model: StoredModel, names: tuple[str, ...], shards: int) -> Counter[str]:
    """Requests of a night with an array of so many shards, by method."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from s3_server import CREDENTIALS, moto_server, new_bucket, proxy_before  # type: ignore[import-not-found]

    os.environ.update(CREDENTIALS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    with moto_server() as endpoint, proxy_before(endpoint) as proxy, tempfile.TemporaryDirectory() as folder:
        bucket = new_bucket(endpoint)
        np.save(Path(folder) / "many.npy", np.zeros((shards * ROWS_A_SHARD, 28, 28), np.uint8))
        Place(bucket, "", endpoint).put(f"inbox/.claimed/{NIGHT}/many.npy", Path(folder) / "many.npy")
        root = f"s3://{bucket}"
        work = Work(NIGHT, f"{root}/inbox", f"{root}/predictions", proxy.endpoint, model, made_with())
        predict(work, ["many.npy"], schema_of(names), LocalEngine())
        return Counter("PUT" if "list-type" in each.path else each.method for each in proxy.asked)


def rows(model: StoredModel, names: tuple[str, ...]) -> list[Row]:
    """One."""
    few, more = (asked(model, names, shards) for shards in SHARDS)
    a_shard = {method: (more[method] - few[method]) / (SHARDS[1] - SHARDS[0]) for method in PRICES}
    dollars = sum(PRICES[method] * count for method, count in a_shard.items()) * 1e9 / ROWS_A_SHARD
    said = ", ".join(f"{count:g} {method}" for method, count in a_shard.items() if count)
    return [Row("requests to S3 for a shard of an array", said, "–", "–", f"${dollars:.2f} a billion images", True)]
