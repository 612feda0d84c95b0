"""What is refused before there is a request, on real sockets: in the shape of every other error."""

from __future__ import annotations

import http.client
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from pipelines import Pipeline
from processes import wait
from served import RAW

from mnist_pipeline.service import wire
from mnist_pipeline.service.__main__ import configured
from mnist_pipeline.service.app import build
from mnist_pipeline.service.settings import Settings, doors

WHOLE = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
REQUEST = b"GET /version HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def listening(pipeline: Pipeline) -> Iterator[tuple[uvicorn.Server, tuple[str, int]]]:
    """The service on a socket, in a thread of this process."""
    settings = Settings(log=False)
    app = build(settings, doors(settings, {"MNIST_PIPELINE_STATE": str(pipeline.state)}))
    server = uvicorn.Server(configured(app))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            wait("the service", lambda: server.started, 20, every=0.02)
            yield server, taken.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def place(finished: Pipeline) -> Iterator[tuple[str, int]]:
    with listening(finished) as (_, place):
        yield place


def said(place: tuple[str, int], *parts: bytes) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    """What comes back for bytes that a client for HTTP would not send."""
    with socket.create_connection(place, timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        return answer(connection)


def answer(connection: socket.socket) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read()), response.msg


@pytest.mark.parametrize(
    "broken",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS, to a port that has none
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
    ],
)
def test_what_is_no_http_is_told_so(place: tuple[str, int], broken: bytes) -> None:
    status, found, headers = said(place, broken)
    assert (status, found["code"]) == (400, "bad_request")
    assert found["request_id"] == headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["connection"] == "close"


def test_headers_without_end_are_bounded(place: tuple[str, int]) -> None:
    line = b"X-More: " + bytes(4_000).replace(b"\0", b"a") + b"\r\n"
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(REQUEST)
        sent = 0
        try:
            while sent < 5_000_000:
                connection.sendall(line)
                sent += len(line)
        except OSError:
            pass  # hung up
    assert sent < 5_000_000
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(REQUEST)
        connection.sendall(line * 17)
        time.sleep(0.2)  # a second read: the first is not counted
        connection.sendall(line * 17)
        assert answer(connection)[:1] == (431,)


@pytest.mark.parametrize("path", [b"POST /predict", b"GET /ping"])
@pytest.mark.parametrize("line", [b"X-More: " + b"a" * 4_000 + b"\r\n", b"a" * 4_000])
def test_trailers_without_end_are_bounded(place: tuple[str, int], path: bytes, line: bytes) -> None:
    """Before the answer, and behind it; of many lines, and of one that does not end."""
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-More: ")
        sent = 0
        with suppress(OSError):  # hung up
            while sent < 20_000_000:
                connection.sendall(line)
                sent += len(line)
    assert sent < 20_000_000


def test_who_sends_too_long_trailers_is_told_so_and_short_ones_are_let_pass(place: tuple[str, int]) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"310\r\n" + bytes(400) + bytes([250]) * 100 + bytes(284) + b"\r\n0\r\n"
    status, found, _ = said(place, head + chunk + b"X-Checksum: abc\r\nContent-Type: text/csv\r\n\r\n")
    assert (status, found["served_by"]) == (200, "champion")
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(head + chunk)
        time.sleep(0.2)
        connection.sendall(b"X-More: " + b"a" * (wire.MOST_TRAILER_BYTES + 1))
        assert answer(connection)[:1] == (431,)


def test_a_body_in_many_chunks_has_no_trailers(place: tuple[str, int]) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    images = (bytes(400) + bytes([250]) * 100 + bytes(284)) * 100
    half = len(images) // 2
    size = b"%x\r\n" % half
    with socket.create_connection(place, timeout=20) as connection:
        for part in (head + size, images[:half], b"\r\n" + size, images[half:], b"\r\n0\r\n\r\n"):
            connection.sendall(part)
            time.sleep(0.05)
        assert answer(connection)[:1] == (200,)


def test_of_requests_that_do_not_wait_for_answers_only_some_are_taken_at_once(place: tuple[str, int]) -> None:
    most = wire.MOST_PIPELINED + 1
    with socket.create_connection(place, timeout=20) as connection:
        for count in (most, 200):  # of the last, the others are asked again on another connection
            connection.sendall(WHOLE * count)
            answered = b""
            while answered.count(b"200 OK") < most or count > most:
                more = connection.recv(65_536)
                answered += more
                if not more:
                    break
            assert answered.count(b"200 OK") == most


def test_requests_without_end_that_read_no_answers_are_bounded(place: tuple[str, int]) -> None:
    sent = 0
    with socket.create_connection(place, timeout=20) as connection, suppress(OSError):
        while sent < 50_000_000:
            sent += connection.send(WHOLE * 1_000)
    assert sent < 50_000_000


def test_who_never_ends_the_headers_is_not_waited_for(place: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST_HEADERS_S", 0.2)
    assert said(place)[:1] == (408,)
    assert said(place, REQUEST)[:1] == (408,)
    with socket.create_connection(place, timeout=20) as connection:  # and one that had been answered before
        connection.sendall(WHOLE)
        assert b"200" in connection.recv(10_000)
        connection.sendall(REQUEST)
        assert answer(connection)[1]["code"] == "timeout"


@pytest.mark.parametrize("more", [b"abc", b"\r\n\r\n"])
def test_who_has_been_answered_and_asks_nothing_more_is_not_waited_for(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    """Neither for the rest of a body that nobody wanted, nor for empty lines between requests."""
    monkeypatch.setattr(wire, "LONGEST_HEADERS_S", 0.3)
    length = b"Content-Length: 99\r\n" if more == b"abc" else b""
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(b"POST /version HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n")
        assert b"405" in connection.recv(10_000)
        connection.sendall(more)
        assert connection.recv(10_000) == b""


def test_who_does_not_read_the_answer_is_given_up(
    finished: Pipeline, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LONGEST_UNREAD_S", 0.3)
    body = finished.digits()["test"].images[0].tobytes() * 5_000
    head = b"POST /predict?seen=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(head + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        time.sleep(1)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()


def test_what_was_asked_before_the_line_broke_is_answered(place: tuple[str, int]) -> None:
    image = bytes(400) + bytes([250]) * 100 + bytes(284)
    asked = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n" + image
    for _ in range(3):
        status, found, _ = said(place, asked + b"hello\r\n\r\n")
        assert (status, found["served_by"]) == (200, "champion")


def test_requests_that_offer_another_protocol_are_answered_with_their_bodies(place: tuple[str, int]) -> None:
    """Java's client offers HTTP/2; the parser would leave out the body."""
    image = bytes(400) + bytes([250]) * 100 + bytes(284)
    offered = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABk\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n"
    assert said(place, head + offered % b"h2c" + b"\r\n", image)[:1] == (200,)
    assert said(place, head + offered % b"h2c" + b"\r\n" + image)[:1] == (200,)
    status, found, headers = said(place, head + offered % b"other" + b"\r\n" + image)
    assert (status, found["code"], headers["connection"]) == (400, "bad_request", "close")
    assert "without the header Upgrade" in found["error"]


def test_what_is_said_in_a_body_is_left_as_it_is() -> None:
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\n\r\n..\r\nUpgrade: h2c\r\n"
    assert wire._without_h2c(request) == request
    assert len(wire._without_h2c(REQUEST + b"Upgrade: h2c\r\n\r\n")) == len(REQUEST) + 16


def test_headers_of_a_second_request_are_not_taken_for_those_of_the_first(place: tuple[str, int]) -> None:
    body = bytes(400) + bytes([250]) * 100 + bytes(284)
    asked = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 78400\r\n\r\n" + body * 100
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(REQUEST)
        time.sleep(0.1)
        connection.sendall(b"\r\n" + asked + REQUEST)
        time.sleep(0.3)
        connection.sendall(b"\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200


def test_large_bodies_to_nowhere_are_no_headers(place: tuple[str, int]) -> None:
    with ExitStack() as stack:
        connection = http.client.HTTPConnection(*place, timeout=20)
        stack.callback(connection.close)
        for _ in range(2):
            connection.request("POST", "/nowhere", bytes(1_000_000), RAW)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["code"]) == (404, "not_found")


def test_one_connection_too_many_is_sent_away_and_the_others_go_on(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_CONNECTIONS", 3)
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(place, timeout=20)) for _ in range(3)]
        for each in held:
            each.sendall(WHOLE)
            assert b"200" in each.recv(10_000)
        status, found, headers = said(place, WHOLE)
        assert (status, found["code"], headers["retry-after"]) == (503, "busy", "1")
        held[0].sendall(WHOLE)
        assert b"200" in held[0].recv(10_000)
        held[1].close()
        wait("room", lambda: is_answered(place), 10, every=0.05)


def test_a_crowd_takes_no_descriptors(place: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(wire, "MOST_CROWDED", 2)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(place, timeout=20))
        time.sleep(0.2)
        one_more = stack.enter_context(socket.create_connection(place, timeout=20))
        with suppress(ConnectionResetError):
            assert one_more.recv(10) == b""


def test_the_service_allows_itself_as_many_descriptors_as_it_takes_connections() -> None:
    code = (
        "import resource as r; from mnist_pipeline.service.__main__ import raise_limit; "
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (256, hard)); raise_limit(); "
        "print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    soft, hard = (float(each) if each != "-1" else math.inf for each in ended.stdout.split())
    assert soft == min(4_096, hard)
    assert soft > wire.MOST_CONNECTIONS + wire.MOST_CROWDED or soft == hard


def test_told_to_stop_it_answers_what_is_on_its_way_on_open_connections(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LAST_S", 3.0)
    with listening(finished) as (server, place), ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(place, timeout=20)) for _ in range(3)]
        for each in held:
            each.sendall(WHOLE)
            assert b"200" in each.recv(10_000)
        server.should_exit = True
        wait("the end", lambda: not server.servers or not server.servers[0].is_serving(), 10, every=0.02)
        for each in held[:2]:
            each.sendall(WHOLE)
            said = each.recv(10_000)
            assert b"200 OK" in said
            assert b"connection: close" in said
        assert held[2].recv(10) == b""  # and who asks nothing more is not waited for


def is_answered(place: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*place, timeout=20)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.mark.parametrize("part", ["bytes=90000000-", "bytes=5-2", "bytes=0-10", "lines=1"])
def test_parts_of_a_page_are_not_given_and_the_whole_is(place: tuple[str, int], part: str) -> None:
    connection = http.client.HTTPConnection(*place, timeout=20)
    for path in ("/", "/static/page.js"):
        connection.request("GET", path, headers={"Range": part})
        response = connection.getresponse()
        assert (response.status, len(response.read())) == (200, int(response.headers["content-length"]))
    connection.close()
