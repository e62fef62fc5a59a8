"""Large maps a tile at a time: where nothing is learned, the memory of a network follows the tile, not the image.

Tiles overlap and are blended, so that no seam shows. That holds for networks in which a place sees its neighbourhood alone:
attention has to see the whole map, and stays outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import Shape

Size = tuple[int, int]
MOST_NUMBERS = 2**23
"""In the largest map of one image, about a sixth of what its pass takes; beyond, it is made in tiles."""
OVERLAP, UNUSED = 8, 3
"""Places of the coarse map that neighbouring tiles share, and those along a tile's rim that lack what lies beyond it."""


@dataclass(frozen=True)
class Tiles:
    """How a network between an image and a coarse map of it is cut.

    `grid` is the coarse map's size, `into` and `out` are the sides of what one place of it is in the network's input and
    output, and `numbers` are those of the network's largest map for one place.
    """

    grid: Size
    into: int
    out: int
    numbers: float
    exact: bool
    """Whether the image's sides are multiples of a place's, so that every place has all its pixels."""

    @staticmethod
    def of(image: Shape, levels: Sequence[Size], widths: Sequence[int], patch: int, *, up: bool) -> Tiles:
        """Of a network between an image (C, H, W) and the last of `levels`; `up` goes to the image, else from it."""
        grid, factor = levels[-1], patch * 2 ** (len(levels) - 1)
        squares = image[0] * patch**2 * math.prod(levels[0])
        largest = max(squares, *(width * math.prod(level) for width, level in zip(widths, levels, strict=True)))
        exact = image[1:] == (factor * grid[0], factor * grid[1])
        return Tiles(grid, *((1, factor) if up else (factor, 1)), largest / math.prod(grid), exact)

    @property
    def side(self) -> int:
        """Places along a tile, so many that its largest map is within bounds."""
        return max(2 * OVERLAP, math.isqrt(int(MOST_NUMBERS / self.numbers)))

    @property
    def wanted(self) -> bool:
        """Whether gradients are off and a map of one image would be too large."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not self.exact:
            return False
        return self.numbers * math.prod(self.grid) > MOST_NUMBERS and self.side < max(self.grid)

    def through(self, net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`net` of x, (B, C, H, W), in one pass, or where tiles are wanted, in these."""
        return blended(net, x, self) if self.wanted else net(x)


def blended(net: Callable[[Tensor], Tensor], x: Tensor, tiles: Tiles) -> Tensor:
    """`net` of every tile of x, each place weighted by how far it lies from the tile's rim."""
    total, (rows, columns) = torch.zeros(()), (_spans(n, tiles.side) for n in tiles.grid)
    weights = [_weights(spans, n, tiles.out, x) for spans, n in ((rows, tiles.grid[0]), (columns, tiles.grid[1]))]
    for (top, bottom), down in zip(rows, weights[0], strict=True):
        for (left, right), across in zip(columns, weights[1], strict=True):
            tile = x[..., top * tiles.into : bottom * tiles.into, left * tiles.into : right * tiles.into]
            y = net(tile) * (down[:, None] * across)
            rim = (left, tiles.grid[1] - right, top, tiles.grid[0] - bottom)
            total = total.to(y) + F.pad(y, [tiles.out * places for places in rim])
    return total


def _spans(places: int, side: int) -> list[tuple[int, int]]:
    """First and last place of each tile along a side, the fewest that share `OVERLAP` places at least."""
    side = min(side, places)
    count = 1 if side == places else -(-(places - OVERLAP) // (side - OVERLAP))
    return [(begin, begin + side) for begin in (round(i * (places - side) / max(count - 1, 1)) for i in range(count))]


def _weights(spans: Sequence[tuple[int, int]], places: int, out: int, like: Tensor) -> list[Tensor]:
    """Of each tile along a side: 0 at its rim, rising within the overlap; at every place of the whole they sum to 1."""
    at, risen = torch.arange(places * out, device=like.device) + 0.5, list[Tensor]()
    for begin, end in spans:
        left = at - begin * out if begin else at + math.inf
        right = end * out - at if end < places else at + math.inf
        risen.append(((torch.minimum(left, right) / out - UNUSED) / (OVERLAP - 2 * UNUSED)).clamp(0, 1))
    whole = torch.stack(risen).sum(0)
    return [(w / whole)[begin * out : end * out].to(like) for w, (begin, end) in zip(risen, spans, strict=True)]
