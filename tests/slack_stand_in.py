"""A stand-in for Slack's Web API on a real socket: takes messages, and fails in the ways that Slack does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SlackStandIn:
    """Records what was posted. `answers`: what the next calls get, then all is well; `always`: what every call gets."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.scheduled: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.beats = 0
        self.always: str = ""
        self.answers: list[str] = []
        self.released = threading.Event()
        self.url = ""

    @property
    def texts(self) -> list[str]:
        """Everything that a message says, one string a message."""
        return [json.dumps(message, ensure_ascii=False) for message in self.messages]

    def answer(self) -> str:
        return self.answers.pop(0) if self.answers else self.always


class _Handler(BaseHTTPRequestHandler):
    slack: SlackStandIn

    def do_GET(self) -> None:
        self.slack.beats += 1
        self._say(500 if self.slack.always == "500" else 200, {"ok": True})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        method, how = self.path.rpartition("/")[2], self.slack.answer()
        self.slack.calls.append(method)
        self.slack.tokens.append(self.headers.get("Authorization", ""))
        if how == "hang":
            self.slack.released.wait(30)
            return
        if how == "500":
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b"<html>Server Error</html>")
        elif how.startswith("429"):
            self._say(429, {"ok": False, "error": "ratelimited"}, retry_after=how.partition(" ")[2])
        elif how:
            self._say(200, {"ok": False, "error": how})
        elif method == "auth.test":
            self._say(200, {"ok": True, "user": "mnist", "team": "digits"})
        elif method == "chat.scheduleMessage":
            number = f"Q{len(self.slack.calls)}"
            self.slack.scheduled[number] = body
            self._say(200, {"ok": True, "scheduled_message_id": number, "channel": "C0AFFE"})
        elif method == "chat.deleteScheduledMessage":
            known = self.slack.scheduled.pop(body["scheduled_message_id"], None)
            self._say(200, {"ok": True} if known else {"ok": False, "error": "invalid_scheduled_message_id"})
        else:
            self.slack.messages.append(body)
            self._say(200, {"ok": True, "ts": f"{len(self.slack.messages)}.0", "channel": body.get("channel")})

    def _say(self, status: int, body: dict[str, Any], retry_after: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def slack_stand_in(port: int = 0) -> Iterator[SlackStandIn]:
    """One that listens on 127.0.0.1 until the block ends."""
    slack = SlackStandIn()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"slack": slack}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    slack.url = f"http://127.0.0.1:{server.server_port}/api/"
    try:
        yield slack
    finally:
        slack.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
