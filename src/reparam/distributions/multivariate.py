"""The Gaussian with a full covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors import no_autocast
from .base import LOG_2PI, LocationScale, closed_kl, sum_event
from .gaussian import Gaussian, gaussian_kl


@dataclass(frozen=True)
class FullGaussian(LocationScale):
    """N(loc, L Lᵀ) over the event's `event_dims` last axes as one vector of D; `factor` L (…, D, D) is lower-triangular."""

    loc: Tensor
    factor: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def log_var(self) -> Tensor:
        """log of the variance of each dimension on its own, the shape of `loc`."""
        return self.factor.square().sum(-1).log().reshape(self.loc.shape)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        eps = torch.randn((*shape, *self.factor.shape[:-1]), dtype=self.loc.dtype, device=self.loc.device)
        with no_autocast(eps):
            return self.loc + torch.einsum("...ij,...j->...i", self.factor, eps).reshape(*shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = self.factor.shape[:-2]
        centred = (value - self.loc).flatten(-self.event_dims)
        leading = centred.shape[: centred.dim() - 1 - len(batch)]
        centred = centred.expand(*leading, *batch, -1)
        # samples stand as columns, so that they share their example's factor
        columns = centred.reshape(math.prod(leading), *centred.shape[len(leading):]).movedim(0, -1)
        with no_autocast(columns):
            u = torch.linalg.solve_triangular(self.factor, columns, upper=False)
        squared = u.square().sum(-2).movedim(-1, 0).reshape(*leading, *batch)
        log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (squared + LOG_2PI * self.factor.shape[-1]) - log_det


@closed_kl(FullGaussian, Gaussian)
def _full_gaussian(q: FullGaussian, p: Gaussian) -> Tensor:
    """That of its independent marginals, and their total correlation Σ_i ½ log Σ_ii − ½ log det Σ."""
    marginals = Gaussian(q.loc, q.log_var, q.event_dims)
    log_det = q.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return sum_event(gaussian_kl(marginals, p) + 0.5 * marginals.log_var, q.event_dims) - log_det
