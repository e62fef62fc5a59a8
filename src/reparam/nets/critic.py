"""Critics: networks that give each input a score. Adversaries and the resampler train one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UsageError
from ..parts.call import parse_call
from ..tensors import Shape
from .base import ENCODERS, Encoder


class Critic(nn.Module):
    """An encoder's network, and a head that gives one score, or with `places` one for each place of its grid."""

    def __init__(self, trunk: Encoder, *, code: int = 0, places: bool = False) -> None:
        super().__init__()
        self.trunk, self.places = trunk, places
        size = math.prod(trunk.features)
        if places:
            self.head: nn.Module = nn.Conv2d(trunk.features[0], 1, 1)
        elif code:
            self.head = nn.Sequential(nn.Linear(size + code, 256), nn.SiLU(), nn.Linear(256, 1))
        else:
            self.head = nn.Linear(size, 1)

    def features(self, x: Tensor) -> Tensor:
        """The features of images from which the score is computed, (n, *f)."""
        return self.trunk(x)

    def forward(self, x: Tensor, *code: Tensor) -> Float[Tensor, "n ..."]:
        """Scores, (n,) or (n, places), float32."""
        h = self.trunk(x)
        if self.places:
            return self.head(h).float().flatten(1)
        return self.head(torch.cat([h.flatten(1), *(z.flatten(1) for z in code)], 1)).float().squeeze(1)


def make_critic(net: str, shape: Shape, grid: tuple[int, int] | None = None, *, code: int = 0) -> Critic:
    """A critic of inputs of `shape` with the network of the encoder `net`; with a grid, it scores each place of it.

    Raises:
        UsageError: an unknown network, or one that does not fit the inputs.
    """
    if len(shape) == 1 and not net.startswith("mlp"):
        raise UsageError(f"the critic {net!r} reads maps, and its inputs here are vectors of {shape[0]} numbers: "
                         "give --critic mlp, or \"mlp((256, 256))\"")
    ENCODERS.check(parse_call(net))
    try:
        trunk = ENCODERS.make(net, shape, grid)
    except UsageError as e:
        if grid is None:
            raise
        raise UsageError(f"the critic {net!r} has no level of {grid[0]}×{grid[1]} places: give images(patch) a power of 2, "
                         "or patch=0 to judge images as a whole") from e
    if grid and len(trunk.features) != 3:
        raise UsageError(f"the critic {net!r} gives no map of scores: give a convolutional one, such as conv, or patch=0")
    return Critic(trunk, code=code, places=grid is not None)
