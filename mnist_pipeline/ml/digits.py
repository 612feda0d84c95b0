"""The values that flow between the data assets: labelled 28×28 images in named parts, and where they came from.

Reading them from outside is in `sources`; cutting them into parts is in `split`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a tenth of a second of loading the code location
    import numpy as np

SIDE = 28
VALIDATION_SHARE = 0.2  # of the training images, where nobody asks for another
Preparation = Literal["ink", "resize"]


def preparation_named(name: str) -> Preparation:
    """Raises ValueError for a preparation that does not exist."""
    if name == "ink":
        return "ink"
    if name == "resize":
        return "resize"
    raise ValueError(f"unknown preparation {name!r}: it is ink or resize (MNIST_PREPARATION)")


@dataclass(frozen=True)
class LabeledImages:
    """images: uint8 [N, 28, 28], light ink on black; labels: uint8 [N], indices into the class names."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != "uint8" or self.images.shape[1:] != (SIDE, SIDE):
            raise ValueError(
                f"images must be uint8 [N, {SIDE}, {SIDE}], got {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != "uint8" or self.labels.ndim != 1:
            raise ValueError(f"labels must be uint8 [N], got {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images):,} images but {len(self.labels):,} labels: one of them is cut")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> LabeledImages:
        """The images and labels at these row numbers."""
        return LabeledImages(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class FromFeedback:
    """What people put right, at the end of the training part: so many rows, and the digest of these."""

    rows: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Origin:
    """Where the images came from, and how images from outside are to be prepared to look like them.

    source: a sentence for people, e.g. "IDX files in /data/mnist, verified against the published digests".
    fallback: True when this is not what was asked for first, but what could be had.
    validation_share: of the training images, what validation was asked to be when they were split.
    feedback: what was added to the training part.
    """

    dataset: str
    source: str
    class_names: tuple[str, ...]
    preparation: Preparation = "ink"
    fallback: bool = False
    validation_share: float = VALIDATION_SHARE
    feedback: FromFeedback = FromFeedback()

    @property
    def called(self) -> str:
        """The data set as a version's card names it: with the feedback that is in it."""
        added = self.feedback
        return f"{self.dataset} + {added.rows} of feedback {added.digest[:12]}" if added.rows else self.dataset


@dataclass(frozen=True)
class DigitData:
    """Named parts: {"train", "test"} when raw, {"train", "validation", "test"} once split."""

    parts: Mapping[str, LabeledImages]
    origin: Origin

    def __getitem__(self, part: str) -> LabeledImages:
        return self.parts[part]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    def digest(self) -> str:
        """sha256 of the content: every part, the class names and the preparation; not of where it came from."""
        import numpy as np

        whole = hashlib.sha256(json.dumps([self.origin.class_names, self.origin.preparation]).encode())
        for name in sorted(self.parts):
            whole.update(f"{name} {len(self.parts[name])}".encode())
            whole.update(np.ascontiguousarray(self.parts[name].images).data)
            whole.update(np.ascontiguousarray(self.parts[name].labels).data)
        return whole.hexdigest()


def to_tensors(data: DigitData) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and text metadata for one safetensors file."""
    arrays: dict[str, np.ndarray] = {}
    for name, part in data.parts.items():
        arrays[f"{name}.images"], arrays[f"{name}.labels"] = part.images, part.labels
    return arrays, {"origin": json.dumps(asdict(data.origin))}


def from_tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> DigitData:
    """The inverse of `to_tensors`."""
    origin = json.loads(metadata["origin"])
    names = sorted({key.rsplit(".", 1)[0] for key in arrays})
    parts = {name: LabeledImages(arrays[f"{name}.images"], arrays[f"{name}.labels"]) for name in names}
    told = {"class_names": tuple(origin["class_names"]), "feedback": FromFeedback(**origin.get("feedback", {}))}
    return DigitData(parts, Origin(**{**origin, **told}))
