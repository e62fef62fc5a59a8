"""The distributions that models are made of: small frozen dataclasses with torch.distributions' method names."""

from .base import LOG_2PI, Distribution, Reparameterized, closed_kl, kl, sum_event
from .gaussian import BestScale, Gaussian, Laplace, gaussian_kl
from .pixels import Bernoulli, LogisticMixture

__all__ = ["LOG_2PI", "Bernoulli", "BestScale", "Distribution", "Gaussian", "Laplace", "LogisticMixture",
           "Reparameterized", "closed_kl", "gaussian_kl", "kl", "sum_event"]
