"""Features without weights: gradients and Haar wavelets at several scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..parts import registry
from .base import Features

LEVELS = 4
DETAIL = 8.0
"""Of statistics of details beside pixels of the thumbnail: on photographs both then vary about as much."""


@registry.features("wavelets")
class Wavelets(Features):
    """Edges at four scales, for work without any weights; weaker than a network's features, and blind to meaning.

    Maps, at each of four scales: finite differences (n, 6, h, w) and the three details of Haar's wavelet (n, 9, h/2, w/2)
    (Mallat, 1989, doi:10.1109/34.192463), and last the image that is left, 1/16 of the size. Low-pass images are means of
    2×2 pixels, so that every scale of a photograph counts for about as much. Vectors of 432: an 8×8 thumbnail, and of the
    details at each scale the mean size on a 4×4 grid and the root mean square on a 2×2 one. Sides are filled up to even
    lengths by repeating the last pixels, so that an image of any size has all of them.
    """

    def __init__(self) -> None:
        super().__init__(name="wavelets", resize="none: statistics on grids of fixed sizes")

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for _ in range(LEVELS):
            x = _even(x)
            low, detail = haar(x)
            maps += [_differences(x), detail]
            x = low
        return [*maps, x]

    def _embed(self, x: Tensor) -> Tensor:
        seen = [F.adaptive_avg_pool2d(x, 8).flatten(1)]
        for _ in range(LEVELS):
            x, detail = haar(_even(x))
            by_direction = detail.unflatten(1, (3, 3))
            size = F.adaptive_avg_pool2d(by_direction.abs().mean(2), 4)
            square = F.adaptive_avg_pool2d(by_direction.square().mean(2), 2)
            seen += [DETAIL * size.flatten(1), DETAIL * (square + 1e-8).sqrt().flatten(1)]
        return torch.cat(seen, 1)

    def compare(self, a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Mean absolute difference, in pixel values: where an image is flat there is no contrast to divide by."""
        return (a - b).abs().mean((1, 2, 3))


def _even(x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    return F.pad(x, (0, w % 2, 0, h % 2), mode="replicate") if h % 2 or w % 2 else x


def _differences(x: Tensor) -> Tensor:
    """To the pixel on the right and to the one below, (n, 2c, h, w), 0 at the border."""
    right = F.pad(x[..., 1:] - x[..., :-1], (0, 1))
    below = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, below], 1)


def haar(x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h2 w2"], Float[Tensor, "n c3 h2 w2"]]:
    """Means of 2×2 pixels, and half their differences along each way and both, channel by channel within each direction.

    Of pixels a, b above c, d: ¼ (a + b + c + d), and ¼ (a − b + c − d), ¼ (a + b − c − d), ¼ (a − b − c + d).
    """
    top, bottom = x[..., ::2, :], x[..., 1::2, :]
    total, drop = (top + bottom) / 4, (top - bottom) / 4
    left, right = slice(None, None, 2), slice(1, None, 2)
    low = total[..., left] + total[..., right]
    return low, torch.cat([total[..., left] - total[..., right], drop[..., left] + drop[..., right],
                           drop[..., left] - drop[..., right]], 1)
