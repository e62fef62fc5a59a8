"""Gaussian posteriors, with independent dimensions and with a full covariance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributions.gaussian import Gaussian
from ...distributions.multivariate import FullGaussian
from ...errors import UsageError
from ...nets.layers import to_latent
from ...parts.registry import posterior
from ...tensors import Shape, bounded
from ..space import Space
from .base import Posterior


@posterior("gaussian")
class GaussianPosterior(Posterior):
    """N(μ(x), diag σ²(x)), with a head of its own for μ and for log σ², the latter bounded smoothly to ±10.

    (Kingma & Welling, 2014, arXiv:1312.6114, Eq. 9)
    """

    bound = 10.0

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.loc = to_latent(features, shape)
        self.log_var = to_latent(features, shape)
        self.space = Space(shape)

    def forward(self, h: Tensor) -> Gaussian:
        return Gaussian(self.loc(h).float(), bounded(self.log_var(h).float(), self.bound), len(self.space.shape))


@posterior("full")
class FullPosterior(Posterior):
    """N(μ(x), L(x) L(x)ᵀ) with the covariance of all latent dimensions, L = diag(σ) (I + N), N strictly lower-triangular.

    A linear head gives log σ², bounded smoothly to ±10, and the D(D−1)/2 numbers of N, which start at 0, where this is the
    posterior gaussian. (Kingma & Welling, 2019, arXiv:1906.02691, section 2.5.1)
    """

    bound, most = 10.0, 256

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        dim = math.prod(shape)
        if dim > self.most:
            raise UsageError(f"full: the latent has {dim} dimensions, and a covariance of at most {self.most} is supported: "
                             "give a smaller latent, or the posterior gaussian")
        self.loc = to_latent(features, shape)
        self.factor = nn.Linear(math.prod(features), dim * (dim + 1) // 2)
        with torch.no_grad():
            self.factor.weight[dim:] = 0
            self.factor.bias[dim:] = 0
        self.space = Space(shape)

    def forward(self, h: Tensor) -> FullGaussian:
        dim = math.prod(self.space.shape)
        raw = self.factor(h.flatten(1)).float()
        sigma = (0.5 * bounded(raw[:, :dim], self.bound)).exp()
        place = torch.zeros(dim, dim, dtype=torch.int64, device=raw.device)  # 0 on and above the diagonal
        row, column = torch.tril_indices(dim, dim, -1, device=raw.device)
        place[row, column] = torch.arange(1, len(row) + 1, device=raw.device)
        unit = F.pad(raw[:, dim:], (1, 0))[:, place] + torch.eye(dim, device=raw.device)
        return FullGaussian(self.loc(h).float(), sigma.unsqueeze(-1) * unit, len(self.space.shape))
