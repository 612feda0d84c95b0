"""One connection. What is refused before there is a request, or for want of connections, is said as any other error.

uvicorn's own protocol answers such requests in plain text, and waits for headers without end.
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mnist_pipeline.service.bodies import CLOSE
from mnist_pipeline.service.errors import Refused, refusal
from mnist_pipeline.service.headers import every_header

MOST_CONNECTIONS = 1_000  # descriptors must not run out
MOST_HEADER_BYTES = 65_536
LONGEST_HEADERS_S = 30.0
CROWDED = "crowded"  # in the state of requests whose connection is one too many: `Guard` sends them away


class Wire(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, its own refusals in our shape, headers bounded in bytes and seconds."""

    _in_headers = False  # of a request, from its first byte to the empty line
    _coming = 0  # bytes of such headers, past those of the first read
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app_state = {**self.app_state, CROWDED: True}
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        were_coming = self._in_headers
        super().data_received(data)
        if self._in_headers:
            self._be_patient()
            self._coming += len(data) if were_coming else 0
            if self._coming > MOST_HEADER_BYTES:
                self._refuse(Refused("headers_too_large", f"the headers are larger than {MOST_HEADER_BYTES:,} bytes"))

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers, self._coming = False, 0
        self._wait_no_more()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's door for what is no HTTP."""
        self._refuse(Refused("bad_request", "this is no HTTP that is understood here: let a client for HTTP send it"))

    def _be_patient(self) -> None:
        if self._patience is None:
            said = f"no whole request came within {LONGEST_HEADERS_S:g} s: send it again"
            self._patience = self.loop.call_later(LONGEST_HEADERS_S, self._refuse, Refused("timeout", said))

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, error: Refused) -> None:
        """Answer, unless another answer is on its way, and hang up."""
        self._wait_no_more()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_as_http(error))
        self.transport.close()


def _as_http(error: Refused) -> bytes:
    """Status, headers and body."""
    request_id = secrets.token_hex(8)
    response = refusal(Refused(error.code, str(error), CLOSE), request_id)
    status = HTTPStatus(error.status)
    lines = [
        f"HTTP/1.1 {status} {status.phrase}".encode(),
        *(b"%s: %s" % each for each in every_header(response.raw_headers, request_id)),
    ]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
