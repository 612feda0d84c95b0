"""The networks: uint8 pixels in, logits out. Normalisation is their first operation and scaling by a temperature their
last, so nobody else normalises or calibrates.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import SIDE

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to 0..1
VIEWS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))  # pixels down and right


class Network(nn.Module):
    """What all networks share. A subclass says in `scores` what it makes of normalised pixels.

    temperature: divides the logits (Guo et al. 2017); 1 until it is fitted on validation after the training.
    five_views: whether answers are means over VIEWS; not while it learns.
    """

    five_views = False

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN * 255))
        self.register_buffer("std", torch.tensor(STD * 255))
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 or float 0..255 [N, 28, 28] -> logits float32 [N, classes]."""
        raw = images.unsqueeze(1).float()
        if self.training or not self.five_views:
            return self._logits(raw)
        return torch.stack([self._logits(view) for view in views_of(raw)]).mean(0)

    def _logits(self, raw: torch.Tensor) -> torch.Tensor:
        return self.scores((raw - self.mean) / self.std).float() / self.temperature

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: float [N, 1, 28, 28], normalised -> logits [N, classes] before the temperature."""
        raise NotImplementedError


def views_of(images: torch.Tensor) -> list[torch.Tensor]:
    """float [N, 1, 28, 28] -> five of them: as they are, then all moved right, left, down and up; black follows."""
    return [F.pad(images, (right, -right, down, -down)) for down, right in VIEWS]


class DigitCNN(Network):
    """Three convolutions with batch norm, the first two max-pooled, dropout, one linear layer.

    Pooling comes before batch norm and activation, which gives the same for a quarter of their work: 1.17 times
    the images/s. The first two convolutions need no padding on MNIST, whose border is empty.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        padding = "same" if config.padded else "valid"
        self.features = nn.Sequential(
            nn.Conv2d(1, config.width_1, config.kernel_1, padding=padding, bias=False),
            nn.MaxPool2d(2),
            *_normalised(config.width_1),
            nn.Conv2d(config.width_1, config.width_2, config.kernel_2, padding=padding, bias=False),
            nn.MaxPool2d(2),
            *_normalised(config.width_2),
            nn.Conv2d(config.width_2, config.width_3, config.kernel_3, padding="same", bias=False),
            *_normalised(config.width_3),
        )
        self.dropout = Dropout(config.dropout)
        lost_1, lost_2 = (0, 0) if config.padded else (config.kernel_1 - 1, config.kernel_2 - 1)
        side = ((SIDE - lost_1) // 2 - lost_2) // 2
        self.classifier = nn.Linear(config.width_3 * side**2, classes)

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(pixels).flatten(1)))


class Dropout(nn.Dropout):
    """The same as torch's; on a CPU, where that draws one number after the other (an eighth of a step of the preset
    `accurate`), four to a draw. The share that is dropped is rounded to a 65,536th."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        drawn = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        dropped = round(self.p * 2**16)
        kept = drawn.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - 2**15
        return input * kept.to(input.dtype).div_(1 - dropped / 2**16)


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
