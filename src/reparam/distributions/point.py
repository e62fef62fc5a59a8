"""Points that stand for distributions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Reparameterized


@dataclass(frozen=True)
class Point(Reparameterized):
    """All mass at `loc`. A point mass has no density, and `log_prob` is 0 in its stead, at the point where draws lie.

    So `kl` is −log p(z), and a bound made with it is no bound on log p(x).
    """

    loc: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.loc.expand(*shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.loc.shape)
        return value.new_zeros(shape[: len(shape) - self.event_dims])


@dataclass(frozen=True)
class Implicit(Reparameterized):
    """A draw of a distribution that is known by its draws alone: `log_prob` is NaN. (Mohamed & Lakshminarayanan, 2016,
    arXiv:1610.03483)"""

    loc: Tensor
    event_dims: int = 3

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.loc.expand(*shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.loc.shape)
        return value.new_full(shape[: len(shape) - self.event_dims], torch.nan)
