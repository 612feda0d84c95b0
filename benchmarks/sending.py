"""Requests by the clock or as fast as they are answered, over connections that are kept alive; what became of them.

Not here: what is sent, and how a report leaves the process (`load.py`); bytes on the wire (`connection.py`).
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections import Counter, deque
from typing import Any

from benchmarks.connection import Connection

VERSION = re.compile(rb'"model_version": ?"([^"]*)"')
DECISION = re.compile(rb'"decision": ?([0-9]+)')
PATIENCE_S = 30.0  # without any answer, after which those that are missing count as failed


class Load:
    """Requests and what became of them.

    rate: requests/s by the clock, each timed from the moment at which it was to be sent, so that one slow answer is
    not hidden by requests that were held back because of it; 0: each connection sends as soon as it is answered.
    reads: whether version and decision are searched for in each answer.
    """

    def __init__(self, requests: list[bytes], port: int, connections: int, total: int, rate: float, reads: bool):
        self.requests, self.port, self.connections = requests, port, connections
        self.total, self.rate, self.reads = total, rate, reads
        self.sent = self.ended = 0
        self.begun = 0.0
        self.latencies, self.lateness = array("d"), array("d")  # seconds
        self.failures: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.decisions: set[int] = set()
        self._open: set[Connection] = set()
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()  # requests that wait for a connection
        self._done = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, Any]:
        """Until every request has been answered or has failed; the report. Raises OSError where nobody listens."""
        for _ in range(self.connections):
            await self._connect()
        cpu, self.begun = time.process_time(), time.perf_counter()
        if self.rate:
            await self._by_the_clock()
        else:
            for connection in list(self._free):
                self._free.remove(connection)
                self.free(connection)
        await self._all_ended()
        report = self._report(time.perf_counter() - self.begun, time.process_time() - cpu)
        for connection in list(self._open):
            connection.transport.abort()
        return report

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        self._open.add(connection)
        self.free(connection)

    async def _by_the_clock(self) -> None:
        for i in range(self.total):
            due = self.begun + i / self.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if self._free:
                self._send(self._free.popleft(), due)
            else:
                self._due.append(due)

    async def _all_ended(self) -> None:
        before = -1
        while not self._done.is_set() and before != self.ended:
            before = self.ended
            await asyncio.wait([asyncio.ensure_future(self._done.wait())], timeout=PATIENCE_S)
        if missing := self.total - self.ended:
            self.failures["no answer"] += missing
            self._done.set()

    def _send(self, connection: Connection, due: float) -> None:
        if self.rate:
            self.lateness.append(time.perf_counter() - due)
        connection.send(due, self.requests[self.sent % len(self.requests)])
        self.sent += 1

    def free(self, connection: Connection) -> None:
        """It takes the next request, if there is one."""
        if self._due:
            self._send(connection, self._due.popleft())
        elif not self.rate and self.begun and self.sent < self.total:
            self._send(connection, time.perf_counter())
        else:
            self._free.append(connection)

    def answered(self, status: bytes, answer: bytes, seconds: float) -> None:
        """A whole answer has come, to a request that was due so many seconds ago."""
        if status != b"200":
            self.failures[status.decode()] += 1
        else:
            self.latencies.append(seconds)
            if self.reads:
                self._read(answer)
        self._count()

    def _read(self, answer: bytes) -> None:
        version, decision = VERSION.search(answer), DECISION.search(answer)
        if version and decision:
            self.versions[version[1].decode()] += 1
            self.decisions.add(int(decision[1]))
        else:
            self.failures["answer without version"] += 1

    def failed(self, why: str) -> None:
        """A request that was sent will get no answer."""
        self.failures[why] += 1
        self._count()

    def lost(self, connection: Connection) -> None:
        """A connection was closed; another one takes its place."""
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if not self._done.is_set():
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.exception():  # nobody listens any more
            self.failures["connection refused"] += self.total - self.ended
            self.ended = self.total
            self._done.set()

    def _count(self) -> None:
        self.ended += 1
        if self.ended == self.total:
            self._done.set()

    def _report(self, seconds: float, cpu: float) -> dict[str, Any]:
        return {
            "requests": self.total,
            "failures": dict(self.failures),
            "rate": len(self.latencies) / seconds,
            "p50_ms": percentile(self.latencies, 0.5),
            "p99_ms": percentile(self.latencies, 0.99),
            "most_ms": percentile(self.latencies, 1.0),
            "late_p99_ms": percentile(self.lateness, 0.99),
            "cpu_us": 1e6 * cpu / self.total,
            "versions": dict(self.versions),
            "decisions": sorted(self.decisions),
        }


def percentile(seconds: array[float], share: float) -> float:
    """In milliseconds; NaN of nothing, which is no bar's friend."""
    ordered = sorted(seconds)
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
