"""Feedback: drawings that people have put right, kept as an image folder that the pipeline can train on.

A folder a class, as `MNIST_DATA_DIR` takes it; beside each picture a record of what is on it, when
that was said and with which request it had been asked; the prediction log says who answered that, and what.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mnist_pipeline.storage.blobs import BadKey, check_part
from mnist_pipeline.storage.sealed import now
from mnist_pipeline.storage.shelves import Shelf


@dataclass(frozen=True)
class Feedback:
    """What is kept, on a shelf: `images/<label>/<digest>.<suffix>` and `records/<digest>-<label>.json`."""

    shelf: Shelf

    def keep(self, image: bytes, suffix: str, label: str, **about: Any) -> str:
        """The name under which it is kept; the same picture with the same label is kept once.

        Raises StoreUnavailable.
        """
        digest, folder = sha256(image).hexdigest()[:20], _folder(label)
        name = f"images/{folder}/{digest}.{suffix}"
        self.shelf.put(name, image)
        record = {"label": label, "image": name, "time": now(), **about}
        self.shelf.put(f"records/{digest}-{folder}.json", json.dumps(record, allow_nan=False).encode())
        return name


def _folder(label: str) -> str:
    """The name of a class as the name of a folder, changed only where a store would not take it: T-shirt/top, say."""
    try:
        return check_part(label)
    except BadKey:
        return "class-" + re.sub(r"[^A-Za-z0-9_-]", "-", label)[:100]
