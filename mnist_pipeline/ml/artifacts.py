"""A trained model as the files of a version: weights, ONNX graph, golden inputs with the logits they must give.

No pickle: a network is its weights and its graph, a classical model is its graph alone.
"""

import io
import logging
import warnings
from collections.abc import Mapping

import numpy as np
import torch

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.calibration import fit_temperature
from mnist_pipeline.ml.classical import Classical
from mnist_pipeline.ml.config import CLASSICAL, ModelConfig
from mnist_pipeline.ml.conformal import CONFORMAL, conform
from mnist_pipeline.ml.digits import SIDE, LabeledImages
from mnist_pipeline.ml.network import Network
from mnist_pipeline.ml.predictor import GOLDEN, ONNX, Predictor, softmax
from mnist_pipeline.ml.reference import REFERENCE, pack_reference, reference_of
from mnist_pipeline.ml.training import Trained

WEIGHTS = "weights.safetensors"
ANSWERS = "scikit_learn.safetensors"
GOLDEN_IMAGES = 16
COMPARED_IMAGES = 1_000


def version_files(trained: Trained, validation: LabeledImages) -> dict[str, bytes]:
    """File name -> bytes: all that is stored of what was trained. Whatever more a version is to keep is added here.

    validation: what the training was judged by, for what is fitted after it: the temperature, which the network has
    from then on, and the sets, which are of the probabilities that it gives with it.
    """
    network = trained.network
    network.temperature.fill_(1.0)  # so that doing it again gives the same
    logits = torch_logits(network, validation.images)
    network.temperature.fill_(fit_temperature(logits, validation.labels))
    probabilities = softmax(logits / network.temperature.numpy())
    sets = conform(probabilities, validation.labels, trained.config.coverage)
    files = pack(network, validation.images)
    reference = reference_of(Predictor(files[ONNX]), validation)
    return {**files, CONFORMAL: sets.as_json(), REFERENCE: pack_reference(reference)}


def pack(network: Network, examples: np.ndarray) -> dict[str, bytes]:
    """File name -> bytes. examples: uint8 [N, 28, 28], the first 16 become the golden inputs.

    A classical model is its graph. In place of weights it keeps what scikit-learn itself made of the first 1,000
    examples, which the graph is checked against.
    """
    from safetensors.numpy import save as save_arrays

    golden = np.ascontiguousarray(examples[:GOLDEN_IMAGES])
    own = {ANSWERS: save_arrays({"logits": torch_logits(network, examples[:COMPARED_IMAGES])})}
    return {
        **(own if isinstance(network, Classical) else {WEIGHTS: _weights(network)}),
        ONNX: to_onnx(network),
        GOLDEN: save_arrays({"images": golden, "logits": torch_logits(network, golden)}),
    }


def load_network(files: Mapping[str, bytes], config: ModelConfig, classes: int) -> Network:
    """The torch network of a version, in evaluation mode on the CPU. Raises ValueError for a classical model."""
    from safetensors.torch import load

    network = network_for(config, classes)
    network.load_state_dict(load(files[WEIGHTS]))
    return network.eval()


def original_logits(files: Mapping[str, bytes], config: ModelConfig, classes: int, images: np.ndarray) -> np.ndarray:
    """float32 [N, classes]: what the library that trained a version makes of these images, to hold its graph against.

    images: the examples that it was packed with, of which at most the first 1,000 are answered.
    """
    from safetensors.numpy import load

    if config.architecture in CLASSICAL:
        return load(files[ANSWERS])["logits"]
    return torch_logits(load_network(files, config, classes), images[:COMPARED_IMAGES])


def to_onnx(network: Network) -> bytes:
    """The graph with uint8 [N, 28, 28] in, "logits" float32 [N, classes] out, N free."""
    if isinstance(network, Classical):
        from mnist_pipeline.ml.classical_graphs import classical_graph

        return classical_graph(network)
    return _traced(network)


def torch_logits(network: Network, images: np.ndarray, batch: int = 1_000) -> np.ndarray:
    """float32 [N, classes] from uint8 [N, 28, 28], by torch itself, or by scikit-learn."""
    with torch.inference_mode():
        parts = [network(torch.tensor(images[at : at + batch])) for at in range(0, len(images), batch)]
    return torch.cat(parts).numpy()


def _weights(network: Network) -> bytes:
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in network.state_dict().items()})


def _traced(network: Network) -> bytes:
    buffer = io.BytesIO()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # the exporter before dynamo: 0.08 s instead of 3.1 s, the same logits to 2e-7; it warns of its age
            warnings.simplefilter("ignore", DeprecationWarning)
            # of torch's own attention, which looks at shapes; the graph was tried with other numbers of images
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning, module=r"torch\.")
            # a reversed list of how much is padded stays in the graph; ONNX Runtime folds it when it loads
            warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
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
