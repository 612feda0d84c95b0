"""A residual network at MNIST's size (He et al. 2016), of torchvision's basic blocks."""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.network import Network


class ResNet(Network):
    """One convolution, pooled, then three stages of basic blocks on 14×14, 7×7 and 4×4, their mean, one linear layer.

    The stem is pooled before anything else sees it, as in ImageNet's networks: stages on 28×28 cost four times as much.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        widths = (config.width_1, config.width_2, config.width_3)
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.width_1, config.kernel_1, padding="same", bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(config.width_1),
            nn.ReLU(inplace=True),
        )
        befores = (config.width_1, *widths[:2])
        self.stages = nn.Sequential(
            *(
                _stage(before, width, config.blocks, stride)
                for before, width, stride in zip(befores, widths, (1, 2, 2), strict=True)
            )
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width_3, classes)

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.stages(self.stem(pixels)).mean((2, 3))))


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """So many blocks, of which the first changes width and side."""
    changes = stride != 1 or before != width
    shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    first = BasicBlock(before, width, stride, shortcut if changes else None)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))
