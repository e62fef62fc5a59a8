"""Gaussian, Laplace and Student t densities, and the family whose scale is always the best one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import LOG_2PI, Distribution, LocationScale, closed_kl, sum_event


@dataclass(frozen=True)
class Gaussian(LocationScale):
    """N(loc, exp(log_var)), independent over the event's `event_dims` last axes.

    >>> q = Gaussian(torch.zeros(2), torch.zeros(2))
    >>> q.log_prob(torch.zeros(2))  # −log 2π, nats, summed over both dimensions
    tensor(-1.8379)
    """

    loc: Tensor
    log_var: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        eps = torch.randn((*shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (0.5 * self.log_var).exp() * eps

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.loc.numel(), device=self.loc.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        return self.loc + temperature * (0.5 * self.log_var).exp() * u.reshape(-1, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        t = -0.5 * (LOG_2PI + self.log_var + (value - self.loc) ** 2 * (-self.log_var).exp())
        return sum_event(t, self.event_dims)

    @staticmethod
    def error(value: Tensor, loc: Tensor) -> Tensor:
        """The mean squared error, (), which a best scale is made of."""
        return ((value - loc) ** 2).mean()

    @staticmethod
    def best_log_scale(error: Tensor) -> Tensor:
        """log σ of the single σ that makes values likeliest: σ² is their mean squared error (Rybkin et al., 2021, Eq. 5)."""
        return 0.5 * error.clamp(min=1e-12).log()

    @staticmethod
    def of_scale(loc: Tensor, log_scale: Tensor, event_dims: int) -> Gaussian:
        return Gaussian(loc, 2 * log_scale.expand_as(loc), event_dims)


@dataclass(frozen=True)
class Laplace(LocationScale):
    """Laplace(loc, exp(log_scale)), independent over the event's `event_dims` last axes."""

    loc: Tensor
    log_scale: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        u = torch.rand((*shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device) - 0.5
        # 1 − 2|u| is 0 with probability 2⁻²⁴ in float32: its logarithm is kept finite.
        magnitude = -torch.log((1 - 2 * u.abs()).clamp(min=torch.finfo(u.dtype).tiny))
        return self.loc + self.log_scale.exp() * u.sign() * magnitude

    def log_prob(self, value: Tensor) -> Tensor:
        t = -(math.log(2) + self.log_scale + (value - self.loc).abs() * (-self.log_scale).exp())
        return sum_event(t, self.event_dims)

    @staticmethod
    def error(value: Tensor, loc: Tensor) -> Tensor:
        """The mean absolute error, (), which a best scale is made of."""
        return (value - loc).abs().mean()

    @staticmethod
    def best_log_scale(error: Tensor) -> Tensor:
        """log b of the single b that makes values likeliest: their mean absolute error."""
        return error.clamp(min=1e-6).log()

    @staticmethod
    def of_scale(loc: Tensor, log_scale: Tensor, event_dims: int) -> Laplace:
        return Laplace(loc, log_scale.expand_as(loc), event_dims)


@dataclass(frozen=True)
class Student(LocationScale):
    """Student's t with `df` degrees of freedom, shifted by loc and scaled by exp(log_scale), over `event_dims` last axes.

    p(x) = Γ((ν+1)/2) / (Γ(ν/2) √(νπ) s) · (1 + r²/ν)^{−(ν+1)/2} with r = (x − loc)/s. Its tails fall as |r|^{−ν−1}, so
    that one wrong pixel costs little. The scale that makes values likeliest has no closed form.
    """

    loc: Tensor
    log_scale: Tensor
    df: float
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        """The centre, which is the expectation for df above 1."""
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """√(ν (u^{−2/ν} − 1)) cos 2πv of two uniform numbers: Box and Muller's method for the t. (Bailey, 1994)"""
        u, v = torch.rand((2, *shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        radius = (self.df * torch.expm1(-2 / self.df * torch.log(1 - u))).sqrt()
        return self.loc + self.log_scale.exp() * radius * torch.cos(2 * math.pi * v)

    def log_prob(self, value: Tensor) -> Tensor:
        df = self.df
        log_peak = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
        r = (value - self.loc) * (-self.log_scale).exp()
        return sum_event(log_peak - self.log_scale - (df + 1) / 2 * torch.log1p(r * r / df), self.event_dims)

    @staticmethod
    def of_scale(loc: Tensor, log_scale: Tensor, event_dims: int, df: float) -> Student:
        return Student(loc, log_scale.expand_as(loc), df, event_dims)


@dataclass(frozen=True)
class BestScale(Distribution):
    """A location family whose one scale is the best for the batch that it is asked about.

    `log_prob` maximises over the scale in closed form, so that the likelihood is calibrated at every step of training;
    `sample` uses `log_scale`, the number that the model carries. (Rybkin et al., 2021, arXiv:2006.13202)

    Where the values are a piece of a batch, the scale is that of the whole: from its `error`, or from the pieces' mean that
    `average` takes. It is then a constant: at the best scale the whole batch's −log p has no slope in it.
    """

    family: type[Gaussian] | type[Laplace]
    loc: Tensor
    log_scale: Tensor
    event_dims: int = 3
    error: Tensor | None = None
    average: Callable[[Tensor], Tensor] | None = None

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.family.of_scale(self.loc, self.log_scale, self.event_dims).sample(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        error = self.family.error(value, self.loc) if self.error is None else self.error
        best = self.family.best_log_scale(self.average(error.detach()) if self.average is not None else error)
        return self.family.of_scale(self.loc, best, self.event_dims).log_prob(value)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of each latent dimension in closed form, nats, (B, *d). (Kingma & Welling, 2014, Appendix B)"""
    ratio = (q.log_var - p.log_var).exp()
    return 0.5 * (p.log_var - q.log_var + ratio + (q.loc - p.loc) ** 2 * (-p.log_var).exp() - 1)


@closed_kl(Gaussian, Gaussian)
def _gaussian_gaussian(q: Gaussian, p: Gaussian) -> Tensor:
    return sum_event(gaussian_kl(q, p), q.event_dims)
