"""Random changes to a batch of training images, as tensor operations on the whole batch."""

import torch
import torch.nn.functional as F

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import SIDE


def augment(
    images: torch.Tensor, config: ModelConfig, generator: torch.Generator, *, warp: bool = True
) -> torch.Tensor:
    """uint8 [N, 28, 28] -> uint8 or float of the same shape, values 0..255; black fills in from outside.

    warp: whether images may be turned, scaled and sheared, if config says so; otherwise the batch is moved only.
    """
    if warp and (config.rotation or config.scale or config.shear):
        return _warp(images, config, generator)
    return _shift(images, config.shift, generator) if config.shift else images


def _shift(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """The whole batch by one random offset: a view of a padded copy, so it costs next to nothing."""
    down, right = torch.randint(0, 2 * pixels + 1, (2,), generator=generator).tolist()
    height, width = images.shape[1:]
    return F.pad(images, (pixels,) * 4)[:, down : down + height, right : right + width]


def _warp(images: torch.Tensor, config: ModelConfig, generator: torch.Generator) -> torch.Tensor:
    """Every image by a rotation, scales, a shear and a shift of its own."""

    def uniform(bound: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(config.rotation))
    across, down, shear = 1 + uniform(config.scale), 1 + uniform(config.scale), uniform(config.shear)
    right, below = uniform(2 * config.shift / SIDE), uniform(2 * config.shift / SIDE)  # the grid goes from -1 to 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cos * across, (shear * cos - sin) * down, right], 1),
        torch.stack([sin * across, (shear * sin + cos) * down, below], 1),
    ]
    pixels = images.unsqueeze(1).float()
    grid = F.affine_grid(torch.stack(rows, 1).to(images.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False).squeeze(1)
