"""What every prior is, and how it is fitted to codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import Distribution
from ...parts import registry
from ...tensors import Shape
from ..draw import Draw
from ..space import Space


class Prior(nn.Module, ABC):
    """p(z): a module whose `forward()` is a distribution over the latents of a space."""

    covers: ClassVar[tuple[str, ...]] = ("real",)
    """The kinds of space that it is a density on."""
    joint: ClassVar[bool] = True
    """Whether it can be learned together with the model, by the term `kl`; else it can only be fitted afterwards."""
    rate: float = 2e-3
    """The learning rate that suits a fit."""
    batch: int = 256
    """Codes a step that suit a fit on a processor."""

    shape: Shape
    """Of one draw."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.shape = space.shape

    @abstractmethod
    def forward(self) -> Distribution: ...

    def draw(self, shape: tuple[int, ...], options: Draw) -> Tensor:
        """Draws `shape` + the shape of one.

        Raises:
            UsageError: something is asked for that this prior cannot do.
        """
        return self.from_noise(self.noise(math.prod(shape)), options).reshape(*shape, *self.shape)

    @torch.no_grad()
    def noise(self, n: int) -> Float[Tensor, "n k"]:
        """Standard normal numbers of n draws."""
        return self().noise(n)

    @torch.no_grad()
    def from_noise(self, u: Float[Tensor, "n k"], options: Draw = Draw()) -> Float[Tensor, "n *d"]:
        """The draws that noise becomes: of the same numbers always the same ones.

        Raises:
            UsageError: something is asked for that this prior cannot do.
        """
        options.check_plain_prior()
        return self().from_noise(u, options.one_temperature)

    def prepare(self, codes: Float[Tensor, "n *d"], y: Int[Tensor, "n"] | None = None) -> None:
        """Takes from codes and labels what is not learned step by step, such as their scale, before a fit."""

    def loss(self, z: Float[Tensor, "b *d"], y: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b"]:
        """What a fit to codes with labels y (−1: none) minimises: −log p(z), nats."""
        return -self().log_prob(z)


PRIORS = registry.prior.of(Prior)


class Standardize(nn.Module):
    """u = (z − loc) / scale: codes of mean 0 and standard deviation 1 in each dimension, of a map in each channel.

    The identity until it is fitted; stored with the model.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.places = shape[1:]
        self.register_buffer("loc", torch.zeros(shape[0], *[1] * len(self.places)))
        self.register_buffer("scale", torch.ones(shape[0], *[1] * len(self.places)))

    def fit(self, codes: Float[Tensor, "n *d"]) -> None:
        """Measures codes."""
        axes = [0, *range(2, codes.dim())]
        self.loc.copy_(codes.mean(axes).view_as(self.loc))
        self.scale.copy_(codes.std(axes).clamp(min=1e-6).view_as(self.scale))

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return (z - self.loc) / self.scale

    def inverse(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return self.loc + u * self.scale

    @property
    def log_det(self) -> Float[Tensor, ""]:
        """log |det ∂u/∂z|."""
        return -self.scale.log().expand(len(self.scale), *self.places).sum()
