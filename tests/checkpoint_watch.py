"""How far a training is that goes on elsewhere, by the checkpoints that it leaves."""

from __future__ import annotations

from pathlib import Path

from mnist_pipeline.checkpoint_files import NAME
from mnist_pipeline.ml.checkpoints import unpack


def reached(folder: Path) -> int:
    """The epoch of the newest checkpoint there; 0: none."""
    return max((_epochs(path) for path in folder.glob("[0-9a-f]*.safetensors")), default=0)


def _epochs(path: Path) -> int:
    parts = NAME.fullmatch(path.name)
    assert parts
    try:
        return len(unpack(path.read_bytes(), parts["bound"]).facts.get("history", ()))
    except FileNotFoundError:  # replaced just now
        return 0
