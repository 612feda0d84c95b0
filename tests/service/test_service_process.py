"""The service as a process: how it starts, how it ends, and what it does under load, under attack and killed."""

from __future__ import annotations

import http.client
import io
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pipelines import Pipeline, call
from processes import Process, free_port
from served import RAW, address, deploy, service

from mnist_pipeline.service.__main__ import _listening, main
from mnist_pipeline.service.settings import Settings

QUIET = {"MNIST_PREDICTION_LOG": "off"}


class Connection:
    """One connection that stays open, as load generators have it."""

    def __init__(self, url: str) -> None:
        self._http = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def predict(self, body: bytes, **headers: str) -> tuple[int, Any]:
        self._http.request("POST", "/predict", body, {**RAW, **headers})
        response = self._http.getresponse()
        return response.status, json.loads(response.read())


def once(url: str, body: bytes) -> tuple[int, Any]:
    """One request on a connection of its own."""
    with Connection(url) as connection:
        return connection.predict(body)


@pytest.fixture
def running(pipeline: Pipeline, tmp_path: Path) -> Iterator[Process]:
    process = service(pipeline.state, tmp_path / "service.log").start()
    try:
        yield process
    finally:
        process.end()


@pytest.fixture
def image(pipeline: Pipeline) -> bytes:
    return pipeline.digits()["test"].images[0].tobytes()


def test_it_starts_without_dagster_torch_or_anything_else_that_it_does_not_need() -> None:
    unneeded = "dagster", "torch", "mlflow", "sklearn", "pandas", "matplotlib", "boto3", "slack_sdk"
    code = f"import sys, mnist_pipeline.service.__main__; print([m for m in {unneeded} if m in sys.modules])"
    assert call("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"MNIST_SERVE_PORT": "http"}, "MNIST_SERVE_PORT"),
        ({"MNIST_SERVE_AT_ONCE": "0"}, "MNIST_SERVE_AT_ONCE"),
        ({"MNIST_SERVE_BATCH": "1000"}, "MNIST_SERVE_BATCH"),
        ({"MNIST_SERVE_WAIT_MS": "-1"}, "MNIST_SERVE_WAIT_MS"),
        ({"MNIST_CHALLENGER_SHARE": "2"}, "MNIST_CHALLENGER_SHARE"),
        ({"MNIST_PREDICTION_LOG": "perhaps"}, "MNIST_PREDICTION_LOG"),
        ({"MNIST_KEEP_IMAGES": "1"}, "MNIST_KEEP_IMAGES"),
        ({"MNIST_PIPELINE_ENV": "staging"}, "MNIST_PIPELINE_ENV"),
        ({"MNIST_PIPELINE_ENV": "prod"}, "MNIST_S3_BUCKET"),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(
    env: dict[str, str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    for name, value in {"MNIST_PIPELINE_STATE": str(tmp_path), "MNIST_SERVE_PORT": "0", **env}.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert word in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = call("-m", "mnist_pipeline.service", MNIST_PIPELINE_STATE=str(tmp_path), MNIST_SERVE_PORT=port)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in ended.stderr


def test_told_to_stop_it_answers_what_is_at_work_and_ends_well(pipeline: Pipeline, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    digit = Image.fromarray(255 - pipeline.digits()["test"].images[0]).resize((2_500, 2_500))
    digit.save(buffer, "PNG")
    process = service(pipeline.state, tmp_path / "log").start()
    url = address(process)
    once(url, buffer.getvalue())
    with ThreadPoolExecutor(6) as pool:
        at_work = [pool.submit(once, url, buffer.getvalue()) for _ in range(6)]
        time.sleep(0.15)
        assert process.child
        process.child.send_signal(signal.SIGTERM)
        assert [each.result()[0] for each in at_work] == [200] * 6
        assert process.child.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        once(url, b"")
    rows = sum(pq.read_metadata(path).num_rows for path in (pipeline.state / "prediction_log").rglob("*.parquet"))
    assert rows == 7  # the log was written to its end


@pytest.mark.slow
def test_new_decisions_under_load_lose_no_request_and_every_answer_names_its_version(
    pipeline: Pipeline, running: Process, image: bytes
) -> None:
    first, second = pipeline.store.production(), pipeline.variant(lambda network: network.classifier.bias.add_(0.1))
    url, ends, found = address(running), threading.Event(), Counter[tuple[int, str]]()

    def ask() -> None:
        with Connection(url) as connection:
            while not ends.is_set():
                status, answer = connection.predict(image)
                found[status, answer.get("model_version")] += 1

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for each in askers:
        each.start()
    for i in range(10):
        deploy(pipeline.store, (str(second), str(first))[i % 2])
        time.sleep(0.8)
    ends.set()
    for each in askers:
        each.join()
    assert found.keys() == {(200, first), (200, second)}
    assert sum(found.values()) > 500


@pytest.mark.slow
def test_killed_it_has_lost_at_most_the_last_second_of_its_log(
    pipeline: Pipeline, running: Process, image: bytes
) -> None:
    answered: list[tuple[float, str]] = []
    with Connection(address(running)) as connection:
        begun = time.monotonic()
        while time.monotonic() < begun + 4:
            answered.append((time.time(), connection.predict(image)[1]["request_id"]))
            time.sleep(0.002)
        killed = time.time()
        running.kill()
    parts = (pipeline.state / "prediction_log").rglob("*.parquet")
    kept = {row for path in parts for row in pq.read_table(path)["request_id"].to_pylist()}
    lost = [at for at, request in answered if request not in kept]
    assert all(at > killed - 1 for at in lost), f"{killed - min(lost):.2f} s are lost"
    assert len(kept) > 100


def memory_mb(process: Process) -> float:
    """Resident; of Linux."""
    assert process.child
    (line,) = [each for each in Path(f"/proc/{process.child.pid}/status").read_text().splitlines() if "VmRSS" in each]
    return int(line.split()[1]) / 1e3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_decompression_bombs_are_refused_in_bounded_memory(running: Process) -> None:
    url = address(running)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((13_000, 13_000), np.uint8)).save(buffer, "PNG")
    before = memory_mb(running)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: once(url, buffer.getvalue()), range(24)))
        large = list(pool.map(lambda _: sent_in_parts(url, 20_000_000), range(8)))
    assert {(status, answer["code"]) for status, answer in found} == {(413, "too_large")}
    assert 413 in large
    assert set(large) <= {413, 503}  # 503 where more is being sent at once than is held in memory
    assert memory_mb(running) - before < 150


def sent_in_parts(url: str, size: int) -> int:
    """The status that a body without a stated length gets; the connection may be closed before all is sent."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = bytes(1 << 16)
        try:
            for _ in range(size // len(part)):
                wire.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        except OSError:
            pass
        return int(wire.recv(100).split()[1])


@pytest.mark.slow
def test_clients_that_never_finish_keep_nobody_else_waiting(running: Process, image: bytes) -> None:
    url = address(running)
    host, port = url.removeprefix("http://").split(":")
    stalled = [socket.create_connection((host, int(port))) for _ in range(200)]
    for each in stalled:
        each.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n" + bytes(100))
    try:
        with Connection(url) as connection:
            assert {connection.predict(image)[0] for _ in range(50)} == {200}
    finally:
        for each in stalled:
            each.close()


@pytest.mark.slow
def test_without_storage_for_the_log_it_answers_on(pipeline: Pipeline, tmp_path: Path, image: bytes) -> None:
    (pipeline.state / "prediction_log").write_text("a file where the folder would be")
    process = service(pipeline.state, tmp_path / "log").start()
    try:
        url = address(process)
        for _ in range(3):
            assert once(url, image)[0] == 200
            time.sleep(0.5)
        assert "the prediction log cannot be written" in process.tail()
    finally:
        process.end()
    assert "are lost" in process.tail()


def test_who_listens_for_everyone_without_a_token_is_warned(pipeline: Pipeline, tmp_path: Path) -> None:
    process = service(pipeline.state, tmp_path / "log", MNIST_SERVE_HOST="0.0.0.0", **QUIET).start()
    try:
        address(process)
        assert "set MNIST_SERVE_TOKEN" in process.tail()
    finally:
        process.end()


def test_who_sends_too_much_can_read_why(running: Process) -> None:
    """Most clients look for an answer only when they have sent all."""
    url = address(running)
    for chunked in (False, True):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        body = (bytes(100_000) for _ in range(300)) if chunked else bytes(30_000_000)
        connection.request("POST", "/predict", body, {"Content-Length": "30000000"} if not chunked else {})
        assert connection.getresponse().status == 413
        connection.close()


def test_a_client_that_goes_while_it_sends_is_no_fault_of_the_service(running: Process) -> None:
    url = address(running)
    host, port = url.removeprefix("http://").split(":")
    for path in ("/predict", "/feedback", "/v2/models/digit_classifier/infer"):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b"{")
            time.sleep(0.1)
    assert once(url, bytes(784))[0] == 200
    assert "Traceback" not in running.tail(1_000)


def test_of_two_that_start_on_one_port_the_second_cannot() -> None:
    """Also before the first answers: bound is not enough, and uvloop says nothing when it cannot listen."""
    with _listening("127.0.0.1", 0) as first, pytest.raises(OSError, match="choose another MNIST_SERVE_PORT"):
        _listening("127.0.0.1", first.getsockname()[1])


def test_a_number_of_requests_has_an_end() -> None:
    with pytest.raises(ValueError, match="MNIST_SERVE_AT_ONCE"):
        Settings.of({"MNIST_SERVE_AT_ONCE": "inf"})
