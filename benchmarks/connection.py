"""The client's side of HTTP/1.1 as the load generator needs it: one request in flight, answers with Content-Length."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Protocol

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Told(Protocol):
    """Who is told what becomes of requests."""

    def answered(self, status: bytes, answer: bytes, seconds: float) -> None:
        """A whole answer has come, to a request that was due so many seconds ago."""

    def free(self, connection: Connection) -> None:
        """It can take a request."""

    def failed(self, why: str) -> None:
        """No answer will come to a request that was sent."""

    def lost(self, connection: Connection) -> None:
        """It is closed."""


class Connection(asyncio.Protocol):
    """One that is kept alive."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.transport: Any = None
        self._due = 0.0  # when the request in flight was to be sent; 0: there is none
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = transport

    def send(self, due: float, request: bytes) -> None:
        """due: by `time.perf_counter`."""
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer, mostly the whole of it."""
        data = self._data + data if self._data else data
        head = data.find(b"\r\n\r\n")
        found = LENGTH.search(data, 0, head + 2) if head > 0 else None
        if found and len(data) == head + 4 + int(found[1]):
            self._whole(data, head)
        elif head > 0 and (not found or len(data) > head + 4 + int(found[1])):
            self._fail("answer of unknown length")
            self.transport.abort()
        else:
            self._data = data

    def _whole(self, data: bytes, head: int) -> None:
        due, self._due, self._data = self._due, 0.0, b""
        if due:
            self.told.answered(data[9:12], data, time.perf_counter() - due)
        if not due or data.find(b"onnection: close", 0, head) > 0:  # unasked, or its last one
            self.transport.abort()
        else:
            self.told.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whom ever."""
        self._fail("connection closed")
        self.told.lost(self)

    def _fail(self, why: str) -> None:
        if self._due:
            self._due = 0.0
            self.told.failed(why)
