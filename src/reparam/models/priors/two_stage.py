"""A second VAE as the prior of the first one's codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import FromNoise
from ...distributions.gaussian import Gaussian
from ...parts.ranges import at_least
from ...parts.registry import prior
from ...tensors import bounded, no_autocast
from ..space import Space
from .base import Prior, Standardize

SAMPLES = 64
"""Importance samples that a density is bounded with."""
START = -3.0
"""log of the noise's variance when a fit begins, codes having variance 1: from more noise it can collapse to a Gaussian."""


@dataclass(frozen=True)
class SecondStage(FromNoise):
    """The law of codes z = decode(u) + noise, u ~ N(0, I)."""

    prior: TwoStage

    @property
    def mean(self) -> Tensor:
        """The decoded mean of N(0, I), which stands for the middle of the distribution."""
        return self.prior.decoded(torch.zeros(1, self.prior.dims, device=self.prior.log_var.device))[0]

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, 2 * self.prior.dims, device=self.prior.log_var.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The first half is u, the second the noise around the decoded code; the temperature multiplies both."""
        latents, around = (temperature * u).chunk(2, 1)
        return self.prior.decoded(latents, around)

    def log_prob(self, value: Tensor) -> Tensor:
        """A lower bound of log p(z), nats, by 64 importance samples. (Burda et al., 2016, arXiv:1509.00519)"""
        leading = value.shape[: value.dim() - len(self.prior.shape)]
        log_w = self.prior.log_weights(value.float().reshape(-1, *self.prior.shape), SAMPLES)
        return (torch.logsumexp(log_w, 0) - math.log(SAMPLES)).reshape(leading)


@prior("two_stage")
class TwoStage(Prior):
    """A VAE of the codes, fitted after the first: as many latents as a code has numbers, two dense layers of `hidden` units
    each way, and one learned noise level.

    What a model's codes miss of its prior is a smaller problem than that of images, which a second VAE solves where its
    latents need not be fewer. (Dai & Wipf, 2019, arXiv:1903.05789, section 4)
    """

    joint: ClassVar[bool] = False

    def __init__(self, space: Space, hidden: Annotated[int, at_least(1)] = 256) -> None:
        super().__init__(space)
        self.dims = math.prod(self.shape)
        self.standardized = Standardize(self.shape)
        self.encoder = _dense(self.dims, hidden, 2 * self.dims)
        self.decoder = _dense(self.dims, hidden, self.dims)
        self.log_var = nn.Parameter(torch.tensor(START))

    def forward(self) -> SecondStage:
        return SecondStage(self)

    def prepare(self, codes: Float[Tensor, "n *d"], y: Int[Tensor, "n"] | None = None) -> None:
        self.standardized.fit(codes)

    def loss(self, z: Float[Tensor, "b *d"], y: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b"]:
        return -self.log_weights(z, 1)[0]

    def log_weights(self, z: Float[Tensor, "b *d"], samples: int) -> Float[Tensor, "k b"]:
        """log p(z, u) − log q(u | z) of draws u of q, nats; on average a lower bound of log p(z)."""
        with no_autocast(z):
            x = self.standardized(z).flatten(1)
            loc, log_var = self.encoder(x).chunk(2, -1)
            q = Gaussian(loc, bounded(log_var, 10.0))
            u = q.rsample((samples,))
            zero = torch.zeros_like(loc)
            px = Gaussian(self.decoder(u), bounded(self.log_var, 10.0).expand_as(u))
            return px.log_prob(x) + Gaussian(zero, zero).log_prob(u) - q.log_prob(u) + self.standardized.log_det

    def decoded(self, u: Float[Tensor, "n d"], around: Float[Tensor, "n d"] | float = 0.0) -> Float[Tensor, "n *d"]:
        """Codes of u, with noise `around` them in units of the learned level."""
        with no_autocast(u):
            x = self.decoder(u)
            x = x + around * (bounded(self.log_var, 10.0) / 2).exp()
            return self.standardized.inverse(x.unflatten(-1, self.shape))


def _dense(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                         nn.Linear(hidden, outputs))
