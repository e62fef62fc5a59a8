"""Points that stand for distributions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from .base import LocationScale

NO_DENSITY = ("log p(x | z) needs a density of images, and the likelihood 'implicit' has none: choose another --likelihood, "
              "or leave out the terms that need one, such as nll")


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


@dataclass(frozen=True)
class Point(_At):
    """All mass at `loc`. A point mass has no density, and `log_prob` is 0 in its stead, at the point where draws lie.

    So `kl` is −log p(z), and a bound made with it is no bound on log p(x).
    """

    event_dims: int = 1

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.loc.shape)
        return value.new_zeros(shape[: len(shape) - self.event_dims])


@dataclass(frozen=True)
class Implicit(_At):
    """A draw of a distribution that is known by its draws alone and has no density. (Mohamed & Lakshminarayanan, 2016,
    arXiv:1610.03483)"""

    event_dims: int = 3

    def log_prob(self, value: Tensor) -> Tensor:
        raise UsageError(NO_DENSITY)
