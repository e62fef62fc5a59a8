"""The networks of FastGAN, for a few hundred to a few thousand images (Liu et al., 2021, arXiv:2101.04775).

What they leave out of the paper is its noise: here an image is a function of its code, as for every decoder.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.ranges import at_least
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder
from .dcgan import Transposed, levels_of, started
from .layers import Centre, Patches, Unpatch, from_latent, widths_of

Width = Annotated[int, at_least(8)]
Patch = Annotated[int, at_least(0, advice="0 chooses by the image's size")]


def patch_of(patch: int, size: tuple[int, int], grid: tuple[int, int] | None) -> int:
    """The patch to use: as asked, or 2 from 48 pixels a side on, where single pixels cost most of the time."""
    return patch or (2 if min(size) >= 48 and (grid is None or size[0] >= 2 * grid[0]) else 1)


def _levels(size: tuple[int, int], patch: int, grid: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Sizes of the maps from squares of patch×patch pixels down."""
    return levels_of((-(-size[0] // patch), -(-size[1] // patch)), grid)


def _gated(net: nn.Module, out: int) -> list[nn.Module]:
    """A layer with twice as many channels as go out, BatchNorm and a gated linear unit."""
    return [net, nn.BatchNorm2d(2 * out), nn.GLU(1)]


def _same(channels: int, out: int) -> nn.Conv2d:
    """A convolution that keeps the sides."""
    return nn.Conv2d(channels, out, 3, padding=1)


class _Excitation(nn.Module):
    """Scales each channel of a fine map by what a much coarser one says: a skip over several levels (section 3.1, Eq. 1)."""

    def __init__(self, coarse: int, size: tuple[int, int], fine: int) -> None:
        super().__init__()
        pooled = max(size[0] // 4, 1), max(size[1] // 4, 1)
        self.net = nn.Sequential(nn.AvgPool2d(pooled), nn.Conv2d(coarse, fine, (size[0] // pooled[0], size[1] // pooled[1])),
                                 nn.LeakyReLU(0.1), nn.Conv2d(fine, fine, 1), nn.Sigmoid())

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return fine * self.net(coarse)


@decoder("fastgan")
class FastGANDecoder(Decoder):
    """Enlarge and gate; coarse maps scale the channels of maps several levels finer: the generator of FastGAN (Liu et al.,
    2021, arXiv:2101.04775). `patch` is the side of the squares that its finest map stands for.

    It enlarges by transposed convolutions, which start as the paper's nearest neighbours before a convolution, at less than
    half the cost.
    """

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: Width = 32, patch: Patch = 0) -> None:
        super().__init__()
        size, grid = (out_shape[1], out_shape[2]), (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
        patch = patch_of(patch, size, grid)
        levels = _levels(size, patch, grid)[::-1]
        widths = widths_of(width, len(levels), most=8)[::-1]
        self.first = nn.Sequential(*_gated(from_latent(latent_shape, 2 * widths[0], levels[0]), widths[0]))
        self.finer = nn.ModuleList(
            nn.Sequential(*_gated(Transposed(a, 2 * b, level), b), *(_gated(_same(b, 2 * b), b) if min(level) <= 8 else []))
            for level, (a, b) in zip(levels[1:], pairwise(widths), strict=True))
        self.skipped = max(min(4, len(levels) // 2), 1)
        self.excitations = nn.ModuleList(_Excitation(a, level, b) for a, level, b in zip(
            widths, levels, widths[self.skipped :], strict=False))
        self.to_pixels, self.unpatch = _same(widths[-1], out_shape[0] * patch**2), Unpatch(patch, size)
        started(self)
        _start_smooth(self, patch)

    def forward(self, z: Tensor) -> Tensor:
        maps = [self.first(z)]
        for finer in self.finer:
            h = finer(maps[-1])
            if len(maps) >= self.skipped:
                h = self.excitations[len(maps) - self.skipped](maps[len(maps) - self.skipped], h)
            maps.append(h)
        return self.unpatch(self.to_pixels(maps[-1]))


@torch.no_grad()
def _start_smooth(decoder: FastGANDecoder, patch: int) -> None:
    """Makes neighbours equal where maps are enlarged, so that no checkerboard has to be unlearned (Aitken et al., 2017,
    arXiv:1707.02937): a 4×4 kernel is a 3×3 one spread over 2×2 places, and all pixels of a patch have one kernel."""
    for layer in decoder.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            kernels = F.pad(layer.weight[..., :3, :3].flatten(0, 1)[:, None], (1, 1, 1, 1))
            layer.weight.copy_(F.conv2d(kernels, kernels.new_ones(1, 1, 2, 2)).view_as(layer.weight))
    weight = decoder.to_pixels.weight
    weight.copy_(weight[:: patch**2].repeat_interleave(patch**2, 0))


class _Halved(nn.Module):
    """Halves the sides by strided convolution and by the mean of neighbours, whose mean goes on (Appendix, Figure 9)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, out, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2))
        self.direct = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out),
                                    nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = F.pad(x, (0, w % 2, 0, h % 2))
        return (self.main(x) + self.direct(x)) / 2


@encoder("fastgan")
class FastGANEncoder(Encoder):
    """Halvings along two paths each, down to at most 8 a side: the critic of FastGAN, for the game `hinge(smoothing=0.2)`
    and the penalty `reconstruct` (Liu et al., 2021, arXiv:2101.04775)."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, width: Width = 32, patch: Patch = 0) -> None:
        super().__init__()
        size = (image_shape[1], image_shape[2])
        patch = patch_of(patch, size, grid)
        levels = _levels(size, patch, grid)
        if grid is None:
            levels = [levels[0]] + [level for level in levels[1:] if min(level) > 4]
        widths = widths_of(width, len(levels), most=8)
        layers = [nn.Conv2d(image_shape[0] * patch**2, width, 3, padding=1), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(Centre(), Patches(patch), *layers, *(_Halved(a, b) for a, b in pairwise(widths)))
        started(self)
        self.features = (widths[-1], *levels[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
