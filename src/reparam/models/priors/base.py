"""What every prior is, how it is drawn from, and how it is fitted to codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import Distribution
from ...errors import UsageError
from ...parts import registry
from ...tensors import Shape
from ..space import Space


@dataclass(frozen=True)
class Draw:
    """How codes are drawn from a prior."""

    temperature: float | tuple[float, ...] = 1.0
    """Below 1: less varied. Layers from the top down may have one each, the last for all below."""
    fitted: bool = True
    """From the prior that was fitted to the codes, where there is one."""
    label: int | None = None
    """Only of this class."""
    steps: int | None = None
    """Of a prior that draws in steps; by default as it was fitted."""
    guidance: float = 1.0
    """How many times as far as the label says; 1 is what the label says."""
    resample: bool = True
    """Whether a resampler, where there is one, chooses among draws."""

    @property
    def is_plain(self) -> bool:
        """Whether it draws from the prior as it is, and not from a part of it or beyond it."""
        return self.temperature in (1.0, (1.0,)) and self.label is None and self.guidance == 1

    @property
    def one_temperature(self) -> float:
        """The temperature of a prior, which is of one layer.

        Raises:
            UsageError: several were given.
        """
        if isinstance(self.temperature, tuple):
            if len(self.temperature) != 1:
                raise UsageError(f"this model has one stochastic layer, so it takes one temperature; got {self.temperature}")
            return self.temperature[0]
        return self.temperature

    def check_plain(self) -> None:
        """Refuses what only some priors can do.

        Raises:
            UsageError: a label, steps or guidance.
        """
        if self.label is not None:
            raise UsageError("this model knows no classes: train one with --preset cvae or --preset m2, or fit a prior to "
                             "labelled images with reparam fit-prior RUN --prior flow_matching")
        if self.steps is not None or self.guidance != 1:
            raise UsageError("this model's prior draws at once, without steps or guidance: they are for flow_matching, "
                             "which reparam fit-prior RUN --prior flow_matching fits")


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

    def draw(self, shape: tuple[int, ...], how: Draw) -> Tensor:
        """Draws `shape` + the shape of one.

        Raises:
            UsageError: something is asked for that this prior cannot do.
        """
        how.check_plain()
        return self().tempered(shape, how.one_temperature)

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
