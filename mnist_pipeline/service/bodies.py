"""Taking in the bodies of requests: each bounded, all together bounded, and none of them waited for without end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.headers import header

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

MOST_BYTES = 10_000_000
MOST_TOGETHER = 64_000_000
LONGEST_S = 30.0
PATIENCE_S = 3.0  # that what is too large is let pass for
CLOSE = {"Connection": "close"}  # what is still on its way is not read any more


class Bodies:
    """Bytes of the requests at work. most: of one body; together: of all; longest_s: that one may take to arrive."""

    def __init__(self, most: int = MOST_BYTES, together: int = MOST_TOGETHER, longest_s: float = LONGEST_S) -> None:
        self._most, self._together, self._longest_s = most, together, longest_s
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body. What it takes is given back by `release`. Raises Refused."""
        coding = header(request.scope, b"content-encoding").lower() or "identity"
        if coding != "identity":
            raise Refused("unsupported", f"Content-Encoding {coding[:50]!r} is not understood: send the body as it is")
        try:
            async with timeout(self._longest_s):  # `wait_for` takes a task and a round of the event loop
                return await self._whole(request)
        except asyncio.TimeoutError as error:
            said = f"the body did not arrive within {self._longest_s:g} s: send it again"
            raise Refused("timeout", said, CLOSE) from error
        except Refused as error:
            refused = error.with_traceback(None)  # which holds on to what has arrived
        self.release(request)  # now, so that of many who send at once the others come through
        await self._let_pass(request)
        raise refused

    def release(self, request: Request) -> None:
        """Its body is needed no more."""
        self._held -= request.scope.pop("held", 0)

    async def _whole(self, request: Request) -> bytes:
        stated = header(request.scope, b"content-length")
        if stated.isdecimal() and int(stated) > self._most:
            raise self._too_large()
        parts: list[bytes] = []
        while request.scope.get("more", True):
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            request.scope["more"] = message.get("more_body", False)
            parts.append(message.get("body", b""))
            self._take(request, len(parts[-1]))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _let_pass(self, request: Request) -> None:
        """Read on and keep nothing, for a while: most clients look for an answer only when they have sent all, and
        a connection that is closed before takes the answer with it. Not who asks first (Expect): it sends nothing."""
        if request.scope.get("more", True) and not header(request.scope, b"expect"):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._to_the_end(request), PATIENCE_S)

    async def _to_the_end(self, request: Request) -> None:
        while (await request.receive()).get("more_body"):
            pass

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
