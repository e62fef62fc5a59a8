"""The Gaussian posterior."""

from __future__ import annotations

from torch import Tensor

from ..distributions import Gaussian
from ..nets.layers import Shape, bounded, to_latent
from ..registry import posterior
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
