"""The process that writes the prediction log: making Parquet in the service's own would keep answers waiting.

Both ends are here: `LogProcess` in the service, and what runs as `python -m mnist_pipeline.service.log_process`. They
talk over pipes. The child ends when its input does, so that it writes what it has even when the service is killed. The
service holds the rows of the part being written and hands them to a new child where one has died: the part has the
same name then, so no row is lost and none is there twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from mnist_pipeline.service.rows import Columns, Parts
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.locations import shelf_at

LAST_S = 20.0  # that the last write may take
GENTLE = 5  # niceness: answers come first
log = logging.getLogger(__name__)


class LogProcess:
    """A `Writer` whose work is done by a child. location: a folder or s3://bucket/prefix."""

    def __init__(self, location: str, endpoint: str = "", *, images: bool = False) -> None:
        kept = ["--images"] if images else []
        self._command = [sys.executable, "-m", __name__, location, endpoint, *kept]
        self._child: subprocess.Popen[bytes] | None = None
        self._held: list[tuple[str, Sequence[Columns]]] = []  # the rows of the part being written

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """The child loads what it needs while the service begins to answer."""
        self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._out = Connection(os.dup(self._child.stdin.fileno()), readable=False)  # type: ignore[union-attr]
        self._in = Connection(os.dup(self._child.stdout.fileno()), writable=False)  # type: ignore[union-attr]
        self._child.stdin.close()  # type: ignore[union-attr]
        self._child.stdout.close()  # type: ignore[union-attr]

    def take(self, part: str, rows: Sequence[Columns]) -> None:
        """Raises StoreUnavailable where no child can be started."""
        self._whatever_happens(lambda: self._out.send(("take", part, rows)))
        self._held.append((part, rows))

    def put(self, part: str) -> None:
        """Raises StoreUnavailable."""
        if fault := self._whatever_happens(lambda: self._asked("put", part)):
            raise StoreUnavailable(fault)

    def end(self) -> None:
        """Forget its rows, there and here."""
        self._held = []
        self._whatever_happens(lambda: self._out.send(("end", "", ())))

    def stop(self) -> None:
        """Wait for the child to write what it has."""
        if self._child is None:
            return
        self._close()
        try:
            self._child.wait(LAST_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _asked(self, what: str, part: str) -> str:
        """What is wrong; "" for nothing."""
        self._out.send((what, part, ()))
        return str(self._in.recv())

    def _whatever_happens(self, said: Callable[[], Any]) -> Any:
        """Say it, to another child where this one has died. Raises StoreUnavailable where that one dies as well."""
        try:
            return said()
        except (OSError, EOFError) as error:
            log.error("the process that writes the prediction log has ended (%r); another is started", error)
        try:
            self._start_again()
            return said()
        except (OSError, EOFError) as error:
            raise StoreUnavailable(
                f"the process that writes the prediction log ends again and again: {error!r}"
            ) from error

    def _start_again(self) -> None:
        if self._child:
            self._close()
            self._child.kill()
            self._child.wait()
        self.start()
        for part, rows in self._held:
            self._out.send(("take", part, rows))

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._out.close()
            self._in.close()


def write_parts(given: Connection, answers: Connection, parts: Parts) -> None:
    """What the child does, until there is nothing more to come."""
    part, dirty = "", False
    while True:
        try:
            what, part, rows = given.recv()
        except EOFError:
            break
        if what == "take":
            parts.take(part, rows)
            dirty = True
        elif what == "put":
            fault = _fault(parts, part)
            dirty = bool(fault)
            answers.send(fault)
        else:
            parts.end()
    if dirty and (fault := _fault(parts, part)):
        log.error("the last predictions could not be written to the prediction log: %s", fault)


def _fault(parts: Parts, part: str) -> str:
    """Why the part could not be written; "" where it could."""
    try:
        parts.put(part)
    except StoreUnavailable as error:
        return str(error)
    return ""


def main(location: str, endpoint: str = "", images: str = "") -> None:
    """Read from standard input, write to the shelf. It ends with the service, not by the signals that the service gets
    as well: Ctrl-C goes to both."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(GENTLE)
    logging.basicConfig(level=logging.WARNING)
    parts = Parts(shelf_at(location, endpoint), images=bool(images))
    parts.start()
    _give_memory_back()
    given, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    write_parts(given, answers, parts)


def _give_memory_back() -> None:
    """Arrow's own pools keep 20 MB that parts of this size do not need."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())


if __name__ == "__main__":
    main(*sys.argv[1:])
