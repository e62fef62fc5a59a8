"""The networks of the DCGAN: strided and transposed convolutions with BatchNorm; a baseline, not a recommendation."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.ranges import at_least, one_of
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder
from .layers import Centre, from_latent, pyramid, widths_of

Start = Annotated[str, one_of("uniform", "normal")]


def levels_of(size: tuple[int, int], grid: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Sizes of the maps, each half the one before, down to at most 4 a side, or to `grid`."""
    levels = pyramid(size, 1, grid)
    while grid is None and min(levels[-1]) > 4:
        levels.append((-(-levels[-1][0] // 2), -(-levels[-1][1] // 2)))
    return levels


def started(net: nn.Module) -> None:
    """Starts convolutions and dense layers from N(0, 0.02²) and the scales of BatchNorm from N(1, 0.02²) (Radford et al.,
    2016, arXiv:1511.06434, section 4)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Transposed(nn.Module):
    """A transposed convolution that doubles the sides, cropped to `size`."""

    def __init__(self, channels: int, out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv, self.size = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1), size

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : self.size[0], : self.size[1]]


class _Strided(nn.Module):
    """A strided convolution that halves the sides, rounded up."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return self.conv(F.pad(x, (0, w % 2, 0, h % 2)))


@encoder("dcgan")
class DCGANEncoder(Encoder):
    """Strided convolutions, BatchNorm and leaky ReLUs: the DCGAN's critic (Radford et al., 2016, arXiv:1511.06434).

    Weights `start` uniform, by the number of inputs, or normal with a deviation of 0.02, as in the paper.
    """

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, width: Annotated[int, at_least(1)] = 64,
                 start: Start = "uniform") -> None:
        super().__init__()
        levels = levels_of((image_shape[1], image_shape[2]), grid)
        widths = [image_shape[0], *widths_of(width, max(len(levels) - 1, 1))]
        first = _Strided(image_shape[0], width) if len(levels) > 1 else nn.Conv2d(image_shape[0], width, 3, padding=1)
        layers: list[nn.Module] = [Centre(), first, nn.LeakyReLU(0.2)]
        for a, b in pairwise(widths[1:]):
            layers += [_Strided(a, b), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers)
        if start == "normal":
            started(self.net)
        self.features = (widths[-1], *levels[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("dcgan")
class DCGANDecoder(Decoder):
    """Transposed convolutions, BatchNorm and ReLUs: the DCGAN's generator (Radford et al., 2016, arXiv:1511.06434).

    Weights `start` as in the critic. The averaged weights (`ema`) gather BatchNorm's statistics for themselves, from a pass
    of their own at each update.
    """

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: Annotated[int, at_least(1)] = 64,
                 start: Start = "uniform") -> None:
        super().__init__()
        grid = (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None
        levels = levels_of((out_shape[1], out_shape[2]), grid)
        widths = widths_of(width, max(len(levels) - 1, 1))
        layers: list[nn.Module] = [from_latent(latent_shape, widths[-1], levels[-1])]
        for i in reversed(range(len(levels) - 1)):
            out = widths[i - 1] if i else out_shape[0]
            layers += [nn.BatchNorm2d(widths[i]), nn.ReLU(), Transposed(widths[i], out, levels[i])]
        if len(levels) == 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out_shape[0], 3, padding=1)]
        self.net = nn.Sequential(*layers)
        if start == "normal":
            started(self.net)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
