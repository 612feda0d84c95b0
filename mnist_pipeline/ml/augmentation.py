"""Random changes to a batch of training images, as tensor operations on the whole batch."""

import numpy as np
import torch
import torch.nn.functional as F

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import SIDE

COARSE = 7  # displacements are drawn on so many points a side and smoothed in between: each bends about a stroke
ERASED = (0.02, 0.2)  # least and largest share of the area


def augment(
    images: torch.Tensor, config: ModelConfig, generator: torch.Generator, *, warp: bool = True
) -> torch.Tensor:
    """uint8 [N, 28, 28] -> uint8 or float of the same shape, values 0..255; black fills in from outside.

    warp: whether images may be changed one by one, if config says so; otherwise the batch is moved only. What is
    switched off draws nothing from the generator.
    """
    if warp and is_warped(config):
        images = _warp(images, config, generator)
    elif config.shift:
        images = _shift(images, config.shift, generator)
    return _erase(images, config.erasing, generator) if warp and config.erasing else images


def is_warped(config: ModelConfig) -> bool:
    """Whether images are bent one by one, and so resampled."""
    return bool(config.rotation or config.scale or config.shear or config.elastic)


def changes_images(config: ModelConfig) -> bool:
    """Whether anything is done to an image by itself, not only to the batch as a whole."""
    return is_warped(config) or bool(config.erasing)


def samples(images: np.ndarray, config: ModelConfig, draws: int = 3) -> np.ndarray:
    """uint8 [draws + 1, N, 28, 28]: these images, and so many ways in which training may see them."""
    generator, batch = torch.Generator().manual_seed(config.seed), torch.tensor(images)
    seen = [augment(batch, config, generator).round().to(torch.uint8) for _ in range(draws)]
    return torch.stack([batch, *seen]).numpy()


def _shift(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """The whole batch by one random offset: a view of a padded copy, so it costs next to nothing."""
    down, right = torch.randint(0, 2 * pixels + 1, (2,), generator=generator).tolist()
    height, width = images.shape[1:]
    return F.pad(images, (pixels,) * 4)[:, down : down + height, right : right + width]


def _warp(images: torch.Tensor, config: ModelConfig, generator: torch.Generator) -> torch.Tensor:
    """Every image by a rotation, scales, a shear, a shift and a field of displacements of its own."""

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
    if config.elastic:
        grid = grid + _displacements(len(images), config.elastic, generator).to(images.device)
    return F.grid_sample(pixels, grid, align_corners=False).squeeze(1)


def _displacements(count: int, pixels: float, generator: torch.Generator) -> torch.Tensor:
    """[N, 28, 28, 2] in units of the grid: smooth random fields (Simard et al. 2003), about so many pixels long."""
    coarse = torch.randn((count, 2, COARSE, COARSE), generator=generator) * (2 * pixels / SIDE)
    return F.interpolate(coarse, SIDE, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def _erase(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Of this share of the images a rectangle of its own is made black (random erasing, Zhong et al. 2020)."""
    drawn, size, shape, down, right = torch.rand((5, len(images), 1), generator=generator).to(images.device)
    area = (ERASED[0] + size * (ERASED[1] - ERASED[0])) * SIDE**2
    tall = torch.sqrt(area * 3 ** (2 * shape - 1))  # from three times as wide as tall to three times as tall as wide
    rows, columns = _covered(down, tall), _covered(right, area / tall)
    erased = rows.unsqueeze(2) & columns.unsqueeze(1) & (drawn < share).unsqueeze(2)
    return images.masked_fill(erased, 0)


def _covered(middle: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """bool [N, 28]: the pixels of one axis less than half a length away from a point at 0..1 of it."""
    at = torch.arange(SIDE, device=middle.device) + 0.5
    return (at - middle * SIDE).abs() < length / 2
