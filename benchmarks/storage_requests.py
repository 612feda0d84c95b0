"""What a night asks of S3, its claim included: requests a shard of an array, and a file, counted before a server on
loopback, and what a billion images so cost."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import Row
from mnist_pipeline.inbox.bucket import S3Inbox
from mnist_pipeline.inbox.engines import LocalEngine
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.shards import ROWS_A_SHARD
from mnist_pipeline.inbox.work import StoredModel, Work, made_with
from mnist_pipeline.storage.s3_requests import Place

NIGHT = "2026-01-01"
SHARDS = (2, 12)  # the difference is what ten cost
FILES = (100, 400)  # the same; both in one page of a listing, of which a thousand files take one each
PRICES = {"PUT": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0.0}
"""Dollars a request by the list of S3 Standard in us-east-1; yours may differ. A list and a copy count as a PUT."""
Drop = Callable[[Place], None]
"""Somebody's, into the inbox; what it asks is not ours to pay."""


def asked(model: StoredModel, names: tuple[str, ...], drop: Drop) -> Counter[str]:
    """Requests of a night with what is dropped, by method: its claim, its scores, its tables."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from s3_server import CREDENTIALS, moto_server, new_bucket, proxy_before  # type: ignore[import-not-found]

    os.environ.update(CREDENTIALS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    with moto_server() as endpoint, proxy_before(endpoint) as proxy:
        bucket = new_bucket(endpoint)
        drop(Place(bucket, "inbox", endpoint))
        root = f"s3://{bucket}"
        work = Work(NIGHT, f"{root}/inbox", f"{root}/predictions", proxy.endpoint, model, made_with())
        claimed = S3Inbox(Place(bucket, "inbox", proxy.endpoint), settle_s=0.0).claim(NIGHT, over=True)
        predict(work, claimed, schema_of(names), LocalEngine())
        return Counter("PUT" if "list-type" in each.path else each.method for each in proxy.asked)


def array_of(shards: int) -> Drop:
    """One file with so many shards."""

    def drop(inbox: Place) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "many.npy"
            np.save(path, np.zeros((shards * ROWS_A_SHARD, 28, 28), np.uint8))
            inbox.put(path.name, path)

    return drop


def files_of(count: int) -> Drop:
    """So many images, each a file."""

    def drop(inbox: Place) -> None:
        from digit_files import png  # type: ignore[import-not-found]

        for number in range(count):
            inbox.put(f"{number:06d}.png", png(np.full((28, 28), number % 256, np.uint8)))

    return drop


def rows(model: StoredModel, names: tuple[str, ...]) -> list[Row]:
    """For an array, and for files."""
    few, more = (asked(model, names, array_of(shards)) for shards in SHARDS)
    array = _row("a shard of an array", more - few, SHARDS[1] - SHARDS[0], ROWS_A_SHARD)
    few, more = (asked(model, names, files_of(count)) for count in FILES)
    return [array, _row("an image that is a file of its own", more - few, FILES[1] - FILES[0], 1)]


def _row(what: str, more: Counter[str], times: int, images: int) -> Row:
    """more: requests that so many of these take; images: in each."""
    each = {method: more[method] / times for method in PRICES}
    dollars = sum(PRICES[method] * count for method, count in each.items()) * 1e9 / images
    said = ", ".join(f"{count:g} {method}" for method, count in each.items() if count)
    return Row(f"requests to S3 for {what}", said, "–", "–", f"${dollars:,.2f} a billion images", True)
