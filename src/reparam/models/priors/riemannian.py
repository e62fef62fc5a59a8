"""Codes drawn uniformly by the volume of a metric over them, by Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...distributions.base import FromNoise, uniform
from ...errors import UsageError
from ...parts.ranges import above, at_least
from ...parts.registry import prior
from ...tensors import Shape, no_autocast
from ..centroids import Centroids, centroids_of
from ..space import Space
from .base import Prior

FLOOR, DECAY = 1e-3, 1.0
"""λ and τ: the metric far from all centroids, whose volume is finite."""
ROUNDS = 10
"""Proposals for each draw, which begins near a centroid."""
CLIMBS = 30
"""Steps to the nearest peak, for draws without noise."""


@dataclass(frozen=True)
class RiemannianUniform(FromNoise):
    """p(z) ∝ √det G(z), G(z) = Σ_i ω_i(z) Σ_i⁻¹ + λ exp(−τ‖z‖²) I, Σ_i diagonal.

    Around a centroid that is far from all others, ω_i alone counts, and the density is N(c_i, (ρ²/d) Σ_i): each such
    centroid has the same share of the volume, whatever its covariance. (Chadebec & Allassonnière, 2022, arXiv:2209.07370)
    """

    centroids: Centroids
    shape: Shape

    @property
    def mean(self) -> Tensor:
        """Of the centroids: the distribution's own has no closed form."""
        return self.centroids.means.mean(0).unflatten(-1, self.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        raise UsageError("the prior riemannian has a density up to a constant only, which nothing here tells: likelihoods "
                         "take another prior, such as the model's own")

    def relative_log_prob(self, value: Tensor) -> Tensor:
        """log √det G(z)."""
        z = value.flatten(-len(self.shape))
        with no_autocast(z):
            return self.log_volume(z.float().reshape(-1, z.shape[-1])).reshape(z.shape[:-1])

    def log_volume(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """log √det G(z)."""
        _, _, metric, peak = self._metric(z)
        return 0.5 * (metric.log() + peak).sum(1)

    def slope(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The gradient of `log_volume`, in closed form: products of matrices, and none of the memory of a graph.

        ∇ = −ρ⁻² Σ_i a_i Σ_i⁻¹ (z − c_i) − τ λ exp(−τ‖z‖²) tr(G⁻¹) z,    a_i = ω_i tr(Σ_i⁻¹ G⁻¹)
        """
        weights, rest, metric, _ = self._metric(z)
        precision = 1 / self.centroids.variances
        a = weights * (1 / metric @ precision.T)
        pull = a @ (precision * self.centroids.means) - z * (a @ precision)
        return pull / self.centroids.width**2 - DECAY * rest * (1 / metric).sum(1, keepdim=True) * z

    def _metric(self, z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ω_i, λ exp(−τ‖z‖²) and the diagonal of G, all times exp(−peak), and the peak: far out they are too small for
        float32."""
        log_weights = self.centroids.log_weights(z)
        log_rest = math.log(FLOOR) - DECAY * z.square().sum(1, keepdim=True)
        peak = torch.maximum(log_weights.max(1, keepdim=True).values, log_rest)
        weights, rest = (log_weights - peak).exp(), (log_rest - peak).exp()
        return weights, rest, weights @ (1 / self.centroids.variances) + rest, peak

    def noise(self, n: int) -> Tensor:
        d = self.centroids.means.shape[1]
        return torch.randn(n, 1 + d + ROUNDS * (d + 2), device=self.centroids.means.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Draws of p(z)^(1/T²), whose spread around a centroid is multiplied by the temperature T; at 0 the nearest peaks.

        The first number chooses a centroid, the next d a start around it, and the others are those of `moved`.
        """
        means, d = self.centroids.means, self.centroids.means.shape[1]
        with no_autocast(means):
            chosen = (uniform(u[:, 0]) * len(means)).long()
            z = means[chosen]
            if temperature == 0:
                z = self.peak(z)
            else:
                scale = temperature * self.centroids.width * (self.centroids.variances[chosen] / d).sqrt()
                z = self.moved(z + scale * u[:, 1 : d + 1], scale, u[:, d + 1 :].unflatten(1, (ROUNDS, d + 2)), temperature)
            return z.reshape(-1, *self.shape)

    def peak(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The peaks of p that mean shift leads to: z' = z + ρ² ∇ / Σ_i a_i Σ_i⁻¹, with ∇ and a_i of `slope`. A centroid that
        is far from all others stays where it is. (Comaniciu & Meer, 2002, doi:10.1109/34.1000236)"""
        precision = 1 / self.centroids.variances
        for _ in range(CLIMBS):
            weights, _, metric, _ = self._metric(z)
            held = (weights * (1 / metric @ precision.T)) @ precision
            z = z + self.centroids.width**2 / held * self.slope(z)
        return z

    def moved(self, z: Float[Tensor, "n d"], scale: Float[Tensor, "n d"], u: Float[Tensor, "n rounds k"],
              temperature: float = 1.0) -> Float[Tensor, "n d"]:
        """Codes after rounds of Hamiltonian Monte Carlo, which leaves p(z)^(1/T²) as it is; noise u has for each round a
        momentum, a number for the length of steps and one for the choice, k = d + 2.

        A round follows z'' = ∇ log p for a quarter of the period that N(0, scale²) has, by leapfrog steps of length d^(−1/4)
        in units of `scale`, and is accepted with probability min(1, exp(−ΔH)). (Neal, 2011, arXiv:1206.1901)
        """
        step = 0.9 * z.shape[1] ** -0.25
        for drawn in u.unbind(1):
            v, long, chance = drawn[:, :-2], uniform(drawn[:, -2:-1]), uniform(drawn[:, -1])
            before = self.log_volume(z) / temperature**2 - 0.5 * v.square().sum(1)
            # a length that varies meets no period of the motion
            end, v = self._leapfrog(z, v, scale, step * (0.8 + 0.4 * long), temperature, math.ceil(math.pi / 2 / step))
            after = self.log_volume(end) / temperature**2 - 0.5 * v.square().sum(1)
            z = torch.where((chance.log() < after - before)[:, None], end, z)
        return z

    def _leapfrog(self, z: Tensor, v: Tensor, scale: Tensor, length: Tensor, temperature: float, steps: int
                  ) -> tuple[Tensor, Tensor]:
        force = scale / temperature**2
        v = v + 0.5 * length * force * self.slope(z)
        for i in range(steps):
            z = z + length * scale * v
            v = v + (1.0 if i < steps - 1 else 0.5) * length * force * self.slope(z)
        return z, v


@prior("riemannian")
class Riemannian(Prior):
    """Uniform by the volume of a metric over codes, which the posteriors of `centroids` training images make: draws lie near
    these, by about `spread` of their posteriors' standard deviations. For Gaussian posteriors; fitted in seconds.

    It has no density that could be told, only its ratios. (Chadebec & Allassonnière, 2022, arXiv:2209.07370)
    """

    joint: ClassVar[bool] = False

    def __init__(self, space: Space, centroids: Annotated[int, at_least(1)] = 1000,
                 spread: Annotated[float, above(0)] = 1.0) -> None:
        super().__init__(space)
        dim, self.spread = math.prod(self.shape), float(spread)
        self.means = nn.Parameter(torch.randn(centroids, dim))
        self.log_vars = nn.Parameter(torch.zeros(centroids, dim))

    def forward(self) -> RiemannianUniform:
        width = self.spread * math.sqrt(self.means.shape[1])
        return RiemannianUniform(Centroids(self.means, self.log_vars.exp(), width), self.shape)

    @classmethod
    def fit(cls, means: Float[Tensor, "n d"], variances: Float[Tensor, "n d"], shape: Shape, centroids: int, spread: float,
            seed: int = 0) -> Riemannian:
        """Chooses centroids among posteriors, which stand for all."""
        chosen, variances = centroids_of(means, variances, centroids, seed)
        self = cls(Space(shape), len(chosen), spread)
        with torch.no_grad():
            self.means.copy_(chosen)
            self.log_vars.copy_(variances.log())
        return self.requires_grad_(False)
