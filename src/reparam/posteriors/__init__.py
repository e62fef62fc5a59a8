"""Posteriors q(z | x): modules from the encoder's features to a distribution over latents."""

from .base import Posterior
from .gaussian import GaussianPosterior

__all__ = ["GaussianPosterior", "Posterior"]
