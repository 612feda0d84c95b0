"""A trained network as the files of a version: weights, ONNX graph, golden inputs with the logits they must give."""

import io
import logging
import warnings
from collections.abc import Mapping

import numpy as np
import torch

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import SIDE, LabeledImages
from mnist_pipeline.ml.network import Network
from mnist_pipeline.ml.predictor import GOLDEN, ONNX, Predictor
from mnist_pipeline.ml.reference import REFERENCE, pack_reference, reference_of
from mnist_pipeline.ml.training import Trained

WEIGHTS = "weights.safetensors"
GOLDEN_IMAGES = 16


def version_files(trained: Trained, validation: LabeledImages) -> dict[str, bytes]:
    """File name -> bytes: all that is stored of what was trained. Whatever more a version is to keep is added here.

    validation: what the training was judged by, for what is fitted after it.
    """
    files = pack(trained.network, validation.images)
    return {**files, REFERENCE: pack_reference(reference_of(Predictor(files[ONNX]), validation))}


def pack(network: Network, examples: np.ndarray) -> dict[str, bytes]:
    """File name -> bytes. examples: uint8 [N, 28, 28], the first 16 become the golden inputs."""
    from safetensors.numpy import save as save_arrays
    from safetensors.torch import save as save_tensors

    golden = np.ascontiguousarray(examples[:GOLDEN_IMAGES])
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    return {
        WEIGHTS: save_tensors(weights),
        ONNX: to_onnx(network),
        GOLDEN: save_arrays({"images": golden, "logits": torch_logits(network, golden)}),
    }


def load_network(files: Mapping[str, bytes], config: ModelConfig, classes: int) -> Network:
    """The torch network of a version, in evaluation mode on the CPU."""
    from safetensors.torch import load

    network = network_for(config, classes)
    network.load_state_dict(load(files[WEIGHTS]))
    return network.eval()


def to_onnx(network: Network) -> bytes:
    """The graph with uint8 [N, 28, 28] in, "logits" float32 [N, classes] out, N free."""
    buffer = io.BytesIO()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # the exporter before dynamo: 0.08 s instead of 3.1 s, the same logits to 2e-7; it warns of its age
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                network,
                (torch.zeros(1, SIDE, SIDE, dtype=torch.uint8),),
                buffer,  # type: ignore[arg-type]
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
                dynamo=False,
            )
    finally:
        exporter_log.setLevel(level)
    return buffer.getvalue()


def torch_logits(network: Network, images: np.ndarray, batch: int = 1_000) -> np.ndarray:
    """float32 [N, classes] from uint8 [N, 28, 28], by torch itself."""
    with torch.inference_mode():
        parts = [network(torch.tensor(images[at : at + batch])) for at in range(0, len(images), batch)]
    return torch.cat(parts).numpy()
