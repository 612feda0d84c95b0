"""Around every request: the token, headers, limits, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from digit_files import png
from pipelines import Pipeline
from pydantic_core import from_json
from served import JSON, RAW, served
from starlette.requests import Request
from starlette.testclient import TestClient

from mnist_pipeline.service import predict
from mnist_pipeline.service.bodies import Bodies
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.settings import Settings

OPEN = ("/", "/ping", "/v2/health/live", "/v2/health/ready", "/static/index.html")
LOCKED = ("/model", "/metrics", "/docs", "/openapi.json", "/v2", "/v2/models/digit_classifier", "/nothing")


@pytest.fixture(scope="module")
def client(first_run: tuple[Pipeline, object]) -> Iterator[TestClient]:
    with served(first_run[0].state, log=False) as found:
        yield found


def test_with_a_token_only_who_has_it_is_answered(finished: Pipeline) -> None:
    with served(finished.state, log=False, token="s3cret-token") as client:
        for path in OPEN:
            assert client.get(path).status_code == 200, path
        for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret-token"}):
            for path in LOCKED:
                response = client.get(path, headers=wrong)
                assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), path
                assert response.headers["www-authenticate"] == "Bearer"
                assert "s3cret" not in response.text
            for path in ("/predict", "/invocations", "/feedback"):
                assert client.post(path, content=b"{}", headers=wrong).status_code == 401
        assert client.get("/model", headers={"Authorization": "Bearer s3cret-token"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/model", "/nothing", "/metrics", "/static/index.html"])
def test_every_answer_has_the_headers_that_keep_browsers_safe(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert ("unsafe-inline" in headers["content-security-policy"]) == (path == "/docs")
    assert "server" not in headers


def test_the_documents_and_what_they_need_come_from_here(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://testserver", "")
    assert "https://" not in page
    for path in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/static/swagger/{path}").status_code == 200
    assert "/predict" in client.get("/openapi.json").json()["paths"]


def test_requests_and_predictions_are_counted(finished: Pipeline) -> None:
    image = finished.digits()["test"].images[0].tobytes()
    with served(finished.state, log=False) as client:
        label = client.post("/predict", content=image, headers=RAW).json()["label"]
        client.post("/predict", content=bytes(784), headers=RAW)
        client.post("/predict", content=b"?")
        client.get("/some/path/of/a/scanner")
        told = client.get("/metrics").text
    for line in (
        'mnist_requests_total{path="/predict",status="200"} 2.0',
        'mnist_requests_total{path="/predict",status="422"} 1.0',
        'mnist_requests_total{path="other",status="404"} 1.0',
        'mnist_request_seconds_count{path="/predict"} 3.0',
        f'mnist_predictions_total{{label="{label}",role="champion"}} 1.0',
        'mnist_predictions_total{label="none",role="champion"} 1.0',
        f'mnist_model{{role="champion",version="{finished.store.production()}"}} 1.0',
        "mnist_store_reached 1.0",
        "mnist_log_dropped_total 0.0",
    ):
        assert line in told, line
    assert "scanner" not in told


def test_a_fault_of_ours_tells_no_more_than_an_id(finished: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("/secret/path")

    from mnist_pipeline.service import answering, showing

    monkeypatch.setattr(answering, "needs_no_work", broken)
    monkeypatch.setattr(showing, "_shown", broken)
    with served(finished.state, log=False) as client:
        for response in (client.post("/predict", content=bytes(784), headers=RAW), client.get("/model")):
            assert (response.status_code, response.json()["code"]) == (500, "failed")
            assert "secret" not in response.text
            assert response.headers["x-content-type-options"] == "nosniff"


def test_above_what_may_be_at_work_requests_are_sent_away(finished: Pipeline) -> None:
    with served(finished.state, log=False, at_once=1, wait_s=0.3) as client:
        image = finished.digits()["test"].images[0].tobytes()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: client.post("/predict", content=image, headers=RAW), range(4)))
    codes = sorted(each.status_code for each in found)
    assert codes[0] == 200
    assert codes[-1] == 503
    (busy, *_) = [each for each in found if each.status_code == 503]
    assert busy.headers["retry-after"] == "1"
    assert busy.json()["code"] == "busy"


def test_what_is_put_right_and_what_is_large_is_at_work_too(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before it is looked at: of many large ones each would wait for all others."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(body: bytes) -> Any:
        begun.set()
        go_on.wait(20)
        return from_json(body)

    monkeypatch.setattr(predict, "parsed", slowly)
    image = finished.digits()["test"].images[0]
    said = {"image": base64.b64encode(png(np.tile(image, (12, 12)))).decode() + " " * 65_536, "label": "7"}
    with served(finished.state, log=False, at_once=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/feedback", json=said)
        assert begun.wait(20)
        for path, body in (("/predict", bytes(784)), ("/predict", bytes(784_000)), ("/feedback", json.dumps(said))):
            busy = client.post(path, content=body, headers=JSON if path == "/feedback" else RAW)
            assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "busy", "1")
        go_on.set()
        assert first.result().status_code == 422
        assert client.post("/predict", content=bytes(784), headers=RAW).status_code == 200


def arriving(*parts: bytes, pause_s: float = 0, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    """A request whose body comes in these parts."""
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": list(headers)}, receive)


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    with pytest.raises(Refused, match="did not arrive within"):
        asyncio.run(Bodies(longest_s=0.05).read(arriving(b"a", b"b", b"c", pause_s=0.04)))


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    bodies = Bodies(most=10, together=15)
    first, second = arriving(bytes(10)), arriving(bytes(10))
    assert len(asyncio.run(bodies.read(first))) == 10
    with pytest.raises(Refused, match="too much is being sent"):
        asyncio.run(bodies.read(second))
    bodies.release(second)
    bodies.release(first)
    assert len(asyncio.run(bodies.read(arriving(bytes(4), bytes(6))))) == 10


def test_of_many_who_send_at_once_some_come_through() -> None:
    bodies = Bodies(most=10, together=15)

    async def all_at_once() -> list[bytes | BaseException]:
        sending = [arriving(*[b"x"] * 10, pause_s=0.001) for _ in range(4)]
        return await asyncio.gather(*(bodies.read(each) for each in sending), return_exceptions=True)

    found = asyncio.run(all_at_once())
    assert b"x" * 10 in found
    assert all(isinstance(each, bytes) or "too much is being sent" in str(each) for each in found)


def test_a_body_that_grows_too_large_on_its_way_is_refused() -> None:
    with pytest.raises(Refused, match="larger than 10 bytes"):
        asyncio.run(Bodies(most=10).read(arriving(bytes(6), bytes(6))))


@pytest.mark.parametrize("sent", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_a_token_from_a_file_is_known_by_any_client(finished: Pipeline, sent: str) -> None:
    """A file ends with a line's end, and names of schemes may be written in any case (RFC 9110, 11.1)."""
    with served(finished.state, log=False, token=Settings.of({"MNIST_SERVE_TOKEN": "abc\n"}).token) as client:
        assert client.get("/model", headers={"Authorization": sent}).status_code == 200
        for wrong in ("Bearer ab", "Basic abc", "abc", "Bearerabc", "Bearer \u00fc".encode("latin-1"), ""):
            assert client.get("/model", headers={"Authorization": wrong}).status_code == 401


@pytest.mark.parametrize("token", ["schlüssel", "two words", "tab\tbed", "\n"])
def test_a_token_that_cannot_be_sent_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(ValueError, match="MNIST_SERVE_TOKEN"):
        Settings.of({"MNIST_SERVE_TOKEN": token})


def test_a_compressed_body_is_refused_and_not_taken_for_pixels(client: TestClient) -> None:
    for coding in ("gzip", "deflate"):
        response = client.post("/predict", content=bytes(784), headers={**RAW, "Content-Encoding": coding})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported")
    assert client.post("/predict", content=bytes(784), headers={**RAW, "Content-Encoding": "identity"}).is_success


def test_a_body_that_never_begins_is_not_waited_for_without_end() -> None:
    async def ask() -> None:
        async def never() -> dict[str, Any]:
            await asyncio.sleep(60)
            return {}

        with pytest.raises(Refused, match=r"within 0\.1 s"):
            await Bodies(longest_s=0.1).read(Request({"type": "http", "headers": []}, never))

    asyncio.run(ask())
