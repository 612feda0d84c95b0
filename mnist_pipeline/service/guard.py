"""Around every request: its id, the token, the headers that every answer has, the shape of errors, what is counted."""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_pipeline.service.bodies import CLOSE, Bodies
from mnist_pipeline.service.errors import STATUS, Refused, refusal
from mnist_pipeline.service.headers import every_header, header
from mnist_pipeline.service.metrics import Metrics
from mnist_pipeline.service.wire import CROWDED, UPGRADED

Endpoint = Callable[[Request], Awaitable[Response]]
OPEN = (
    "/",
    "/ping",
    "/health",
    "/version",
    "/favicon.ico",
)  # for everyone, also where a token is needed; health and the page's files too
OPEN_BELOW = ("/static/", "/v2/health/")
LARGE = 65_536  # bytes that are sent without waiting for who reads them
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUS_WORD = {status: word for word, status in STATUS.items() if word not in ("no_model",)}
log = logging.getLogger(__name__)


class Guard:
    """The outermost application. direct: requests of many, answered past the router, which takes half their time."""

    def __init__(
        self, app: ASGIApp, direct: dict[tuple[str, str], Endpoint], token: str, metrics: Metrics, bodies: Bodies
    ) -> None:
        self._app, self._direct, self._metrics, self._bodies = app, direct, metrics, bodies
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        if scope["method"] == "GET":  # nothing here is so large that a part of it would do
            scope = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"range"]}
        scope["began"] = began = time.perf_counter()
        request = Request(scope, receive)
        scope["request_id"] = request_id = _request_id(request)
        status = 0

        async def finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = every_header(message["headers"], request_id)
            elif len(message.get("body", b"")) > LARGE and not message.get("more_body"):
                await send({**message, "more_body": True})
                message = {**message, "body": b""}  # this one waits until the client reads: then its request has ended
            await send(message)

        try:
            await self._answer(request, finished)
        finally:
            self._bodies.release(request)
            if status:
                self._metrics.answered(_path(scope["path"]), status, time.perf_counter() - began)

    async def _answer(self, request: Request, send: Send) -> None:
        scope, receive = request.scope, request.receive
        endpoint = self._direct.get((scope["method"], scope["path"]))
        try:
            self._check(request)
            response = await endpoint(request) if endpoint else None
        except Refused as error:
            response = refusal(error, scope["request_id"])
        except ClientDisconnect:
            return
        except Exception as error:
            response = await failed(request, error)
        await (response or self._app)(scope, receive, send)

    def _check(self, request: Request) -> None:
        """Raises Refused where there is no room for one more, for a body that is lost, and where the token is missing
        or wrong."""
        state = request.scope.get("state", ())
        if CROWDED in state:
            said = "too many connections are open: try again in a second"
            raise Refused("busy", said, {"Retry-After": "1", **CLOSE})
        if UPGRADED in state and request.scope["method"] == "POST":
            said = "no other protocol is spoken here: send the request as HTTP/1.1, without the header Upgrade"
            raise Refused("bad_request", said, CLOSE)
        path = request.scope["path"]
        if not self._token or path in OPEN or path.startswith(OPEN_BELOW):
            return
        scheme, _, given = header(request.scope, b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            how = "send the header 'Authorization: Bearer <token>' with the token of this service"
            raise Refused("unauthorized", how, {"WWW-Authenticate": "Bearer"})


async def refused(request: Request, error: Exception) -> Response:
    """A refusal from within the application."""
    assert isinstance(error, Refused)
    return refusal(error, request.scope["request_id"])


async def no_such_page(request: Request, error: Exception) -> Response:
    """What the router says, in our shape."""
    assert isinstance(error, HTTPException)
    code = _STATUS_WORD.get(error.status_code, "bad_request")
    said = {"not_found": "there is nothing here: see /docs", "method_not_allowed": "not with this method: see /docs"}
    response = refusal(Refused(code, said.get(code, str(error.detail)), error.headers), request.scope["request_id"])
    response.status_code = error.status_code
    return response


async def gone(request: Request, error: Exception) -> Response:
    """Nobody is there any more to be answered, which is no fault of ours."""
    return Response(status_code=499)


async def failed(request: Request, error: Exception) -> Response:
    """Our fault. The log has what happened; the answer has the id to look for."""
    request_id = request.scope["request_id"]
    log.error("request %s failed", request_id, exc_info=error)
    return refusal(Refused("failed", "this is a fault of the service: its log says more, under the id"), request_id)


def _request_id(request: Request) -> str:
    """The caller's, where it is one that can be written anywhere."""
    given = header(request.scope, b"x-request-id")
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


def _path(path: str) -> str:
    """One of few, since each is counted by itself."""
    if path in KNOWN:
        return path
    return "/v2" if path.startswith("/v2") else "/static" if path.startswith("/static") else "other"


KNOWN = {
    "/",
    "/predict",
    "/feedback",
    "/model",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/invocations",
    "/ping",
    "/health",
    "/version",
}
