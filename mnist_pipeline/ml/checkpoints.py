"""A checkpoint: all that a training needs to go on as if nothing had happened, as a value and as bytes.

Not here: what belongs into it (`training_state.py`, `training.py`), and where it is kept (`checkpoint_files.py`).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

HEADER = "__metadata__"  # what safetensors calls the texts beside the tensors


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by name, of any device. facts: what is no tensor, as JSON takes it."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


class Checkpoints(Protocol):
    """Where a training leaves its state after each epoch, and finds it again."""

    def load(self) -> Checkpoint | None:
        """What is to be gone on from; None: from the start."""

    def save(self, make: Callable[[], Checkpoint], over: bool) -> None:
        """Keep the state of now, or not if the last one is young: then it is not even made. over: it is the last."""


class NoCheckpoints:
    """For trainings that are over before they are missed."""

    def load(self) -> Checkpoint | None:
        """Nothing."""
        return None

    def save(self, make: Callable[[], Checkpoint], over: bool) -> None:
        """Nothing happens."""


def pack(checkpoint: Checkpoint, bound: str) -> bytes:
    """One safetensors file with the facts as JSON beside the tensors. bound: to which training it belongs."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    return save(tensors, {"bound": bound, "facts": json.dumps(checkpoint.facts, allow_nan=False)})


def unpack(data: bytes, bound: str) -> Checkpoint:
    """What `pack` made, on the CPU. Raises ValueError for bytes that are none, or belong to another training."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        texts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get(HEADER, {})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"it is no checkpoint: {error}") from error
    if texts.get("bound") != bound:
        raise ValueError("it belongs to another training")
    return Checkpoint(tensors, json.loads(texts["facts"]))


def bound_to(**circumstances: Any) -> str:
    """32 hex digits over everything that must be the same for a training to go on. circumstances: as JSON."""
    return hashlib.sha256(json.dumps(circumstances, sort_keys=True).encode()).hexdigest()[:32]
