"""Plain and residual convolutional networks for any image size: the depth follows the image, no size is special.

No BatchNorm: its running averages are the commonest reason why a model is good in training and garbage once loaded.
Going up, feature maps are enlarged by nearest neighbour and convolved, or pixels are shuffled out of channels; both
avoid the checkerboard of transposed convolutions (Odena et al., 2016, doi:10.23915/distill.00003).
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ..errors import UsageError
from ..parts.ranges import at_least, between
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder
from .layers import Centre, Doubled, Patches, Residual, Unpatch, from_latent, pyramid, widths_of
from .tiles import Tiles
from .vit import Attention, OnGrid, Patch

Width = Annotated[int, at_least(1)]
Blocks = Annotated[int, between(0, 64)]
Heads = Annotated[int, at_least(0, advice="0 leaves attention out")]


def _patch(patch: int, size: tuple[int, int], grid: tuple[int, int] | None) -> int:
    """The patch to use: as asked, or the largest of 4, 2, 1 that leaves at least six squares a side and meets `grid`."""
    if patch:
        return patch
    factor = max(-(-size[0] // grid[0]), 1) if grid else 4
    return next(p for p in (4, 2, 1) if p == 1 or (min(size) >= 6 * p and p <= factor))


def residual_blocks(channels: int, blocks: int, heads: int) -> list[nn.Module]:
    """Residual blocks, each followed by self-attention if `heads` is not 0."""
    if heads and not blocks:
        raise UsageError(f"attention={heads} follows each residual block, and blocks=0 leaves none: give at least one")
    layers: list[nn.Module] = []
    for _ in range(blocks):
        layers += [Residual(channels), OnGrid(Attention(channels, heads))] if heads else [Residual(channels)]
    return layers


class _Encoder(Encoder):
    """Patches, then per level: `blocks` residual blocks, and a strided convolution to the next."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, width: int, patch: int, blocks: int,
                 attention: int = 0) -> None:
        super().__init__()
        size = (image_shape[1], image_shape[2])
        levels = pyramid(size, patch, grid)
        widths = widths_of(width, len(levels))
        layers: list[nn.Module] = [Centre(), Patches(patch),
                                   nn.Conv2d(image_shape[0] * patch**2, widths[0], 3, padding=1)]
        for i, channels in enumerate(widths):
            if i:
                layers += [nn.SiLU(), nn.Conv2d(widths[i - 1], channels, 3, stride=2, padding=1)]
            if i == len(levels) - 1:
                self.local = len(layers)
            layers += residual_blocks(channels, blocks, attention if i == len(levels) - 1 else 0)
        self.net = nn.Sequential(*layers, nn.SiLU())
        self.features = (widths[-1], *levels[-1])
        self.tiles = Tiles.of(image_shape, levels, widths, patch, up=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.tiles.wanted:
            return self.net(x)
        return self.net[self.local :](self.tiles.through(self.net[: self.local], x))


class _Decoder(Decoder):
    """The encoder in a mirror: per level `blocks` residual blocks, then enlarge and convolve; at last unpatch."""

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: int, patch: int, blocks: int,
                 attention: int = 0) -> None:
        super().__init__()
        size = (out_shape[1], out_shape[2])
        grid = (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
        levels = pyramid(size, patch, grid)
        widths = widths_of(width, len(levels))
        layers: list[nn.Module] = [from_latent(latent_shape, widths[-1], levels[-1])]
        for i in reversed(range(len(levels))):
            layers += residual_blocks(widths[i], blocks, attention if i == len(levels) - 1 else 0)
            if i == len(levels) - 1:
                self.whole = len(layers)
            layers += [nn.SiLU()]
            if i:
                layers += [Doubled(levels[i - 1]), nn.Conv2d(widths[i], widths[i - 1], 3, padding=1)]
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[0], out_shape[0] * patch**2, 3, padding=1),
                                 Unpatch(patch, size))
        self.tiles = Tiles.of(out_shape, levels, widths, patch, up=True)

    def forward(self, z: Tensor) -> Tensor:
        if not self.tiles.wanted:
            return self.net(z)
        return self.tiles.through(self.net[self.whole :], self.net[: self.whole](z))


@encoder("conv")
def conv_encoder(image_shape: Shape, grid: tuple[int, int] | None, width: Width = 32) -> Encoder:
    """Strided convolutions from full resolution down to a grid of at most 8×8, or to the latent's."""
    return _Encoder(image_shape, grid, width, patch=1, blocks=0)


@decoder("conv")
def conv_decoder(latent_shape: Shape, out_shape: Shape, width: Width = 32) -> Decoder:
    """Enlarge and convolve, from the latent's grid to full resolution."""
    return _Decoder(latent_shape, out_shape, width, patch=1, blocks=0)


@encoder("resnet")
def resnet_encoder(image_shape: Shape, grid: tuple[int, int] | None, width: Width = 64, blocks: Blocks = 1,
                   patch: Patch = 0, attention: Heads = 0) -> Encoder:
    """Residual convolutions on squares of patch×patch pixels (0: chosen by the image's size), which is what is fast.

    `attention` is a number of heads: at the coarsest level, self-attention follows each residual block. (Ho et al., 2020,
    arXiv:2006.11239, Appendix B)
    """
    return _Encoder(image_shape, grid, width, _patch(patch, (image_shape[1], image_shape[2]), grid), blocks, attention)


@decoder("resnet")
def resnet_decoder(latent_shape: Shape, out_shape: Shape, width: Width = 64, blocks: Blocks = 1,
                   patch: Patch = 0, attention: Heads = 0) -> Decoder:
    """The mirror of the encoder `resnet`."""
    grid = (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
    return _Decoder(latent_shape, out_shape, width, _patch(patch, (out_shape[1], out_shape[2]), grid), blocks, attention)
