"""Posteriors q(z | x): modules from the encoder's features to a distribution over a latent of a given shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .distributions import Gaussian
from .nets.layers import Shape, to_latent
from .registry import posterior


def bounded(raw: Tensor, bound: float) -> Tensor:
    """`bound`·tanh(raw/bound): near zero the identity, never beyond ±bound, and with a gradient everywhere."""
    return bound * torch.tanh(raw / bound)


@posterior("gaussian")
class GaussianPosterior(nn.Module):
    """N(μ(x), diag σ²(x)), with a head of its own for μ and for log σ², the latter bounded smoothly to ±10.

    (Kingma & Welling, 2014, arXiv:1312.6114, Eq. 9)
    """

    bound = 10.0

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.loc = to_latent(features, shape)
        self.log_var = to_latent(features, shape)
        self.event_dims = len(shape)

    def forward(self, h: Tensor) -> Gaussian:
        return Gaussian(self.loc(h).float(), bounded(self.log_var(h).float(), self.bound), self.event_dims)
