"""Checkpoints of trainings as files, so that one that was killed goes on: in the process, run or pod that comes next.

A file is bound to its training by its name and by what is in it: other data, code, configuration, threads or device
never go on from it. Its name also carries the time and its sha256.
Not here: what is in a checkpoint (`ml/checkpoints.py`), and to what it is bound (`trainers.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.sealed import sha256
from mnist_pipeline.storage.shelves import Missing, Shelf

if TYPE_CHECKING:
    from mnist_pipeline.ml.checkpoints import Checkpoint

KEPT_S = 3 * 24 * 60 * 60  # seconds; nobody comes back to a training that was left for so long
SHARE = 0.01  # of the time of a training that checkpoints may take, however slow the storage is
NAME = re.compile(r"(?P<bound>[0-9a-f]{32})-(?P<ns>\d{20})-(?P<sha256>[0-9a-f]{64})\.safetensors")


class Log(Protocol):
    """What is told, as Dagster's log and Python's take it."""

    def info(self, msg: str, /) -> Any:
        """That all goes on."""

    def warning(self, msg: str, /) -> Any:
        """That something is not as it should be."""


@dataclass
class CheckpointFiles:
    """Those of one training. bound: 32 hex digits.

    every_s: seconds at least from one to the next, and more on a slow storage; 0: after each epoch, whatever it costs.
    last_too: whether the state at the end is kept whatever the time: where somebody else takes it from here.
    """

    shelf: Shelf
    bound: str
    every_s: float
    log: Log
    last_too: bool = False
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = time.monotonic() + self.every_s

    def load(self) -> Checkpoint | None:
        """The newest that is whole; one that is not is named in the log. Raises StoreUnavailable."""
        names = self._swept()
        for name in reversed(names):
            if found := self._read(name):
                self.log.info(f"the training goes on after {_reached(found)}: {self.shelf.where(name)}")
                return found
        if names:
            self.log.warning("no checkpoint of this training can be used: it starts anew")
        return None

    def newest(self) -> Checkpoint | None:
        """The same for somebody who only looks. Raises StoreUnavailable."""
        return next((found for name in reversed(self._own()) if (found := self._read(name))), None)

    def save(self, make: Callable[[], Checkpoint], over: bool) -> None:
        """Keep the state if it is time. A storage that fails ends no training: it is told, and tried again later.

        Raises StoreUnavailable at the end where somebody waits for it.
        """
        begun, handed_on = time.monotonic(), over and self.last_too
        if begun < self.due and not handed_on:
            return
        try:
            self.put(make())
        except StoreUnavailable as error:
            if handed_on:
                raise
            self.log.warning(f"no checkpoint was written, the training goes on without: {error}")
        ended = time.monotonic()
        self.due = ended + (max(self.every_s, (ended - begun) / SHARE) if self.every_s else 0.0)

    def put(self, checkpoint: Checkpoint) -> None:
        """Keep it now, in place of those before it. Raises StoreUnavailable."""
        from mnist_pipeline.ml.checkpoints import pack

        data = pack(checkpoint, self.bound)
        before = self._own()
        self.shelf.put(f"{self.bound}-{time.time_ns():020d}-{sha256(data)}.safetensors", data)
        for name in before:
            self.shelf.delete(name)

    def clear(self) -> None:
        """Once the model is stored nobody goes on from here."""
        for name in self._own():
            self.shelf.delete(name)

    def _own(self) -> list[str]:
        return self.shelf.list(self.bound)

    def _swept(self) -> list[str]:
        """Own names, oldest first; what trainings have left that nobody came back to is removed."""
        oldest, own = time.time_ns() - KEPT_S * 10**9, []
        for name in self.shelf.list(""):
            parts = NAME.fullmatch(name)
            if parts and int(parts["ns"]) < oldest:
                self.shelf.delete(name)
            elif name.startswith(self.bound):
                own.append(name)
        return own

    def _read(self, name: str) -> Checkpoint | None:
        """None for one that is refused, and for one that another run has just replaced."""
        from mnist_pipeline.ml.checkpoints import unpack

        try:
            data, parts = self.shelf.get(name), NAME.fullmatch(name)
            if not parts or parts["sha256"] != sha256(data):
                raise ValueError("it is not whole: its sha256 is not the one in its name")
            return unpack(data, self.bound)
        except Missing:
            return None
        except ValueError as error:
            self.log.warning(f"the checkpoint {self.shelf.where(name)} is refused: {error}")
            return None


def _reached(checkpoint: Checkpoint) -> str:
    last = checkpoint.facts["history"][-1]
    return f"epoch {last['number']} of {last['of']}"
