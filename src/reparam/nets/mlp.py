"""Fully connected networks. `mlp(hidden=())` is a linear map, which makes a linear VAE: probabilistic PCA."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from ..parts.ranges import at_least, one_of
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}
Activation = Annotated[str, one_of(*ACTIVATIONS)]
Hidden = tuple[Annotated[int, at_least(1)], ...]
"""Units of each hidden layer."""


def _stack(sizes: tuple[int, ...], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), ACTIVATIONS[activation]()]
    return layers


@encoder("mlp")
class MLPEncoder(Encoder):
    """Flatten, then dense layers, each with its activation."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, hidden: Hidden = (512,),
                 activation: Activation = "silu") -> None:
        super().__init__()
        sizes = (math.prod(image_shape), *hidden)
        self.features = (sizes[-1],)
        self.net = nn.Sequential(nn.Flatten(), *_stack(sizes, activation))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("mlp")
class MLPDecoder(Decoder):
    """Dense layers, each with its activation, and a linear one to the image."""

    def __init__(self, latent_shape: Shape, out_shape: Shape, hidden: Hidden = (512,),
                 activation: Activation = "silu") -> None:
        super().__init__()
        sizes = (math.prod(latent_shape), *hidden)
        self.net = nn.Sequential(nn.Flatten(), *_stack(sizes, activation), nn.Linear(sizes[-1], math.prod(out_shape)),
                                 nn.Unflatten(1, out_shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
