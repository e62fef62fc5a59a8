"""Densities on the unit sphere: von Mises–Fisher, and the uniform one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import FromNoise, Reparameterized, closed_kl, sum_event


def log_area(dim: int) -> float:
    """log of the area 2 π^{D/2} / Γ(D/2) of the unit sphere in `dim` dimensions."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


_OUTER, _INNER = (math.sqrt(3 / 7 + s * 2 / 7 * math.sqrt(6 / 5)) for s in (1, -1))
_NODES = tuple((1 + x) / 2 for x in (-_OUTER, -_INNER, _INNER, _OUTER))
_WEIGHTS = tuple((18 + s * math.sqrt(30)) / 72 for s in (-1, 1, 1, -1))
"""Four points of Gauss–Legendre quadrature on [0, 1]."""


def _versine(theta: Tensor) -> Tensor:
    """1 − cos θ."""
    return 2 * (theta / 2).sin() ** 2


@dataclass(frozen=True)
class PolarAngle:
    """The angle θ between the mean direction and a draw: p(θ) ∝ exp(κ cos θ) sin^{D−2} θ on [0, π].

    Its integrals are taken by quadrature over `cells` pieces of the interval that holds all but 1e-14 of the mass, in
    float64 (which Apple's MPS devices do not have). That serves any κ > 0 and D ≥ 2 alike, where series of the Bessel
    function I_{D/2−1}(κ) = (κ/2)^{D/2−1} Z(κ) / (√π Γ((D−1)/2)) each serve some.
    """

    concentration: Tensor
    """κ, batch shape, float64."""
    dim: int
    """D, of the space around the sphere."""
    cells: int = 32

    def _log_density(self, versine: Tensor) -> Tensor:
        """κ (cos θ − 1) + (D − 2) log sin θ, without p's constant, at v = 1 − cos θ (*batch, …): sin² θ = v (2 − v)."""
        kappa = self.concentration.reshape(*self.concentration.shape, *(1,) * (versine.dim() - self.concentration.dim()))
        return (self.dim - 2) / 2 * (versine * (2 - versine)).clamp(min=1e-300).log() - kappa * versine

    def _integrals(self, start: Tensor, width: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """∫ e^{−peak} p and ∫ (1 − cos θ) e^{−peak} p, without p's constant, from `start` (*batch, n) over `width`."""
        nodes, weights = start.new_tensor(_NODES), start.new_tensor(_WEIGHTS)
        versine = _versine(start.unsqueeze(-1) + width.unsqueeze(-1) * nodes)
        mass = (self._log_density(versine) - peak.unsqueeze(-1)).exp() * weights
        return width * mass.sum(-1), width * (mass * versine).sum(-1)

    def _table(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The cells' starts and width, the density's peak, and the cells' integrals; the first three taken as constant.

        The cells reach from 9 standard deviations before the mode to 16 after it, where tails are heavier. With m = D − 2
        and r = √(m² + 4κ²) the mode has sin² θ = 2m / (m + r), and −(log p)'' = r there.
        """
        with torch.no_grad():
            m, kappa = self.dim - 2, self.concentration.unsqueeze(-1)
            r = (m * m + 4 * kappa * kappa).sqrt()
            mode, sigma = (2 * m / (m + r)).sqrt().asin(), r.rsqrt()
            first = (mode - 9 * sigma).clamp(min=0)
            width = ((mode + 16 * sigma).clamp(max=math.pi) - first) / self.cells
            starts = first + width * torch.arange(self.cells, dtype=kappa.dtype, device=kappa.device)
            peak = self._log_density(_versine(mode))
        return starts, width, peak, *self._integrals(starts, width, peak)

    def moments(self) -> tuple[Tensor, Tensor]:
        """log ∫ e^{κ (cos θ − 1)} sin^{D−2} θ dθ, and E[1 − cos θ], which is minus its derivative; differentiable in κ."""
        _, _, peak, mass, versine = self._table()
        total = mass.sum(-1)
        return total.log() + peak.squeeze(-1), versine.sum(-1) / total

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws θ = F⁻¹(u), `shape` + batch shape, with ∂θ/∂κ = −(∂F/∂κ) / p(θ). (Figurnov et al., 2018, arXiv:1805.08498)

        ∂F/∂κ = ∫₀^θ (cos t − E[cos]) p(t) dt. F is inverted in its cell by Newton's method, or by halving where that
        leaves the bracket.
        """
        kappa = self.concentration
        with torch.no_grad():
            starts, width, peak, masses, versines = self._table()
            total = masses.sum(-1, keepdim=True)
            cdf = masses.cumsum(-1) / total
            u = torch.rand((*kappa.shape, math.prod(shape)), dtype=kappa.dtype, device=kappa.device)
            u = u.clamp(1e-14, 1 - 1e-14)  # beyond, quotients of what is left of the mass are noise
            cell = (u.unsqueeze(-1) > cdf.unsqueeze(-2)).sum(-1).clamp(max=self.cells - 1)
            start = starts.gather(-1, cell)
            below = ((masses.cumsum(-1) - masses) / total).gather(-1, cell)
            low, high = start, start + width
            theta = start + width * ((u - below) * total / masses.gather(-1, cell)).clamp(0, 1)
            for _ in range(8):
                over = below + self._integrals(start, theta - start, peak)[0] / total - u
                low, high = torch.where(over < 0, theta, low), torch.where(over < 0, high, theta)
                newton = theta - over * total / (self._log_density(_versine(theta)) - peak).exp()
                # a step that leaves the bracket by rounding has converged
                inside = (newton > low - 1e-9 * width) & (newton < high + 1e-9 * width)
                theta = torch.where(inside, newton.clamp(low, high), (low + high) / 2)
            mass, versine = self._integrals(start, theta - start, peak)
            mean = versines.sum(-1, keepdim=True) / total
            versine = versine + (versines.cumsum(-1) - versines).gather(-1, cell)
            slope = (versine - mean * (mass + below * total)) / (self._log_density(_versine(theta)) - peak).exp()
        theta = theta + slope * (kappa - kappa.detach()).unsqueeze(-1)
        return theta.movedim(-1, 0).reshape(*shape, *kappa.shape)


@dataclass(frozen=True)
class VonMisesFisher(Reparameterized):
    """p(z) ∝ exp(κ μᵀz) on the unit sphere S^{D−1}, with unit mean direction μ and concentration κ > 0.

    An event is one direction (D,), or one at each position, (D, h, w); `concentration` is (…) or (…, h, w).
    Draws are exact and take no rejection: z = μ cos θ + v sin θ with v uniform on the sphere around μ, and θ drawn by
    inversion (see `PolarAngle`). (Davidson et al., 2018, arXiv:1804.00891)
    """

    loc: Tensor
    concentration: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        """The mean direction μ, of length 1 as every draw is; the expectation is E[cos θ] μ, inside the sphere."""
        return self.loc

    @property
    def polar(self) -> PolarAngle:
        return PolarAngle(self.concentration.double(), self.loc.shape[-self.event_dims])

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        mu, axis = self.loc, -self.event_dims
        theta = self.polar.sample(shape).to(mu.dtype).unsqueeze(axis)
        with torch.no_grad():
            v = torch.randn((*shape, *mu.shape), dtype=mu.dtype, device=mu.device)
            v = F.normalize(v - (v * mu).sum(axis, keepdim=True) * mu, dim=axis)
        # 0 in value (but for rounding), and in gradient what carries v along as μ turns: dv = −(v·dμ) μ
        v = v - (v * mu).sum(axis, keepdim=True) * mu
        return theta.cos() * mu + theta.sin() * v

    def log_prob(self, value: Tensor) -> Tensor:
        # on the sphere κ (μᵀz − 1) = −κ |z − μ|²/2, which keeps its digits where z is close to μ
        squared = ((value.double() - self.loc.double()) ** 2).sum(-self.event_dims)
        log_z = self.polar.moments()[0] + log_area(self.polar.dim - 1)
        return sum_event(-self.concentration.double() / 2 * squared - log_z, self.event_dims - 1).to(value.dtype)

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws with κ divided by the temperature, of density p^{1/T}."""
        kappa = self.concentration.double() / max(temperature, 1e-9)
        return VonMisesFisher(self.loc, kappa, self.event_dims).sample(shape)


@dataclass(frozen=True)
class UniformSphere(FromNoise):
    """The uniform density on the unit sphere in the D dimensions of `zero`, (D,), or on one at each position, (D, h, w)."""

    zero: Tensor

    @property
    def mean(self) -> Tensor:
        """The expectation 0, which is the centre and no point of the sphere."""
        return self.zero

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.zero.numel(), dtype=self.zero.dtype, device=self.zero.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The noise's direction, at any temperature: no direction is likelier than another, so p^{1/T} is p."""
        return F.normalize(u.reshape(-1, *self.zero.shape), dim=1)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_full(value.shape[: -self.zero.dim()], -self.zero[0].numel() * log_area(len(self.zero)))


@closed_kl(VonMisesFisher, UniformSphere)
def _von_mises_fisher_uniform(q: VonMisesFisher, p: UniformSphere) -> Tensor:
    """κ E[cos θ] − log Z(κ) + log Z(0) at each position. (Davidson et al., 2018, arXiv:1804.00891)"""
    log_z, versine = q.polar.moments()
    log_z0 = log_area(q.polar.dim) - log_area(q.polar.dim - 1)
    return sum_event(log_z0 - log_z - q.concentration.double() * versine, q.event_dims - 1).to(q.loc.dtype)
