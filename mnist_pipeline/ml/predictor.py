"""The one predictor, used by evaluation, batch, single prediction and the service: ONNX Runtime, uint8 in.

Finding out which version to load is the store's business; making images 28×28 is in `images`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnist_pipeline.ml.conformal import NO_SETS, NoSets, PredictionSets, sets_of
from mnist_pipeline.ml.digits import SIDE

ONNX, GOLDEN = "model.onnx", "golden.safetensors"
TOLERANCE = 1e-4  # between the logits that a version must give and those it gives here
BATCH = 256


class WrongAnswers(RuntimeError):
    """A model whose files are whole but that does not give the logits it was stored with."""


@dataclass(frozen=True)
class Predictions:
    """labels: int64 [N]; probabilities: float32 [N, classes], rows sum to 1."""

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """float32 [N], the probability of the label."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]


class Predictor:
    """An ONNX Runtime session over one version's graph. sets: the classes that an answer leaves possible."""

    def __init__(self, graph: bytes, threads: int = 0, sets: PredictionSets | NoSets = NO_SETS) -> None:
        import onnxruntime

        self.sets = sets
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @classmethod
    def load(cls, files: Mapping[str, bytes], threads: int = 0) -> "Predictor":
        """From the files of a version, after replaying its golden inputs. Raises WrongAnswers.

        Raises ValueError for sets that cannot be read.
        """
        from safetensors.numpy import load

        predictor, golden = cls(files[ONNX], threads, sets_of(files)), load(files[GOLDEN])
        off = float(np.abs(predictor.logits(golden["images"]) - golden["logits"]).max())
        if not off <= TOLERANCE:
            raise WrongAnswers(
                f"the model's logits on its golden inputs are off by {off:.2g} (at most {TOLERANCE:g} is allowed): "
                f"this machine or this ONNX Runtime computes something else, so it is not served"
            )
        return predictor

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, classes] from uint8 [N, 28, 28], in batches of 256."""
        if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
            raise ValueError(f"images must be uint8 [N, {SIDE}, {SIDE}], got {images.dtype} {list(images.shape)}")
        parts = [
            self._session.run(None, {"images": images[at : at + BATCH]})[0]
            for at in range(0, max(1, len(images)), BATCH)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def predict(self, images: np.ndarray) -> Predictions:
        """Labels and probabilities of uint8 [N, 28, 28]."""
        probabilities = softmax(self.logits(images))
        return Predictions(probabilities.argmax(1), probabilities)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis, safe against overflow."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
