"""A posterior whose draws follow the model's own log p(x, z) for a few steps, as those of Hamiltonian Monte Carlo do.

A draw z_0 of a Gaussian gets a momentum γ ~ N(0, I), and both run through K leapfrog steps that start hot and end cool:

    ρ_0 = γ / √β_0;    ρ ← ρ + ε/2 ∇ log p(x, z),  z ← z + ε ρ,  ρ ← ρ + ε/2 ∇ log p(x, z),  ρ ← ρ √(β_{k−1} / β_k),  β_K = 1

Each line but the first and the last adds to one of the two what depends on the other alone, and so keeps volume; the last
lines take back what the first gave. The map (z_0, γ) → (z_K, ρ_K) thus keeps volume, and for any target

    log p(x) ≥ E[log p(x, z_K) + log N(ρ_K; 0, I) − log q(z_0 | x) − log N(γ; 0, I)]

(Caterini, Doucet & Sejdinovic, 2018, arXiv:1805.11328; Neal, 2011, arXiv:1206.1901)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from ...distributions.base import Reparameterized, sum_event
from ...distributions.gaussian import Gaussian
from ...parts.ranges import between
from ...parts.registry import posterior
from ...tensors import Shape
from ..space import Space
from .base import LogJoint, Posterior
from .gaussian import GaussianPosterior

AT_ONCE = 1024
"""Latents whose images are held in memory for one gradient."""


def cooling(first: Tensor, steps: int) -> Tensor:
    """√β_0 … √β_K from √β_0 = `first` to 1, (K + 1,): 1 / √β_k falls as k² grows. (Caterini et al., 2018)"""
    k = torch.arange(steps + 1, dtype=first.dtype, device=first.device)
    return 1 / (1 / first + (1 - 1 / first) * (k / steps).square())


@dataclass(frozen=True)
class Leapfrog:
    """The steps, on latents z and momenta (…, B, *d)."""

    log_joint: LogJoint
    step: Tensor
    """ε, (B, *d)."""
    roots: Tensor
    """√β_0 … √β_K, (K + 1,), of which the last is 1."""

    def __call__(self, z: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """From (z_0, γ) to (z_K, ρ_K)."""
        rho, force = momentum / self.roots[0], self.force(z)
        for before, after in pairwise(self.roots.unbind()):
            rho = rho + 0.5 * self.step * force
            z = z + self.step * rho
            force = self.force(z)
            rho = (rho + 0.5 * self.step * force) * (before / after)
        return z, rho

    def inverse(self, z: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """From (z_K, ρ_K) to (z_0, γ)."""
        rho, force = momentum, self.force(z)
        for after, before in pairwise(self.roots.flip(0).unbind()):
            rho = rho * (after / before) - 0.5 * self.step * force
            z = z - self.step * rho
            force = self.force(z)
            rho = rho - 0.5 * self.step * force
        return z, rho * self.roots[0]

    def force(self, z: Tensor) -> Tensor:
        """∇ log p(x, z). `torch.func` takes it whether or not gradients are recorded around it, and through it where so."""
        gradient = torch.func.grad(lambda each: self.log_joint(each).sum())
        draws = z.reshape(-1, *self.step.shape)
        return torch.cat([gradient(few) for few in draws.split(max(AT_ONCE // draws.shape[1], 1))]).reshape(z.shape)


@dataclass(frozen=True)
class Hamiltonian(Reparameterized):
    """The law of z_K, of which a draw knows log q(z_K, ρ_K | x) − log N(ρ_K; 0, I), with its own momentum ρ_K.

    That stands for log q(z_K | x) in every bound: the expectation of its exponential's inverse is 1 / q(z_K | x). The
    density of other values is the mean of q(z, ρ | x) / N(ρ; 0, I) over momenta ρ ~ N(0, I), right on average.
    """

    base: Gaussian  # (B, *d), of z_0
    leapfrog: Leapfrog
    momenta: int = 16
    """Over which the density of a value that was not drawn is averaged."""
    drawn: list[tuple[Tensor, Tensor, bool]] = field(default_factory=list, repr=False, compare=False)

    @property
    def mean(self) -> Tensor:
        """Where the Gaussian's mean goes from rest."""
        loc = self.base.loc
        return self.leapfrog(loc, torch.zeros_like(loc))[0]

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        start = self.base.rsample(shape)
        momentum = torch.randn_like(start)
        z, rho = self.leapfrog(start, momentum)
        self.drawn[:] = [(z, self._log_density(start, momentum, rho), torch.is_grad_enabled())]
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        for z, log_q, has_gradient in self.drawn:
            # a draw without gradients does not answer for a density that is asked with them
            if z is value and (has_gradient or not torch.is_grad_enabled()):
                return log_q
        rho = torch.randn((self.momenta, *torch.broadcast_shapes(value.shape, self.base.loc.shape)),
                          dtype=value.dtype, device=value.device)
        start, momentum = self.leapfrog.inverse(value.expand_as(rho), rho)
        return self._log_density(start, momentum, rho).logsumexp(0) - math.log(self.momenta)

    def _log_density(self, start: Tensor, momentum: Tensor, rho: Tensor) -> Tensor:
        """log q(z_0 | x) + log N(γ; 0, I) − log N(ρ_K; 0, I)."""
        return self.base.log_prob(start) + 0.5 * sum_event(rho.square() - momentum.square(), self.base.event_dims)


@posterior("hamiltonian")
class HamiltonianPosterior(Posterior):
    """A Gaussian's draw that follows the gradient of log p(x, z) for `steps` steps of Hamiltonian dynamics.

    The decoder itself thus corrects what the encoder got wrong, at the cost of decoding `steps` + 1 times more, with
    gradients, in training and after. Step sizes, one for each latent, in units of the encoder's σ(x), and the temperature
    that the momenta start at are learned. Codes of images are where μ(x) goes from rest. Below the top of a ladder, the
    gradient is taken with all latents at their prior's mean. (Caterini et al., 2018, arXiv:1805.11328)
    """

    asks = True
    largest, start = 1.0, 0.1
    """Step sizes, at most and to begin with."""

    def __init__(self, features: Shape, shape: Shape, steps: Annotated[int, between(1, 64)] = 3) -> None:
        super().__init__()
        self.base = GaussianPosterior(features, shape)
        self.step = nn.Parameter(torch.full(shape, math.log(self.start / (self.largest - self.start))))
        self.cold = nn.Parameter(torch.tensor(2.0))
        self.steps, self.space = steps, Space(shape)

    def forward(self, h: Tensor) -> Gaussian:
        """The Gaussian that the draws start from."""
        return self.base(h)

    def guided(self, h: Tensor, log_joint: LogJoint) -> Hamiltonian:
        base = self.base(h)
        step = self.largest * self.step.sigmoid() * (0.5 * base.log_var).exp()
        return Hamiltonian(base, Leapfrog(log_joint, step, cooling(self.cold.sigmoid(), self.steps)))
