"""Densities on hyperbolic space in normal coordinates: a point is the tangent vector at the origin that leads to it.

In hyperbolic space, here of curvature −1, the volume within a distance r of the origin grows exponentially with r, as the
number of nodes of a tree does with its depth. In normal coordinates u, r = |u|, it is all of ℝ^D, without a boundary, with
the volume element (sinh r / r)^{D−1} du.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .base import LOG_2PI, Reparameterized, sum_event

FARTHEST = 15.0
"""Distance from the origin beyond which float64 cannot tell points of the Poincaré ball from its boundary."""


def log_sinhc(r: Tensor) -> Tensor:
    """log(sinh r / r), which is 0 at r = 0."""
    small = r < 1e-2
    safe = torch.where(small, 1.0, r)
    return torch.where(small, r * r / 6, safe + torch.log(-torch.expm1(-2 * safe)) - torch.log(2 * safe))


def _norm(u: Tensor) -> Tensor:
    return (u * u).sum(-1, keepdim=True).clamp(min=1e-30).sqrt()


def to_ball(u: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Normal coordinates as points of the Poincaré ball, tanh(r/2) in their direction."""
    r = _norm(u)
    return torch.tanh(r.clamp(max=FARTHEST) / 2) * u / r


def from_ball(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Points of the Poincaré ball in normal coordinates."""
    r = _norm(x)
    return 2 * torch.atanh(r.clamp(max=1 - 1e-15)) * x / r


def mobius_add(x: Float[Tensor, "*n d"], y: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """x ⊕ y in the Poincaré ball: the translation that takes the origin to x, applied to y. (Ungar, 2008)"""
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)


@dataclass(frozen=True)
class WrappedNormal(Reparameterized):
    """The law of exp_μ(v), v ~ N(0, diag σ²) in the tangent space at μ, as a density over normal coordinates in ℝ^D.

    log q(u) = log N(v; 0, σ²) − (D−1) log(sinh|v| / |v|) + (D−1) log(sinh|u| / |u|), where v = log_μ(u): the first two are
    the density with respect to the hyperbolic volume, the last is its volume element. At μ = 0 it is N(0, diag σ²).
    An event is one point (D,), or one at each position, (D, h, w).
    (Nagano et al., 2019, arXiv:1902.02992; Mathieu et al., 2019, arXiv:1901.06033)
    """

    loc: Tensor
    """μ in normal coordinates, batch shape + event shape."""
    log_var: Tensor
    """log σ², the same shape."""
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        """The centre μ, from which draws go in all directions alike."""
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self._carried(self._noise(shape))

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws whose distance from the centre is multiplied by the temperature."""
        with torch.no_grad():
            return self._carried(temperature * self._noise(shape))

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.loc.numel(), device=self.loc.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        return self._carried(temperature * u.reshape(-1, *self.loc.shape))

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn((*shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)

    def _carried(self, eps: Tensor) -> Tensor:
        v = self._last(eps) * (self._last(self.log_var) / 2).exp()
        u = from_ball(mobius_add(to_ball(self._last(self.loc)), to_ball(v)))
        return u.movedim(-1, -self.event_dims).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        u, log_var = self._last(value), self._last(self.log_var)
        v = from_ball(mobius_add(-to_ball(self._last(self.loc)), to_ball(u)))
        normal = -0.5 * (v * v * (-log_var).exp() + log_var + LOG_2PI).sum(-1)
        volume = (u.shape[-1] - 1) * (log_sinhc(_norm(u)) - log_sinhc(_norm(v))).squeeze(-1)
        return sum_event(normal + volume, self.event_dims - 1).to(value.dtype)

    def _last(self, t: Tensor) -> Tensor:
        """In float64, which curved space takes, with the dimensions of a point as the last axis."""
        return t.double().movedim(-self.event_dims, -1)
