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
MOST_CROWDED = 100  # above those, that are told so; one more is cut off
MOST_HEADER_BYTES = 65_536
MOST_TRAILER_BYTES = 8_192  # behind a body in chunks; nobody here reads them
MOST_PIPELINED = 16  # requests that wait for the answer to one before them on their connection
LONGEST_HEADERS_S = 30.0
LAST_S = 0.5  # that a connection without a request stays open, once the service is told to stop
LONGEST_UNREAD_S, LEAST_READ = 30.0, 1_000_000  # an answer of which less is read in that time is given up
CROWDED = "crowded"  # in the state of requests whose connection is one too many: `Guard` sends them away
UPGRADED = "upgraded"  # and of those whose body the parser takes for another protocol's
_H2C, _IGNORED = b"\r\nUpgrade: h2c\r\n", b"\r\nIgnored: h2c\r\n"


class _Pipelined(Exception):
    """More requests wait on one connection than are taken from it."""


class Wire(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, its own refusals in our shape, headers bounded in bytes and seconds, and nobody waited for
    who neither asks nor reads."""

    _in_headers = False  # of a request, from its first byte to the empty line
    _in_trailers = False  # or where they would be: behind a line with the size of a chunk, before any byte of it
    _begun = _coming = 0  # requests; bytes of such headers or trailers, past those of the first read
    _deaf = False  # since what comes is no request any more
    _ends = False  # the next request is the last
    _patience: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS + MOST_CROWDED:
            return transport.abort()
        if len(self.connections) > MOST_CONNECTIONS:
            self.app_state = {**self.app_state, CROWDED: True}
        return self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._reads_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        began, were_coming = self._begun, self._in_headers
        super().data_received(data if were_coming or self._is_at_work() else _without_h2c(data))
        if self._in_headers or not self._is_at_work():  # else the rest of a body that nobody wanted, or empty lines
            self._be_patient()
        if self._in_headers and were_coming and began == self._begun:
            self._coming += len(data)
            if self._coming > MOST_HEADER_BYTES:
                self._refuse(Refused("headers_too_large", f"the headers are larger than {MOST_HEADER_BYTES:,} bytes"))
        elif self._in_trailers:
            self._coming += len(data)
            if self._coming > MOST_TRAILER_BYTES:
                said = f"what follows the body is larger than {MOST_TRAILER_BYTES:,} bytes: send it without trailers"
                self._refuse(Refused("headers_too_large", said))

    def on_chunk_header(self) -> None:
        self._in_trailers, self._coming = True, 0

    def on_body(self, body: bytes) -> None:
        self._in_trailers = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_trailers = False
        super().on_message_complete()

    def on_message_begin(self) -> None:
        self._in_headers, self._coming = True, 0
        self._begun += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _Pipelined  # the one way to make the parser leave the rest of what was read alone
        self._in_headers = False
        self._wait_no_more()
        if self.parser.should_upgrade():  # it goes on with HTTP/1.1, but this parser leaves out the body
            self.scope["state"][UPGRADED] = True
        super().on_headers_complete()
        self.headers = []  # trailers are no headers of the request that is answered
        if self._ends:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:  # nothing more is read before they are answered
            self.flow.pause_reading()

    def shutdown(self) -> None:
        """The service is told to stop. A request that is on its way on an open connection is answered."""
        if self._is_at_work():
            super().shutdown()
        else:
            self._ends = True
            self.loop.call_later(LAST_S, self._close_unless_at_work)

    def _close_unless_at_work(self) -> None:
        if not self._is_at_work():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's door for what is no HTTP, or was left unread: after too many requests at once those before are
        answered, and the connection is closed, so that a client asks the others again."""
        self._refuse(Refused("bad_request", "this is no HTTP that is understood here: let a client for HTTP send it"))

    def pause_writing(self) -> None:
        """More waits to be read than is buffered."""
        super().pause_writing()
        if self._unread is None:
            self._watch_reading()

    def resume_writing(self) -> None:
        """It has been read."""
        self._reads_again()
        super().resume_writing()

    def _is_at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(LONGEST_UNREAD_S, self._look_at_reading, left)

    def _look_at_reading(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < LEAST_READ:
            self.transport.abort()
        else:
            self._watch_reading()

    def _reads_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _be_patient(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(LONGEST_HEADERS_S, self._end_of_patience)

    def _end_of_patience(self) -> None:
        if self._in_headers or self.cycle is None:
            said = f"no whole request came within {LONGEST_HEADERS_S:g} s: send it again"
            self._refuse(Refused("timeout", said))
        else:  # has been answered, and asks nothing more
            self.transport.close()

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, error: Refused) -> None:
        """Answer, unless another answer is on its way, and hang up; after what was asked for before."""
        self._wait_no_more()
        self._deaf = True
        if self.transport.is_closing():
            return
        if self._in_headers and self._is_at_work():
            self.cycle.keep_alive = False
            return
        cycle = self.cycle
        has_an_answer = (cycle.response_started or self.pipeline) if self._is_at_work() else self._in_trailers
        if not has_an_answer:
            self.transport.write(_as_http(error))
        self.transport.close()


def _without_h2c(data: bytes) -> bytes:
    """Java's client offers HTTP/2 with its first request, for which the parser would leave out the body. Of the same
    length, for where lengths are changed a body may become a request."""
    at = data.find(_H2C)
    return data.replace(_H2C, _IGNORED, 1) if 0 <= at < data.find(b"\r\n\r\n") else data


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
