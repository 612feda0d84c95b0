"""Taking in the bodies of requests: each bounded, all together bounded, and none of them waited for without end."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from mnist_pipeline.service.errors import Refused

MOST_BYTES = 10_000_000
MOST_TOGETHER = 64_000_000
LONGEST_S = 30.0
CLOSE = {"Connection": "close"}  # what is still on its way is not read any more


class Bodies:
    """Bytes of the requests at work. most: of one body; together: of all; longest_s: that one may take to arrive."""

    def __init__(self, most: int = MOST_BYTES, together: int = MOST_TOGETHER, longest_s: float = LONGEST_S) -> None:
        self._most, self._together, self._longest_s = most, together, longest_s
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body. What it takes is given back by `release`. Raises Refused."""
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._most:
            raise self._too_large()
        message = await request.receive()
        body: bytes = message.get("body", b"")
        self._take(request, len(body))
        if not message.get("more_body"):  # nearly always: it came with its headers
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            return body
        try:
            return await asyncio.wait_for(self._rest(request, body), self._longest_s)
        except asyncio.TimeoutError as error:
            said = f"the body did not arrive within {self._longest_s:g} s: send it again"
            raise Refused("timeout", said, CLOSE) from error

    def release(self, request: Request) -> None:
        """Its body is needed no more."""
        self._held -= request.scope.pop("held", 0)

    async def _rest(self, request: Request, begun: bytes) -> bytes:
        body = bytearray(begun)
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            self._take(request, len(part))
            body += part
            if not message.get("more_body"):
                return bytes(body)

    def _take(self, request: Request, count: int) -> None:
        held = request.scope.get("held", 0) + count
        if held > self._most:
            raise self._too_large()
        if self._held + count > self._together:
            raise Refused(
                "busy", "too much is being sent at once: try again in a second", {"Retry-After": "1", **CLOSE}
            )
        request.scope["held"], self._held = held, self._held + count

    def _too_large(self) -> Refused:
        return Refused("too_large", f"the body is larger than {self._most:,} bytes: send a smaller image", CLOSE)
