"""S3 for tests, over real sockets: moto's server, and a proxy before it that answers wrongly when it is told to."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

from mnist_pipeline.storage.s3_requests import Place

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of a server that forgets everything when it ends."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> str:
    """The name of an empty bucket."""
    name = f"bucket-{uuid4().hex[:12]}"
    Place(name, "", endpoint)._client().create_bucket(Bucket=name)
    return name


@dataclass(frozen=True)
class Request:
    """What was asked. path: with its query."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What is answered instead of the truth.

    stall_s: seconds of silence first; cut: of the body, how much is sent before the connection drops; told: whether
    the server behind gets the request all the same, so that only its answer is lost; drop: no answer, the connection
    ends.
    """

    status: int = 200
    code: str = ""
    more: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    cut: float = 1.0
    told: bool = False
    drop: bool = False

    @property
    def body(self) -> bytes:
        said = f"<Code>{self.code}</Code><Message>told to say {self.code}</Message>{self.more}"
        return f'<?xml version="1.0"?><Error>{said}</Error>'.encode() if self.code else b""


class Server(ThreadingHTTPServer):
    """Of the proxy. Clients that go away, which is what its tests are about, are no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Proxy:
    """Before a server: passes on what `fault` gives no answer to, and keeps a list of what was asked."""

    def __init__(self, behind: str) -> None:
        self.behind = behind.removeprefix("http://")
        self.fault: Callable[[Request], Answer | None] = lambda request: None
        self.asked: list[Request] = []
        self.ended = threading.Event()
        self.connections: set[socket.socket] = set()
        self.conditional = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                proxy.connections.add(self.connection)

            def finish(self) -> None:
                proxy.connections.discard(self.connection)
                super().finish()

            def answer(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.handler = Handler
        self.listen(0)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def listen(self, port: int) -> None:
        """Take connections; 0 is any free port."""
        self.server = Server(("127.0.0.1", port), self.handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def hang_up(self) -> None:
        """As a server that is killed: nobody listens any more, and what was under way ends where it is."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in list(self.connections):
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """On the same port."""
        self.listen(int(self.endpoint.rpartition(":")[2]))

    def script(self, *answers: Answer | None, only: Callable[[Request], bool] = lambda request: True) -> None:
        """Give these answers in turn to the requests that are meant, then the truth; None is the truth too."""
        left, lock = list(answers), threading.Lock()

        def fault(request: Request) -> Answer | None:
            with lock:
                return left.pop(0) if left and only(request) else None

        self.fault = fault

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Expect") == "100-continue":
            pass  # http.server has answered it
        body = self._body(handler)
        request = Request(handler.command, handler.path, dict(handler.headers))
        self.asked.append(request)
        answer = self.fault(request)
        if answer is None:
            self._reply(handler, *self._truth(request, body))
        else:
            truth = self._truth(request, body) if answer.told else None
            self.ended.wait(answer.stall_s)
            if answer.drop:
                handler.close_connection = True
            elif truth and answer.status == 200:
                self._reply(handler, *truth, cut=answer.cut)
            else:
                headers = {"Content-Type": "application/xml", **answer.headers}
                self._reply(handler, answer.status, headers, answer.body, cut=answer.cut)

    def _body(self, handler: BaseHTTPRequestHandler) -> bytes:
        if handler.headers.get("Transfer-Encoding") != "chunked":
            return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        body = b""
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        while handler.rfile.readline().strip():
            pass
        return body

    def _truth(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """moto looks whether a key is free and then writes, so that two can win a race: here one goes at a time."""
        with self.conditional if "If-None-Match" in request.headers else nullcontext():
            return self._asked_behind(request, body)

    def _asked_behind(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        dropped = {"Transfer-Encoding", "Expect", "Connection"}
        headers = {name: value for name, value in request.headers.items() if name not in dropped}
        connection = http.client.HTTPConnection(self.behind, timeout=30)
        try:
            connection.request(request.method, request.path, body, {**headers, "Content-Length": str(len(body))})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _reply(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, cut: float = 1.0
    ) -> None:
        try:
            handler.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    handler.send_header(name, value)
            length = headers.get("Content-Length", "0") if handler.command == "HEAD" else str(len(body))
            handler.send_header("Content-Length", length)
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(body[: int(len(body) * cut)])
            handler.close_connection = cut < 1
        except (BrokenPipeError, ConnectionResetError):  # the client had enough
            handler.close_connection = True


@contextmanager
def proxy_before(endpoint: str) -> Iterator[Proxy]:
    """A proxy that runs until the block ends."""
    proxy = Proxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.hang_up()


def put_long_ago(place: Place, days: float, *names: str) -> None:
    """Have the server in this process date objects that it holds back by so many days; no request can."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    keys = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[place.bucket].keys
    for name in names:
        keys[place.key(name)].last_modified -= timedelta(days=days)
