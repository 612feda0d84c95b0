"""A blob store in memory, and what a child process needs to import the package; for tests of stores."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import mnist_pipeline
from mnist_pipeline.storage.blobs import BlobExists, BlobMissing, check_key


def environment() -> dict[str, str]:
    """What a child process needs to import this package, installed or not, and to reach what this one does."""
    return {**os.environ, "PYTHONPATH": str(Path(mnist_pipeline.__file__).parents[1])}


class MemoryBlobs:
    """The contract in a dictionary, for tests that need thousands of stores."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def read(self, key: str) -> bytes:
        if check_key(key) not in self.held:
            raise BlobMissing(key)
        return self.held[key]

    def create(self, key: str, data: bytes) -> None:
        with self.lock:
            if check_key(key) in self.held:
                raise BlobExists(key)
            self.held[key] = data

    def list(self, prefix: str) -> list[str]:
        if prefix:
            check_key(prefix.removesuffix("/"))
        return sorted(key for key in self.held if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self.read(key)
        del self.held[key]
