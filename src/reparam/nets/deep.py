"""Deep convolutional autoencoders for large images: few channels where maps are large, more as they shrink.

Every halving and doubling of a map has a shortcut that only moves pixels into channels and back, so that the network begins
as a plain resizing and learns what that loses. (Chen et al., 2024, arXiv:2410.10733, section 3.1)
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder
from .conv import Blocks, Heads, Width, residual_blocks
from .layers import Centre, Patches, Unpatch, from_latent, pyramid, widths_of
from .tiles import Tiles
from .vit import Patch

Size = tuple[int, int]


def _levels(size: Size, patch: int, grid: Size | None) -> tuple[int, list[Size]]:
    """The patch, and the sizes of the maps from fine to coarse; patch 0 is the first of 2, 3, 4, …, or 1 for small images,
    from which halving meets `grid`."""
    if patch or grid is None:
        patch = patch or (2 if min(size) >= 16 else 1)
        return patch, pyramid(size, patch, grid)
    for tried in (2, 1, *range(3, max(size))):
        try:
            return tried, pyramid(size, tried, grid)
        except UsageError:
            continue
    return 1, pyramid(size, 1, grid)


class Halve(nn.Module):
    """A strided convolution to a map of half the sides, rounded up, beside the pixels' own way there: each square of four
    becomes channels, of which the mean of every few is taken."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.out, self.squares = out, Patches(2)
        self.conv = nn.Conv2d(channels, out, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        straight = self.squares(x).unflatten(1, (self.out, -1)).mean(2)
        return straight + self.conv(F.silu(x))


class Double(nn.Module):
    """The mirror of `Halve`, to a map of `size`: each channel becomes pixels, beside what a convolution makes of all."""

    def __init__(self, channels: int, out: int, size: Size) -> None:
        super().__init__()
        self.repeats, self.join = 4 * out // channels, Unpatch(2, size)
        self.conv = nn.Conv2d(channels, 4 * out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x.repeat_interleave(self.repeats, 1) + self.conv(F.silu(x)))


@encoder("deep")
class DeepEncoder(Encoder):
    """Convolutions for large images, down a pyramid of maps from squares of patch×patch pixels to the latent's grid.

    `width` channels at the finest map, twice as many at each coarser one, up to eight times, and `blocks` residual blocks at
    each. Each halving also moves pixels straight into channels. `attention` is a number of heads: at the coarsest map alone,
    self-attention follows each block. With patch=0 it is 2, or what meets the latent's grid. (Chen et al., 2024,
    arXiv:2410.10733, section 3.1)
    """

    def __init__(self, image_shape: Shape, grid: Size | None, width: Width = 32, blocks: Blocks = 1, patch: Patch = 0,
                 attention: Heads = 0) -> None:
        super().__init__()
        patch, levels = _levels((image_shape[1], image_shape[2]), patch, grid)
        widths = widths_of(width, len(levels), most=8)
        fine: list[nn.Module] = [nn.Sequential(Centre(), Patches(patch),
                                               nn.Conv2d(image_shape[0] * patch**2, width, 3, padding=1))]
        for here, coarser in pairwise(widths):
            fine.append(nn.Sequential(*residual_blocks(here, blocks, 0), Halve(here, coarser)))
        self.fine = nn.Sequential(*fine)
        self.coarse = nn.Sequential(*residual_blocks(widths[-1], blocks, attention), nn.SiLU())
        self.features = (widths[-1], *levels[-1])
        self.tiles = Tiles.of(image_shape, levels, widths, patch, up=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.coarse(self.tiles.through(self.fine, x))


@decoder("deep")
class DeepDecoder(Decoder):
    """The mirror of the encoder `deep`."""

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: Width = 32, blocks: Blocks = 1, patch: Patch = 0,
                 attention: Heads = 0) -> None:
        super().__init__()
        grid = (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
        patch, levels = _levels((out_shape[1], out_shape[2]), patch, grid)
        widths = widths_of(width, len(levels), most=8)
        self.coarse = nn.Sequential(from_latent(latent_shape, widths[-1], levels[-1]),
                                    *residual_blocks(widths[-1], blocks, attention))
        fine: list[nn.Module] = []
        for i in reversed(range(len(levels) - 1)):
            fine.append(nn.Sequential(Double(widths[i + 1], widths[i], levels[i]), *residual_blocks(widths[i], blocks, 0)))
        fine.append(nn.Sequential(nn.SiLU(), nn.Conv2d(width, out_shape[0] * patch**2, 3, padding=1),
                                  Unpatch(patch, (out_shape[1], out_shape[2]))))
        self.fine = nn.Sequential(*fine)
        self.tiles = Tiles.of(out_shape, levels, widths, patch, up=True)

    def forward(self, z: Tensor) -> Tensor:
        return self.tiles.through(self.fine, self.coarse(z))
