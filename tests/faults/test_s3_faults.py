"""A store in S3 while the server drops connections, is gone, or is busy half of the time: nothing lost, double or half.

The child process is real, and so are the sockets; it stores models whose files are uploaded in parts.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_table import Tried
from s3_server import CREDENTIALS, Answer, Proxy, Request, new_bucket

import mnist_pipeline
from mnist_pipeline.storage.s3 import S3Blobs
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.store import ModelStore

pytestmark = pytest.mark.slow
ATTEMPTS = 7
STEPS = 5  # that have to succeed while there are faults
PATIENCE_S = 240.0
ENVIRONMENT = {"PYTHONPATH": str(Path(mnist_pipeline.__file__).parents[1]), **CREDENTIALS}

# One step stores a version, reports on it and decides for it; what failed is tried again until it is done, as a
# retried run does: with the same content, and not decided again when it serves already.
WORK = f"""
import os, sys, time
from mnist_pipeline.storage.blobs import StoreUnreachable
from mnist_pipeline.storage.s3 import S3Blobs
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.store import ModelStore

MIB = 1024**2
place = Place(sys.argv[1], "models", sys.argv[2], connect_timeout_s=1, read_timeout_s=5, attempts={ATTEMPTS},
              multipart_above=5 * MIB, part_bytes=5 * MIB)
store = ModelStore(S3Blobs(place))

def step(content):
    card = store.add_version(
        {{"weights.safetensors": content, "model.onnx": content[:1_000]}},
        label="digitcnn", metrics={{}}, config={{}}, class_names=[], preparation="ink", dataset="mnist",
        data_version="d", code_version="c", run_id="r",
    )
    report = store.add_report({{"model_digest": card.digest, "data_digest": "d"}})
    before = store.current()
    if before and before.serves == card.name:
        return before.number
    return store.decide(
        serves=card.name, strategy="quality", outcome="deployed", candidate=card.name, reason="better",
        evidence={{"report": report}}, actor="child", expected=before.number if before else 0,
    ).number

while True:
    content = os.urandom(5 * MIB + 50_000)
    while True:
        try:
            print("decided", step(content), flush=True)
            break
        except StoreUnreachable as error:
            print("failed", error, flush=True)
            time.sleep(0.2)
"""


class Child:
    """Works through the proxy until it is killed; `said` grows while it does."""

    def __init__(self, bucket: str, endpoint: str) -> None:
        command = [sys.executable, "-c", WORK, bucket, endpoint]
        self.process = subprocess.Popen(
            command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said.append(line)

    def decided(self) -> list[int]:
        return [int(line.split()[1]) for line in self.said if line.startswith("decided")]

    def failures(self) -> int:
        return sum(line.startswith("failed") for line in self.said)

    def works_until(self, count: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while len(self.decided()) < count:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < end, "".join(self.said[-3:])
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


@contextmanager
def faults(proxy: Proxy, kind: str) -> Iterator[list[str]]:
    """While the block lasts; the list says what was done."""
    chance, done, ended = random.Random(kind), [], threading.Event()

    def answer(request: Request) -> Answer | None:
        if kind == "busy" and chance.random() < 0.5:
            done.append("503")
            return Answer(503, "SlowDown")
        if kind == "dropped" and chance.random() < 0.25:
            done.append("drop")
            return Answer(drop=True, told=chance.random() < 0.5)
        return None

    def come_and_go() -> None:
        while not ended.wait(chance.uniform(0.1, 1.2)):
            proxy.hang_up()
            done.append("gone")
            time.sleep(chance.uniform(0.1, 2.5))
            proxy.come_back()

    proxy.fault = answer
    thread = threading.Thread(target=come_and_go if kind == "gone" else ended.wait)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()
        proxy.fault = lambda request: None


def uploads(place: Place) -> list[str]:
    """The ids of uploads in parts that were neither completed nor aborted."""
    found = place._client().list_multipart_uploads(Bucket=place.bucket).get("Uploads", [])
    return [each["UploadId"] for each in found]


def could_be_aborted(proxy: Proxy, upload: str) -> bool:
    """Whether the client knew of it (it did not when the answer was lost), and did not try as often as it may."""
    about = [each for each in proxy.asked if f"uploadId={upload}" in re.sub("%2B", "+", each.path)]
    return bool(about) and sum(each.method == "DELETE" for each in about) < ATTEMPTS


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("dropped", "S3 drops a quarter of all connections, half of them after it was told"),
        ("gone", "S3 gone for a moment, connections cut where they were"),
        ("busy", "S3 answers 503 to half of the requests"),
    ],
)
def test_a_server_with_faults(s3_endpoint: str, proxy: Proxy, kind: str, fault: str, tried: Tried) -> None:
    bucket = new_bucket(s3_endpoint)
    place = Place(bucket, "models", s3_endpoint)
    child = Child(bucket, proxy.endpoint)
    try:
        child.works_until(1)
        with faults(proxy, kind) as done:
            child.works_until(1 + STEPS)
        child.works_until(len(child.decided()) + 2)
    finally:
        child.end()
    store, decided = ModelStore(S3Blobs(place)), child.decided()
    assert store.verify_chain() == []
    decisions = store.decisions()
    assert decided == list(range(1, len(decided) + 1))  # none is lost
    assert len(decisions) in (len(decided), len(decided) + 1)  # the child may have died before it could say so
    assert len({decision.serves for decision in decisions}) == len(decisions)  # none is double
    for name in store.versions():
        assert len(store.load(name)) == 2
    left = uploads(place)
    last = {each for each in left if kind != "gone" and could_be_aborted(proxy, each)}
    assert len(last) <= 1  # the one that the child was killed in
    remark = f"{child.failures()} steps tried again, {len(left)} uploads left to the bucket's lifecycle rule"
    tried(f"{fault}, {len(decided)} models stored", len(done), remark=remark)
