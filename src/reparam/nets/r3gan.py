"""The networks of R3GAN: residual bottlenecks of grouped convolutions, with no normalisation (Huang et al., 2024,
arXiv:2501.05441, sections 4.1 to 4.3).

Left out of the paper: its filters, since maps change their sizes by plain bilinear interpolation; its scales of the start of
all convolutions but a block's last; and, by default, the second of its two blocks at each size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.ranges import at_least
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder
from .dcgan import levels_of
from .fastgan import Patch, patch_of
from .layers import Centre, Patches, Unpatch, from_latent, widths_of, zeroed

Size = tuple[int, int]
Width = Annotated[int, at_least(1)]
Blocks = Annotated[int, at_least(1)]
GROUP = 16
"""Channels in a group, at most."""
SLOPE = 0.2


class Bottleneck(nn.Module):
    """x + f(x): a 1×1 convolution to twice as many channels, a grouped 3×3 one, and a 1×1 one back, which starts at zero, so
    that the block starts as the identity (Zhang et al., 2019, arXiv:1901.09321)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        groups = next(g for g in range(-(-inner // GROUP), inner + 1) if inner % g == 0)
        self.net = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(inner, inner, 3, padding=1, groups=groups), nn.LeakyReLU(SLOPE), zeroed(nn.Conv2d(inner, channels, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class Resized(nn.Module):
    """Bilinear interpolation to `size` and a 1×1 convolution to other channels, on the smaller of the two maps."""

    def __init__(self, channels: int, out: int, size: Size) -> None:
        super().__init__()
        self.project, self.size = nn.Conv2d(channels, out, 1, bias=False), size

    def forward(self, x: Tensor) -> Tensor:
        if self.size[0] > x.shape[2]:
            return F.interpolate(self.project(x), self.size, mode="bilinear")
        return self.project(F.interpolate(x, self.size, mode="bilinear"))


class Basis(nn.Module):
    """A learned map of `size`, each of whose channels is scaled by a linear function of the code."""

    def __init__(self, latent_shape: Shape, channels: int, size: Size) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, *size))
        self.scales = nn.Linear(math.prod(latent_shape), channels)

    def forward(self, z: Tensor) -> Tensor:
        return self.maps * self.scales(z.flatten(1))[..., None, None]


def _levels(size: Size, patch: int, grid: Size | None) -> list[Size]:
    """Sizes of the maps from squares of patch×patch pixels down."""
    return levels_of((-(-size[0] // patch), -(-size[1] // patch)), grid)


def _stages(widths: Sequence[int], levels: Sequence[Size], blocks: int) -> list[nn.Module]:
    """Bottlenecks at each level, and between levels a change of size."""
    layers: list[nn.Module] = [Bottleneck(widths[0]) for _ in range(blocks)]
    for (a, b), size in zip(pairwise(widths), levels[1:], strict=True):
        layers += [Resized(a, b, size), *(Bottleneck(b) for _ in range(blocks))]
    return layers


@encoder("r3gan")
class R3GANEncoder(Encoder):
    """Bottlenecks of grouped convolutions and bilinear halvings, down to at most 4 a side: the critic of R3GAN, for the game
    `relativistic` with the penalties r1 and r2 (Huang et al., 2024, arXiv:2501.05441).

    `width` channels at the finest map, of squares of patch×patch pixels, twice as many at each coarser one, up to four
    times, and `blocks` bottlenecks at each. Without a grid each channel of the last map becomes one number. With
    patch=0 the patch is 2 from 48 pixels a side on. On a
    processor grouped convolutions from single pixels cost several times a `resnet` of as many parameters.
    """

    def __init__(self, image_shape: Shape, grid: Size | None, width: Width = 32, blocks: Blocks = 1,
                 patch: Patch = 0) -> None:
        super().__init__()
        size = (image_shape[1], image_shape[2])
        patch = patch_of(patch, size, grid)
        levels = _levels(size, patch, grid)
        widths = widths_of(width, len(levels))
        self.net = nn.Sequential(Centre(), Patches(patch), nn.Conv2d(image_shape[0] * patch**2, width, 1),
                                 *_stages(widths, levels, blocks))
        self.features = (widths[-1], *levels[-1])
        if grid is None:
            self.net.append(nn.Sequential(nn.Conv2d(widths[-1], widths[-1], levels[-1], groups=widths[-1]), nn.Flatten()))
            self.features = (widths[-1],)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("r3gan")
class R3GANDecoder(Decoder):
    """The mirror of the encoder `r3gan`: a learned map of at most 4 a side, whose channels the code scales, then bottlenecks
    and bilinear doublings: the generator of R3GAN (Huang et al., 2024, arXiv:2501.05441).
    A map of codes needs no learned one.
    """

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: Width = 32, blocks: Blocks = 1,
                 patch: Patch = 0) -> None:
        super().__init__()
        size = (out_shape[1], out_shape[2])
        grid = (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
        patch = patch_of(patch, size, grid)
        levels = _levels(size, patch, grid)[::-1]
        widths = widths_of(width, len(levels))[::-1]
        first = (from_latent if grid else Basis)(latent_shape, widths[0], levels[0])
        self.net = nn.Sequential(first, *_stages(widths, levels, blocks), nn.Conv2d(width, out_shape[0] * patch**2, 1),
                                 Unpatch(patch, size))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
