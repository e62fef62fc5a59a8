"""Pieces that the networks share: heads between features and latents, and the pyramid of sizes of an image."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..tensors import Shape


class WideLinear(nn.Linear):
    """A dense layer that moves no faster than one of 4,096 inputs.

    Adam moves every weight by the learning rate, so that outputs move by it times the number of inputs; with ten thousand
    one step can throw a posterior to where no code was. Beyond 4,096, inputs are scaled down and weights start as much
    larger: the same function, with steps in proportion. (Yang et al., 2022, arXiv:2203.03466, Table 8)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.factor = min(1.0, 4096 / inputs)
        with torch.no_grad():
            self.weight /= self.factor

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self.factor == 1 else input * self.factor)


def to_latent(features: Shape, shape: Shape) -> nn.Module:
    """A linear head from features to a latent: 1×1 convolution when both lie on one grid, dense otherwise."""
    if len(features) == 3 and len(shape) == 3 and features[1:] == shape[1:]:
        return nn.Conv2d(features[0], shape[0], 1)
    dense = WideLinear(math.prod(features), math.prod(shape))
    return nn.Sequential(nn.Flatten(), dense, *([nn.Unflatten(1, shape)] if len(shape) > 1 else []))


def from_latent(shape: Shape, channels: int, grid: tuple[int, int]) -> nn.Module:
    """A linear map from a latent to `channels` feature maps on `grid`: 3×3 convolution when it lies there already."""
    if len(shape) == 3 and shape[1:] == grid:
        return nn.Conv2d(shape[0], channels, 3, padding=1)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), channels * math.prod(grid)),
                         nn.Unflatten(1, (channels, *grid)))


def pyramid(size: tuple[int, int], patch: int, grid: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Sizes of the feature maps from fine to coarse, each half the one before, rounded up.

    The first is the image cut into `patch`×`patch` squares; the last is `grid`, or where the shorter side is at most 8.

    Raises:
        UsageError: halving never meets `grid`.
    """
    levels = [(-(-size[0] // patch), -(-size[1] // patch))]
    while levels[-1] != grid if grid else min(levels[-1]) > 8:
        h, w = levels[-1]
        if grid and (h < grid[0] or w < grid[1]):
            raise UsageError(f"a network with patch={patch} halves a {size[0]}×{size[1]} image through "
                             f"{', '.join(f'{a}×{b}' for a, b in levels)}: no {grid[0]}×{grid[1]} latent lies on that "
                             "way. Give spatial() a factor that is a power of two and at least the patch.")
        levels.append((-(-h // 2), -(-w // 2)))
    return levels


class Patches(nn.Module):
    """Cuts (B, C, H, W) into squares, (B, C·patch², ⌈H/patch⌉, ⌈W/patch⌉), padding at the right and bottom."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.patch, 0, -h % self.patch))
        return F.pixel_unshuffle(x, self.patch)


class Unpatch(nn.Module):
    """The inverse of `Patches`, cropped to `size`: every pixel has weights of its own, so no checkerboard arises."""

    def __init__(self, patch: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.patch, self.size = patch, size

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.patch)[..., : self.size[0], : self.size[1]]


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to `size`."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, mode="nearest")


class Doubled(Upsample):
    """Nearest-neighbour enlargement to twice the sides, cropped to `size`; of a part of the map, to twice its own."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = (min(2 * here, there) for here, there in zip(x.shape[-2:], self.size, strict=True))
        return F.interpolate(x, (h, w), mode="nearest")


class Centre(nn.Module):
    """Pixels from [0, 1] to [−1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias at zero, so that what it is added to starts unchanged."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def widths_of(width: int, levels: int, most: int = 4) -> list[int]:
    """Channels of each level, doubling with every halving of the size, up to `most` times the first."""
    return [width * min(2**i, most) for i in range(levels)]


class Residual(nn.Module):
    """x + f(x) with two 3×3 convolutions; the second starts at zero, so that the block starts as the identity.

    No normalisation: a zero start keeps deep stacks trainable without it. (Zhang et al., 2019, arXiv:1901.09321)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))
