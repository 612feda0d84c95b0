"""A vision transformer at MNIST's size (Dosovitskiy et al. 2021), of torchvision's encoder."""

import torch
from torch import nn
from torchvision.models.vision_transformer import Encoder

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.ml.network import Network

EXPANSION = 2  # of the hidden layers; 4 is usual, for networks a hundred times the size


class VisionTransformer(Network):
    """Patches, embedded by a convolution; an encoder; the mean of what comes of all patches; one linear layer.

    The mean instead of a token of the class: simpler, and better on small data (Beyer et al. 2022).
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        width, patches = config.embedding, (SIDE // config.patch) ** 2
        self.embed = nn.Conv2d(1, width, config.patch, config.patch)
        self.encoder = Encoder(
            patches,
            config.depth,
            config.heads,
            width,
            EXPANSION * width,
            dropout=config.dropout,
            attention_dropout=0.0,
        )
        self.classifier = nn.Linear(width, classes)

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.embed(pixels).flatten(2).transpose(1, 2)
        return self.classifier(self.encoder(patches).mean(1))
