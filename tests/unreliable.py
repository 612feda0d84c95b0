"""A reverse proxy with bad days: between a client and a real server, it refuses, cuts or is not there at all."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Unreliable(ThreadingHTTPServer):
    """Forwards to `port` on loopback. What happens to a request is up to `mood`, which may change at any time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, own_port: int = 0) -> None:
        super().__init__(("127.0.0.1", own_port), _Handler)
        self.port = port
        self.mood: Callable[[str], str] = well
        self.seen: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, what: str) -> None:
        with self.lock:
            self.seen[what] = self.seen.get(what, 0) + 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is what these tests are about."""


def well(method: str) -> str:
    return "forward"


def busy(share: float, seed: int = 0) -> Callable[[str], str]:
    """503 for this share of the requests."""
    chance = random.Random(seed)
    return lambda method: "busy" if chance.random() < share else "forward"


def cutting(share: float, seed: int = 0) -> Callable[[str], str]:
    """The connection ends in the middle of this share of the uploads, half of them after the server has taken it."""
    chance = random.Random(seed)

    def mood(method: str) -> str:
        if method != "PUT" or chance.random() > share:
            return "forward"
        return chance.choice(["cut before", "cut after"])

    return mood


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unreliable

    def _answer(self) -> None:
        what = self.server.mood(self.command)
        self.server.count(what)
        if self.headers.get("Expect") == "100-continue" and what != "cut before":
            self.send_response_only(100)
            self.end_headers()
        length = int(self.headers.get("Content-Length") or 0)
        if what == "cut before":
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(length)
        if what == "busy":
            self._send(503, {"Content-Type": "application/xml"}, BUSY)
            return
        status, headers, answer = self._forward(body)
        if what == "cut after":
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
            length = response.getheader("Content-Length")
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            if self.command == "HEAD" and length:
                headers["Content-Length"] = length
            return response.status, headers, data
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def unreliable(port: int, own_port: int = 0) -> Iterator[Unreliable]:
    """Such a proxy, until the block ends."""
    server = Unreliable(port, own_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
