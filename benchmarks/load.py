"""A load generator in a process of its own: python -m benchmarks.load PORT PATH FOLDER …, a report as JSON.

It shares two cores with the server, so it does as little as it can: the bytes of requests are made beforehand, of an
answer no more is read than its status and length. `service.py` prints what it costs by itself: 8 to 11 µs a request at
saturation, 120,000 requests/s against a server that does nothing on a quiet machine, 30,000 on a busy one. By the clock
it takes 0.3 ms a request, as everything does that was woken up, and p50 0.4 to 0.5 ms of that server are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.sending import Load


def post(path: str, kind: str, body: bytes) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def loop_for(rate: float) -> asyncio.AbstractEventLoop:
    """uvloop is cheaper, but it sleeps whole milliseconds, as epoll does; select sleeps as long as it is told."""
    if rate:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())
    import uvloop

    return uvloop.new_event_loop()


def main() -> None:
    """Send, and print the report."""
    parser = argparse.ArgumentParser("python -m benchmarks.load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("folder", type=Path, help="its files are sent in turn")
    parser.add_argument("--kind", default="application/octet-stream", help="Content-Type")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--total", type=int, default=1_000, help="requests")
    parser.add_argument("--rate", type=float, default=0.0, help="requests/s; 0: as many as are answered")
    parser.add_argument("--reads", action="store_true", help="note version and decision of each answer")
    given = vars(parser.parse_args())
    path, kind, folder = given.pop("path"), given.pop("kind"), given.pop("folder")
    requests = [post(path, kind, file.read_bytes()) for file in sorted(folder.iterdir())]

    async def work() -> dict[str, Any]:
        return await Load(requests, **given).run()

    with closing(loop_for(given["rate"])) as loop:
        print(json.dumps(loop.run_until_complete(work())))


if __name__ == "__main__":
    main()
