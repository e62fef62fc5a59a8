"""Networks that say how a point moves: from a point and a vector of conditions to a velocity of some shape.

`models/rectified_flow.py` uses them, and adds the time and the label to the condition. Every one starts at zero: at first
nothing moves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UsageError
from ..parts import registry
from ..parts.ranges import between
from ..parts.registry import velocity
from ..tensors import Shape
from .embeddings import Modulate
from .layers import Patches, Unpatch, Upsample, pyramid, zeroed
from .vit import Attention, FeedForward, OnGrid, Patch, Positions, Width, cut

Depth = Annotated[int, between(1, 64)]


class VelocityNet(nn.Module, ABC):
    """A network for the velocity of points under a condition, with the learning rate and batch size that suit it."""

    rate: float = 1e-3
    """The learning rate that suits it."""
    batch: int = 64
    """Points a step that suit it on a processor."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "b *d"], c: Float[Tensor, "b condition"]) -> Float[Tensor, "b *out"]:
        """How the points move."""


VELOCITIES = registry.velocity.of(VelocityNet)


class ConditionedLayer(nn.Module):
    """x + W₂ silu(modulated W₁ LayerNorm(x)), with W₂ zero at the start."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(width), nn.Linear(width, width)
        self.modulate, self.second = Modulate(width, condition), zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x + self.second(F.silu(self.modulate(self.first(self.norm(x)), c)))


@velocity("mlp")
class MLPVelocity(VelocityNet):
    """Residual dense layers on all numbers at once: for flat codes and small maps, and what samples fastest."""

    rate, batch = 2e-3, 256

    def __init__(self, shape: Shape, out_shape: Shape, condition: int, width: Width = 320, depth: Depth = 3) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(shape), width)
        self.blocks = nn.ModuleList(ConditionedLayer(width, condition) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), zeroed(nn.Linear(width, math.prod(out_shape))),
                                  nn.Unflatten(1, out_shape))

    def forward(self, z: Float[Tensor, "b *d"], c: Float[Tensor, "b condition"]) -> Float[Tensor, "b *out"]:
        x = self.first(z.flatten(1))
        for block in self.blocks:
            x = block(x, c)
        return self.last(x)


@velocity("dit")
class DiTVelocity(VelocityNet):
    """A transformer over squares of patch×patch positions of a map, each block modulated by the conditions.

    With patch=0 it is chosen so that there are at most 64 squares, or 256 of 8 and more positions a side. (Peebles & Xie,
    2023, arXiv:2212.09748; here the modulation stands before the block, whose residual branches start at zero by
    themselves)
    """

    def __init__(self, shape: Shape, out_shape: Shape, condition: int, width: Width = 128, depth: Depth = 4,
                 heads: Width = 4, patch: Patch = 0) -> None:
        super().__init__()
        size = _grid(shape, "dit")
        patch, tokens = cut(size, patch, None)
        self.first = nn.Sequential(Patches(patch), nn.Conv2d(shape[0] * patch**2, width, 1),
                                   OnGrid(Positions(tokens, width)))
        self.modulations = nn.ModuleList(Modulate(width, condition) for _ in range(depth))
        self.blocks = nn.ModuleList(OnGrid(Attention(width, heads), FeedForward(width)) for _ in range(depth))
        self.last = nn.Sequential(OnGrid(nn.LayerNorm(width)), zeroed(nn.Conv2d(width, out_shape[0] * patch**2, 1)),
                                  Unpatch(patch, size))

    def forward(self, z: Float[Tensor, "b *d"], c: Float[Tensor, "b condition"]) -> Float[Tensor, "b *out"]:
        x = self.first(z)
        for modulate, block in zip(self.modulations, self.blocks, strict=True):
            x = block(modulate(x, c))
        return self.last(x)


class ConditionedResidual(nn.Module):
    """x + conv(silu(modulated norm(conv(silu(norm(x)))))), the last convolution zero at the start."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm, self.first = _norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.again, self.modulate = _norm(outputs), Modulate(outputs, condition)
        self.second = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.straight = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.again(self.first(F.silu(self.norm(x))))
        return self.straight(x) + self.second(F.silu(self.modulate(h, c)))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 8), channels)


@velocity("unet")
class UNetVelocity(VelocityNet):
    """Residual convolutions down a pyramid of sizes and up again, with attention at its foot.

    On squares of patch×patch values; each way up also sees what the way down saw at that size. `depth` is the number of
    blocks at each size. (Ho et al., 2020, arXiv:2006.11239, Appendix B)
    """

    def __init__(self, shape: Shape, out_shape: Shape, condition: int, width: Width = 64, depth: Depth = 1,
                 patch: Width = 1) -> None:
        super().__init__()
        size = _grid(shape, "unet")
        levels = pyramid(size, patch, None) if min(size) > 8 * patch else _down_to(size, patch)
        widths = [width * min(2**i, 2) for i in range(len(levels))]
        self.first = nn.Sequential(Patches(patch), nn.Conv2d(shape[0] * patch**2, width, 3, padding=1))
        self.down = nn.ModuleList(_stack(depth, a, a, condition) for a in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1)
                                    for a, b in pairwise(widths))
        self.foot = OnGrid(Attention(widths[-1], 4 if widths[-1] % 4 == 0 else 1))
        self.up = nn.ModuleList(_stack(depth, 2 * a, a, condition) for a in reversed(widths))
        self.grow = nn.ModuleList(nn.Sequential(Upsample(levels[i - 1]), nn.Conv2d(widths[i], widths[i - 1], 3, padding=1))
                                  for i in reversed(range(1, len(levels))))
        self.last = nn.Sequential(_norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, out_shape[0] * patch**2, 3, padding=1)),
                                  Unpatch(patch, size))

    def forward(self, z: Float[Tensor, "b *d"], c: Float[Tensor, "b condition"]) -> Float[Tensor, "b *out"]:
        x, seen = self.first(z), []
        for i, blocks in enumerate(self.down):
            x = self.shrink[i - 1](x) if i else x
            x = _through(blocks, x, c)
            seen.append(x)
        x = self.foot(x)
        for i, blocks in enumerate(self.up):
            x = self.grow[i - 1](x) if i else x
            x = _through(blocks, torch.cat([x, seen.pop()], 1), c)
        return self.last(x)


def _down_to(size: tuple[int, int], patch: int) -> list[tuple[int, int]]:
    """A small map and its half: two sizes, where `pyramid` would stop at one."""
    first = (-(-size[0] // patch), -(-size[1] // patch))
    return [first, (-(-first[0] // 2), -(-first[1] // 2))] if min(first) > 2 else [first]


def _stack(depth: int, inputs: int, outputs: int, condition: int) -> nn.ModuleList:
    return nn.ModuleList(ConditionedResidual(inputs if i == 0 else outputs, outputs, condition) for i in range(depth))


def _through(blocks: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, c)
    return x


def _grid(shape: Shape, name: str) -> tuple[int, int]:
    if len(shape) != 3:
        raise UsageError(f"{name} moves maps, (channels, rows, columns), and this code has the shape {shape}: use mlp")
    return shape[1], shape[2]
