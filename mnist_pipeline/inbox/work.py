"""The work of a night, told so that any process on any machine can do a shard of it: plain words, nothing opened.

Here: what is told to workers (`Work`), who is to score (`StoredModel`), and what they tell back (`Done`).
Not here: doing it (`parts.py`), and who does it (`engines.py`). Light: nothing heavy is imported before it is used.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from mnist_pipeline.code_versions import code_version
from mnist_pipeline.storage.blobs import BlobMissing
from mnist_pipeline.storage.locations import blobs_at

if TYPE_CHECKING:
    from mnist_pipeline.inbox.scoring import Scorer
    from mnist_pipeline.production import Production

MODULES = (
    *("inbox/mailbox.py", "inbox/bucket.py", "inbox/shards.py", "inbox/scoring.py", "inbox/parts.py"),
    *("ml/array_files.py", "ml/parquet_images.py", "ml/image_rows.py", "ml/decoding.py", "ml/idx.py", "ml/images.py"),
    *("ml/predictor.py", "ml/conformal.py", "ml/pixels.py"),
)
"""What a row of a night comes to by; with the libraries below it decides about every byte of a part."""
LIBRARIES = ("numpy", "onnxruntime", "pillow", "pyarrow", "scipy")


class EngineFailed(RuntimeError):
    """Shards could not be scored where they were to be; the message says where, why and what to do."""


class Unreachable(EngineFailed):
    """A worker does not see the files that it is to read, or others do not see those that it writes."""


class Model(Protocol):
    """Who scores: loaded by every worker for itself."""

    @property
    def version(self) -> str:
        """Its name in the store."""

    @property
    def decision(self) -> int:
        """The number of the one by which it serves."""

    def load(self, threads: int = 0) -> Scorer:
        """Verified. threads: of ONNX Runtime, 0 for as many as there are cores."""


@dataclass(frozen=True)
class StoredModel:
    """A version in the model store, as a decision has it. location, endpoint: of the store; card: sha256 of its card.

    Whoever loads it verifies every file against the card, and the card against the decision.
    """

    location: str
    endpoint: str
    decision: int
    version: str
    card: str
    abstain: bool = False

    @classmethod
    def of(cls, production: Production, location: str, endpoint: str, *, abstain: bool) -> StoredModel:
        """What serves, for others to load."""
        decision = production.decision
        return cls(location, endpoint, decision.number, production.card.name, decision.card_digest, abstain)

    def load(self, threads: int = 0) -> Scorer:
        """Raises CorruptVersion, UnknownVersion, WrongAnswers, CorruptLedger; EngineFailed for another store."""
        from mnist_pipeline.inbox.scoring import Scorer
        from mnist_pipeline.ml.digits import preparation_named
        from mnist_pipeline.ml.predictor import Predictor
        from mnist_pipeline.store import ModelStore

        store = ModelStore(blobs_at(self.location, self.endpoint))
        try:
            decision = store.ledger.read(self.decision)
        except BlobMissing:
            raise EngineFailed(
                f"the model store {self.location}, as it is seen here, has no decision {self.decision}: give all "
                f"machines the same one, in a folder that they share or in a bucket"
            ) from None
        if (decision.serves, decision.card_digest) != (self.version, self.card):
            raise EngineFailed(
                f"decision {self.decision} in {self.location} is about {decision.serves}, not {self.version}: it is "
                f"another model store; give all machines the same one"
            )
        card, files = store.load_decided(decision)
        names, preparation = tuple(card.class_names), preparation_named(card.preparation)
        predictor = Predictor.load(files, threads)
        return Scorer(predictor, names, preparation, card.name, self.decision, self.abstain, self.card)


@dataclass(frozen=True)
class Work:
    """One night's. inbox, predictions: a folder or s3://bucket/prefix each, which every worker must see.

    probe: by it a worker knows that it sees what the others see; made_with: by it, that it runs the same code.
    """

    night: str
    inbox: str
    predictions: str
    endpoint: str
    model: Model
    made_with: str
    probe: str = ""

    @property
    def parts(self) -> str:
        """What the names of all its parts on the shelf of predictions begin with."""
        return f"parts/{self.night}"


@dataclass(frozen=True)
class Done:
    """What came of shard `index`: the part `name` whose card has this sha256, or why it could not be read.

    new: whether it was scored now, and not found from an earlier run.
    """

    index: int
    name: str = ""
    card: str = ""
    fault: str = ""
    new: bool = True


@functools.cache
def made_with() -> str:
    """Code and libraries of this process, as far as they decide about the bytes of a part."""
    return code_version(*MODULES, settings=[f"{name} {version(name)}" for name in LIBRARIES])
