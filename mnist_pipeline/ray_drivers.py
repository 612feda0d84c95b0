"""Drivers: processes that are on a Ray cluster for a run, as the run sees them. They talk in lines of JSON.

A process of its own, because Ray ends the process that has lost its cluster and takes over its signals, because a call
into a cluster that does not answer can then be ended, and because an ended driver gives back its actors. The run may so
belong to a Ray job itself. Not here: the driver's side (`on_ray.py`), and what it is told to do.
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

PROJECT = Path(__file__).resolve().parents[1]  # from where the package is found, installed or not
KNOCK_S, ENDS_S = 5.0, 20.0
JOINS_S = 60.0  # Ray itself tries for ever where something else than Ray listens; a cluster answers after five
HEAD_PORT = 6379
TAIL = 3_000  # characters of what the driver said, for an error


class ClusterAway(ConnectionError):
    """Nobody answers at the address of the cluster. It may come back, so Dagster tries the step again."""


def knock(address: str) -> None:
    """Whether something listens there. Ray itself tries a closed port for a minute, and names the wrong culprit.

    address: host:port of a head, or the URL of a dashboard. Raises OSError; ValueError for what is neither.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, HEAD_PORT)
    socket.create_connection((parts.hostname or "", port), KNOCK_S).close()


def find(address: str, otherwise: str) -> None:
    """Raises ClusterAway where no head listens. otherwise: what to do without."""
    try:
        knock(address)
    except OSError as error:
        raise ClusterAway(
            f"no Ray cluster answers at {address} ({error}): start it, or correct RAY_ADDRESS, or {otherwise}"
        ) from error


@dataclass
class Driver:
    """The child, and the lines that it says: {"joined": …} and others, or {"failed": …, "kind": …}.

    log: what else it prints, for errors; None: that goes where the run's own goes. errors: by kind; "failed" is any.
    """

    child: subprocess.Popen[str]
    lines: queue.SimpleQueue[str]
    log: IO[bytes] | None
    errors: Mapping[str, type[Exception]]

    def order(self, order: object) -> None:
        """In one line; what comes after is nothing, as long as the run lives."""
        assert self.child.stdin
        with suppress(BrokenPipeError):  # it has ended, which is told to whoever waits for its first word
            self.child.stdin.write(json.dumps(order) + "\n")
            self.child.stdin.flush()

    def wait_until_joined(self, address: str) -> None:
        """Raises ClusterAway where it has not joined in time, else one of `errors`. address: for people."""
        try:
            line = self.lines.get(timeout=JOINS_S)
        except queue.Empty:
            raise ClusterAway(
                f"something listens at {address}, and no Ray cluster has answered there for {JOINS_S:.0f} s: correct "
                f"RAY_ADDRESS (the head's port, not its dashboard's), or see whether the head is well.{self._tail()}"
            ) from None
        self._told("it is joined", line, "joined")

    def wait(self, what: str, seconds: float, key: str) -> Any:
        """What it says next under this key. Raises one of `errors` when it fails, ends, or says nothing in time."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            said = f"the Ray cluster was given up: {seconds:.0f} s, and still waiting until {what}.{self._tail()}"
            raise self.errors["failed"](said) from None
        return self._told(what, line, key)

    def _told(self, what: str, line: str, key: str) -> Any:
        if not line:
            raise self.errors["failed"](f"the driver on the Ray cluster ended before {what}.{self._tail()}")
        told = json.loads(line)
        if key not in told:
            raise self.errors.get(told["kind"], self.errors["failed"])(told["failed"])
        return told[key]

    def _tail(self) -> str:
        if self.log is None:
            return " Its output says why"
        self.log.seek(0)
        return "\n" + self.log.read().decode(errors="replace")[-TAIL:]


@contextmanager
def driver(module: str, errors: Mapping[str, type[Exception]], log: IO[bytes] | None = None) -> Iterator[Driver]:
    """One that waits for its order: `main` of that module. It ends with the block, however that ends, and with this
    process."""
    command = (sys.executable, "-c", f"from {module} import main; main()")
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=PROJECT)
    assert child.stdout
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    try:
        yield Driver(child, lines, log, errors)
        with suppress(subprocess.TimeoutExpired):  # it leaves the cluster by itself
            child.wait(ENDS_S)
    finally:
        _end(child)
        reader.join(ENDS_S)
        child.stdout.close()


def _read(child: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Every line; an empty one at the end."""
    assert child.stdout
    for line in child.stdout:
        lines.put(line)
    lines.put("")


def _end(child: subprocess.Popen[str]) -> None:
    """By closing its input, at which it leaves the cluster; by force when that takes long."""
    assert child.stdin
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
