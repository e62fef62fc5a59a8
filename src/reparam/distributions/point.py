"""Points that stand for distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import LocationScale


@dataclass(frozen=True)
class _At(LocationScale):
    """Every draw lies at `loc`."""

    loc: Tensor
    event_dims: int

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.loc.expand(*shape, *self.loc.shape)

    def _constant(self, value: Tensor, log_prob: float) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.loc.shape)
        return value.new_full(shape[: len(shape) - self.event_dims], log_prob)


@dataclass(frozen=True)
class Point(_At):
    """All mass at `loc`. A point mass has no density, and `log_prob` is 0 in its stead, at the point where draws lie.

    So `kl` is −log p(z), and a bound made with it is no bound on log p(x).
    """

    event_dims: int = 1

    def log_prob(self, value: Tensor) -> Tensor:
        return self._constant(value, 0.0)


@dataclass(frozen=True)
class Implicit(_At):
    """A draw of a distribution that is known by its draws alone: `log_prob` is NaN. (Mohamed & Lakshminarayanan, 2016,
    arXiv:1610.03483)"""

    event_dims: int = 3

    def log_prob(self, value: Tensor) -> Tensor:
        return self._constant(value, math.nan)
