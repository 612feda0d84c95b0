"""Every architecture: pixels in, logits out, normalised inside, and the same graph as network at every batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.resnet import BasicBlock
from torchvision.models.vision_transformer import EncoderBlock

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.artifacts import load_network, pack, to_onnx, torch_logits
from mnist_pipeline.ml.config import CLASSICAL, NETWORKS, Architecture, ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.network import Network
from mnist_pipeline.ml.predictor import TOLERANCE, Predictor
from mnist_pipeline.ml.training import train

SMALL: dict[str, Any] = {"width_1": 4, "width_2": 6, "width_3": 8, "embedding": 8, "depth": 2, "heads": 2, "patch": 7}
NOISE = np.random.default_rng(0).integers(0, 256, (257, 28, 28)).astype(np.uint8)


def network(architecture: str, classes: int = 10, **knobs: Any) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ModelConfig(**{**SMALL, "architecture": architecture, **knobs})
        return network_for(config, classes).eval()


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("classes", [2, 47])
def test_the_graph_gives_the_answers_of_the_network_for_any_number_of_images(
    architecture: Architecture, classes: int
) -> None:
    net = network(architecture, classes)
    net.temperature.fill_(1.7)
    predictor = Predictor(to_onnx(net), threads=1)
    for count in (1, 2, 257):
        answers = predictor.logits(NOISE[:count])
        assert (answers.shape, answers.dtype) == ((count, classes), np.float32)
        assert np.abs(answers - torch_logits(net, NOISE[:count])).max() <= TOLERANCE


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_network_comes_back_from_its_files(architecture: Architecture) -> None:
    net = network(architecture)
    back = load_network(pack(net, NOISE[:20]), ModelConfig(**SMALL, architecture=architecture), 10)
    assert np.array_equal(torch_logits(back, NOISE[:5]), torch_logits(net, NOISE[:5]))


@pytest.mark.parametrize("architecture", NETWORKS)
def test_answers_do_not_depend_on_who_is_asked_about_at_the_same_time(architecture: Architecture) -> None:
    net = network(architecture)
    assert torch_logits(net, NOISE[3:4]) == pytest.approx(torch_logits(net, NOISE[:9])[3:4], abs=1e-5)


def test_a_resnet_is_made_of_torchvisions_blocks() -> None:
    blocks = [each for each in network("resnet", blocks=2).modules() if isinstance(each, BasicBlock)]
    assert [each.conv2.out_channels for each in blocks] == [4, 4, 6, 6, 8, 8]


def test_a_vision_transformer_is_made_of_torchvisions_encoder() -> None:
    net = network("vit", depth=3)
    layers = [each for each in net.modules() if isinstance(each, EncoderBlock)]
    assert [each.num_heads for each in layers] == [2, 2, 2]
    assert tuple(net.encoder.pos_embedding.shape) == (1, 16, 8)


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_a_classical_model_is_no_network_and_has_no_weights(architecture: Architecture) -> None:
    with pytest.raises(ValueError, match=f"{architecture} is no network"):
        network(architecture)


@pytest.mark.parametrize(("architecture", "rate"), [("resnet", 0.01), ("vit", 0.01)])
def test_it_learns_twenty_images_by_heart(digits: DigitData, architecture: Architecture, rate: float) -> None:
    twenty = digits["train"].take(np.arange(20))
    knobs = {**SMALL, "epochs": 40, "shift": 0, "dropout": 0.0, "batch_size": 20, "learning_rate": rate}
    config = ModelConfig(**knobs, architecture=architecture, precision="float32", device="cpu")
    trained = train(twenty, twenty, 10, config)
    assert torch_logits(trained.network, twenty.images).argmax(1).tolist() == twenty.labels.tolist()
