"""The VampPrior: a mixture of posteriors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ...distributions.base import LOG_2PI, FromNoise, uniform
from ...distributions.gaussian import Gaussian
from ...errors import UsageError
from ...parts.ranges import at_least
from ...parts.registry import prior
from ...tensors import no_autocast
from ..space import Space
from .base import Prior


@dataclass(frozen=True)
class EvenMixture(FromNoise):
    """(1/M) Σ_m N(loc_m, diag exp(log_var_m)): the even mixture of a batch of M Gaussians."""

    components: Gaussian

    @property
    def mean(self) -> Tensor:
        return self.components.loc.mean(0)

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, 1 + self.components.loc[0].numel(), device=self.components.loc.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The first number chooses a component, all alike; the others, multiplied by the temperature, are the noise around
        its mean."""
        loc, scale = self.components.loc, (0.5 * self.components.log_var).exp()
        m = (uniform(u[:, 0]) * len(loc)).long()
        return loc[m] + temperature * scale[m] * u[:, 1:].reshape(-1, *loc.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """By matrix products, z²/σ² − 2zμ/σ² + μ²/σ², so that no tensor has both components and dimensions.

        The parts of that square nearly cancel where σ is small, hence float64, where the device has it.
        """
        dtype = torch.float32 if value.device.type == "mps" else torch.float64
        loc, log_var = (t.to(dtype).flatten(1) for t in (self.components.loc, self.components.log_var))
        z = value.to(dtype).flatten(value.dim() - self.components.event_dims)
        with no_autocast(value):
            precision = (-log_var).exp()
            square = z**2 @ precision.mT - 2 * z @ (loc * precision).mT + (loc**2 * precision).sum(1)
        per_component = -0.5 * (square + log_var.sum(1) + loc.shape[1] * LOG_2PI)
        return (torch.logsumexp(per_component, -1) - math.log(len(loc))).float()


@prior("vamp")
class Vamp(Prior):
    """The VampPrior: (1/n) Σ_i q(z | u_i), the mixture of the posteriors of n pseudo-images u_i that are learned.

    It resembles the aggregate posterior by construction, since the encoder makes both. Every pass of the model encodes n
    images beside the batch. The posterior must be a Gaussian with a diagonal covariance. Pseudo-images stay in [0, 1] and
    start as faint noise on grey. (Tomczak & Welling, 2018, arXiv:1705.07120, Eq. 10)
    """

    def __init__(self, space: Space, n: Annotated[int, at_least(1)] = 100) -> None:
        super().__init__(space)
        if not space.inference:
            raise UsageError("the prior vamp is made of the model's own posteriors of images, so it is learned with the "
                             "model as its --prior, and with a latent such as flat(32), whose posterior reads the encoder "
                             "alone")
        self.inference = space.inference
        self.logits = nn.Parameter(0.5 * torch.randn(n, *space.image_shape))
        with torch.no_grad():
            self._posteriors(torch.zeros(1, *space.image_shape))

    def forward(self) -> EvenMixture:
        return EvenMixture(self._posteriors(self.logits.sigmoid()))

    def _posteriors(self, images: Tensor) -> Gaussian:
        q: Any = images
        for module in self.inference:
            q = module(q)
        if type(q) is not Gaussian:
            raise UsageError("the prior vamp mixes the posteriors of images in closed form, so they must be Gaussians; "
                             f"got {type(q).__name__}. Choose --posterior gaussian, or another prior")
        return q
