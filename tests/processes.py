"""Processes of tests: servers and daemons, each with its log, in a group of its own so that nothing outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from pipelines import ROOT, instance_of


@dataclass
class Process:
    """A child with its log; it leads a process group, so that ending it ends its children too."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, env={**os.environ, **self.env}, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def kill(self) -> None:
        """kill -9, its children too."""
        self.end(signal.SIGKILL)

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.child is None:
            return
        for each in (how, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, each)
            except ProcessLookupError:
                break
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                continue
        self.child.wait()
        self.child = None

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what: str, seen: Callable[[], Any], seconds: float, every: float = 0.5) -> Any:
    """The first true answer. Raises TimeoutError naming what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := seen():
            return answer
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def answers(url: str) -> bool:
    """Whether a server answers at all."""
    try:
        urlopen(url, timeout=2).close()
    except (URLError, OSError) as error:
        return hasattr(error, "code")
    return True


@contextmanager
def running(process: Process, until: Callable[[], Any], seconds: float = 90) -> Iterator[Process]:
    """A server that has answered once; ended afterwards."""
    process.start()
    try:
        wait(f"{process.name} answers", until, seconds)
        yield process
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{process.tail()}") from error
    finally:
        process.end()


def daemon(env: Mapping[str, str], log: Path, where: Sequence[str] = ("-m", "mnist_pipeline.definitions")) -> Process:
    """dagster-daemon with its code server, over this package or other definitions; not started yet.

    The tables are there by then: daemon and test would trip over each other while both make them in an empty folder.
    """
    with instance_of(env):
        pass
    command = [sys.executable, "-m", "dagster._daemon", "run", *where]
    return Process("dagster-daemon", command, env, log)
