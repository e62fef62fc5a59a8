"""Mixtures of Gaussians.

A prior may be learned together with the model (it stands in the objective's KL), or fitted afterwards to the codes of
a trained one (`fit`), where it closes the gap between the aggregate posterior q(z) = E_x q(z | x) and p(z) that makes
samples worse than reconstructions.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributions.base import LOG_2PI, FromNoise, choice
from ...parts.ranges import at_least
from ...parts.registry import prior
from ...tensors import Shape, no_autocast, no_denormals
from ..space import Space
from .base import Prior


@dataclass(frozen=True)
class GaussianMixture(FromNoise):
    """Σ_m w_m N(loc_m, (P_m P_mᵀ)⁻¹), with upper-triangular factors P_m of the precisions, over flattened latents."""

    log_weights: Tensor  # (M,)
    locs: Tensor  # (M, D)
    factors: Tensor  # (M, D, D)
    shape: Shape

    @property
    def mean(self) -> Tensor:
        return (self.log_weights.exp()[:, None] * self.locs).sum(0).unflatten(-1, self.shape)

    @cached_property
    def scales(self) -> Tensor:
        """P_m⁻¹, (M, D, D): rows ε of noise become rows ε P⁻¹, of covariance P⁻ᵀ P⁻¹ = (P Pᵀ)⁻¹."""
        p = self.factors
        return torch.linalg.solve_triangular(p, torch.eye(p.shape[-1], dtype=p.dtype, device=p.device), upper=True)

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, 1 + self.locs.shape[1], device=self.locs.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The first number chooses a component by their weights; the others, multiplied by the temperature, are the noise
        around its mean."""
        m, z = choice(self.log_weights.exp(), u[:, 0]), torch.zeros_like(u[:, 1:])
        for component, (loc, scale) in enumerate(zip(self.locs, self.scales, strict=True)):  # one by one to spare memory
            mine = m == component
            if torch.compiler.is_exporting() or mine.any():
                z = torch.where(mine[:, None], loc + temperature * u[:, 1:] @ scale, z)
        return z.reshape(-1, *self.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        z = value.float().flatten(-len(self.shape))
        with no_autocast(z):
            u = torch.einsum("...d,mde->...me", z, self.factors) - torch.einsum("md,mde->me", self.locs, self.factors)
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        per_component = log_det - 0.5 * (u**2 + LOG_2PI).sum(-1)
        return torch.logsumexp(self.log_weights + per_component, -1)


@prior("mixture")
class Mixture(Prior):
    """A mixture of n Gaussians with full covariances, learned with the model or fitted to the codes of a trained one.

    Fitted, it closes most of the gap between samples and reconstructions in seconds (Ghosh et al., 2020,
    arXiv:1903.12436, section 4).
    """

    def __init__(self, space: Space, n: Annotated[int, at_least(1)] = 50) -> None:
        super().__init__(space)
        dim = math.prod(self.shape)
        self.logits = nn.Parameter(torch.zeros(n))
        self.locs = nn.Parameter(torch.randn(n, dim))
        self.diagonal = nn.Parameter(torch.zeros(n, dim))  # log of the factors' diagonals
        self.above = nn.Parameter(torch.zeros(n, dim, dim))  # read above the diagonal only

    def forward(self) -> GaussianMixture:
        factors = self.above.triu(1) + torch.diag_embed(self.diagonal.exp())
        return GaussianMixture(F.log_softmax(self.logits, 0), self.locs, factors, self.shape)

    @classmethod
    def fit(cls, codes: np.ndarray, shape: Shape, n: int, seed: int = 0, active: np.ndarray | None = None) -> Mixture:
        """Fits by expectation–maximisation to `codes` (samples, D), with scikit-learn's GaussianMixture.

        Only dimensions that are `active` (D, boolean) enter the fit; the others, in which codes are noise, get a Gaussian
        of their own. Each component needs codes to learn from: n is lowered to one per twice as many of them as there are
        active dimensions. Codes are standardised for the fit, so that the added 1e-3 of variance is relative.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Fit

        codes = codes.astype(np.float32)  # three times as fast as float64, and the fit is none the worse
        used = np.arange(codes.shape[1]) if active is None else np.flatnonzero(active)
        if not len(used):  # a collapsed model: a Gaussian in each dimension says all there is
            used, n = np.arange(1), 1
        n = max(1, min(n, len(codes) // (2 * len(used))))
        centre, spread = codes.mean(0), codes.std(0) + 1e-6
        # far components have next to no part in a code; fifty rounds suffice for sampling, and what they reach is measured
        with no_denormals(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = Fit(n, covariance_type="full", reg_covar=1e-3, max_iter=50, tol=1e-2, random_state=seed,
                         init_params="k-means++").fit(((codes - centre) / spread)[:, used])
        locs = np.zeros((n, codes.shape[1]))
        locs[:, used] = fitted.means_
        factors = np.tile(np.eye(codes.shape[1]), (n, 1, 1))
        factors[:, used[:, None], used] = fitted.precisions_cholesky_
        factors = torch.from_numpy(factors / spread[:, None])
        self = cls(Space(shape), n)
        with torch.no_grad():
            self.logits.copy_(torch.from_numpy(np.log(np.asarray(fitted.weights_) + 1e-12)))
            self.locs.copy_(torch.from_numpy(locs * spread + centre))
            self.diagonal.copy_(factors.diagonal(dim1=-2, dim2=-1).log())
            self.above.copy_(factors.triu(1))
        return self.requires_grad_(False)
