"""Fully connected networks. `mlp(hidden=())` is a linear map, which makes a linear VAE: probabilistic PCA."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from ..errors import UsageError
from ..parts.registry import decoder, encoder
from ..tensors import Shape
from .base import Decoder, Encoder

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def _stack(sizes: tuple[int, ...], activation: str) -> list[nn.Module]:
    if activation not in ACTIVATIONS:
        raise UsageError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if min(sizes) < 1:
        raise UsageError(f"every layer needs at least one unit; got {sizes[1:]}")
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), ACTIVATIONS[activation]()]
    return layers


@encoder("mlp")
class MLPEncoder(Encoder):
    """Flatten, then dense layers, each with its activation."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, hidden: tuple[int, ...] = (512,),
                 activation: str = "silu") -> None:
        super().__init__()
        sizes = (math.prod(image_shape), *hidden)
        self.features = (sizes[-1],)
        self.net = nn.Sequential(nn.Flatten(), *_stack(sizes, activation))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("mlp")
class MLPDecoder(Decoder):
    """Dense layers, each with its activation, and a linear one to the image."""

    def __init__(self, latent_shape: Shape, out_shape: Shape, hidden: tuple[int, ...] = (512,),
                 activation: str = "silu") -> None:
        super().__init__()
        sizes = (math.prod(latent_shape), *hidden)
        self.net = nn.Sequential(nn.Flatten(), *_stack(sizes, activation), nn.Linear(sizes[-1], math.prod(out_shape)),
                                 nn.Unflatten(1, out_shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)
