"""Posteriors that are bent by planar and radial flows, whose parameters the encoder gives for each image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributions.gaussian import Gaussian
from ...nets.layers import to_latent
from ...parts.ranges import between
from ...parts.registry import posterior
from ...tensors import Shape
from ..space import Space
from .base import Posterior
from .flow import FlowedGaussian
from .gaussian import GaussianPosterior


class Bends(nn.Module, ABC):
    """z = f_T ∘ … ∘ f_1(u): maps of ℝ^D that change a draw along few numbers; their parameters are read from a context."""

    def __init__(self, dims: int, transforms: int) -> None:
        super().__init__()
        self.dims, self.transforms = dims, transforms

    @property
    @abstractmethod
    def numbers(self) -> int:
        """Parameters of one map."""

    @abstractmethod
    def bend(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """One map: f(z), and log |det ∂f/∂z|; z (…, B, D), parameters (B, numbers)."""

    @abstractmethod
    def unbend(self, z: Tensor, parameters: Tensor) -> Tensor:
        """f⁻¹(z)."""

    def forward(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        total = u.new_zeros(u.shape[:-1])
        for parameters in context.chunk(self.transforms, -1):
            u, log_det = self.bend(u, parameters)
            total = total + log_det
        return u, total

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        for parameters in reversed(context.chunk(self.transforms, -1)):
            z = self.unbend(z, parameters)
        return z


class Planes(Bends):
    """f(z) = z + û tanh(wᵀz + b), with û such that wᵀû > −1, so that f can be inverted. (Rezende & Mohamed, 2015, Eq. 10)"""

    @property
    def numbers(self) -> int:
        return 2 * self.dims + 1

    def _read(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, û (B, D), b and wᵀû (B, 1); û is 0 where the raw u is."""
        w, u, b = parameters.split((self.dims, self.dims, 1), -1)
        raw = (w * u).sum(-1, keepdim=True)
        allowed = F.softplus(raw + math.log(math.e - 1)) - 1
        u = u + (allowed - raw) * w / w.square().sum(-1, keepdim=True).clamp(min=1e-6)
        return w, u, b, (w * u).sum(-1, keepdim=True)

    def bend(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        w, u, b, along = self._read(parameters)
        t = torch.tanh((w * z).sum(-1, keepdim=True) + b)
        return z + u * t, torch.log1p((along * (1 - t * t)).clamp(min=-1 + 1e-6)).squeeze(-1)

    def unbend(self, z: Tensor, parameters: Tensor) -> Tensor:
        """a = wᵀ f⁻¹(z) solves a + wᵀû tanh(a + b) = wᵀz, whose left side rises; found by halving an interval."""
        w, u, b, along = self._read(parameters)
        target = (w * z).sum(-1, keepdim=True)
        low, high = target - along.abs() - 1e-6, target + along.abs() + 1e-6
        for _ in range(50):
            a = (low + high) / 2
            over = a + along * torch.tanh(a + b) > target
            low, high = torch.where(over, low, a), torch.where(over, a, high)
        return z - u * torch.tanh((low + high) / 2 + b)


class Spheres(Bends):
    """f(z) = z + β (z − c) / (α + |z − c|), β > −α, so that f can be inverted. (Rezende & Mohamed, 2015, Eq. 14)"""

    @property
    def numbers(self) -> int:
        return self.dims + 2

    def _read(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c (B, D), α and β (B, 1); β is 0 where its raw number is."""
        centre, raw_alpha, raw_beta = parameters.split((self.dims, 1, 1), -1)
        alpha = F.softplus(raw_alpha) + 0.1
        return centre, alpha, alpha * (F.softplus(raw_beta + math.log(math.e - 1)) - 1)

    def bend(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        centre, alpha, beta = self._read(parameters)
        offset = z - centre
        r = offset.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
        across, outwards = beta / (alpha + r), beta * alpha / (alpha + r).square()
        return z + across * offset, ((self.dims - 1) * torch.log1p(across) + torch.log1p(outwards)).squeeze(-1)

    def unbend(self, z: Tensor, parameters: Tensor) -> Tensor:
        """The distance r before solves r² + (α + β − ρ) r − α ρ = 0, with ρ the distance after."""
        centre, alpha, beta = self._read(parameters)
        offset = z - centre
        rho = offset.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
        half = (rho - alpha - beta) / 2
        r = half + (half.square() + alpha * rho).sqrt()
        return centre + offset / (1 + beta / (alpha + r))


class BentPosterior(Posterior):
    """z = f_T ∘ … ∘ f_1(u; c(x)), u ~ N(μ(x), diag σ²(x)); starts near the Gaussian posterior."""

    kind: type[Bends]

    def __init__(self, features: Shape, shape: Shape, transforms: int) -> None:
        super().__init__()
        self.base = GaussianPosterior(features, shape)
        self.flow = self.kind(math.prod(shape), transforms)
        self.context = to_latent(features, (transforms * self.flow.numbers,))
        self.space = Space(shape)

    def forward(self, h: Tensor) -> FlowedGaussian:
        base = self.base(h)
        flat = Gaussian(base.loc.flatten(1), base.log_var.flatten(1))
        return FlowedGaussian(flat, self.flow, self.context(h).float(), self.space.shape)


@posterior("planar")
class PlanarPosterior(BentPosterior):
    """A Gaussian bent along `transforms` planes, each of its own for every image; z = u + û tanh(wᵀu + b).

    Each bend moves draws in one direction only, so that many dimensions need many; `iaf` bends all at once.
    (Rezende & Mohamed, 2015, arXiv:1505.05770)
    """

    kind = Planes

    def __init__(self, features: Shape, shape: Shape, transforms: Annotated[int, between(1, 64)] = 8) -> None:
        super().__init__(features, shape, transforms)


@posterior("radial")
class RadialPosterior(BentPosterior):
    """A Gaussian drawn together or apart around `transforms` centres, each of its own for every image.

    (Rezende & Mohamed, 2015, arXiv:1505.05770)
    """

    kind = Spheres

    def __init__(self, features: Shape, shape: Shape, transforms: Annotated[int, between(1, 64)] = 8) -> None:
        super().__init__(features, shape, transforms)
