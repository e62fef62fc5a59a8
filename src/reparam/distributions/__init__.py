"""The distributions that models are made of: small frozen dataclasses with torch.distributions' method names."""

from __future__ import annotations

from .base import (
    LOG_2PI,
    Distribution,
    FromNoise,
    LocationScale,
    Reparameterized,
    closed_kl,
    kl,
    stopped,
    sum_event,
    uniform,
)
from .gaussian import BestScale, Gaussian, Laplace, Student, gaussian_kl
from .multivariate import FullGaussian
from .pixels import Bernoulli, BetaBinomial, Categorical, ContinuousBernoulli, LogisticMixture
from .point import Implicit, Point
from .quantized import Quantized
from .relaxed import RelaxedBernoulli, RelaxedCategorical
from .sphere import UniformSphere, VonMisesFisher

__all__ = ["LOG_2PI", "Bernoulli", "BestScale", "BetaBinomial", "Categorical", "ContinuousBernoulli", "Distribution",
           "FromNoise", "FullGaussian", "Gaussian", "Implicit", "Laplace", "LocationScale", "LogisticMixture", "Point",
           "Quantized", "RelaxedBernoulli", "RelaxedCategorical", "Reparameterized", "Student", "UniformSphere",
           "VonMisesFisher", "closed_kl", "gaussian_kl", "kl", "stopped", "sum_event", "uniform"]
