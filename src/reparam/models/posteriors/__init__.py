"""Posteriors q(z | x): modules from the encoder's features to a distribution over latents."""

from .base import POSTERIORS, Posterior
from .gaussian import FullPosterior, GaussianPosterior
from .point import DeterministicPosterior
from .quantized import FSQ, LFQ, RVQ, VQ
from .relaxed import RelaxedBernoulliPosterior, RelaxedCategoricalPosterior
from .sphere import VonMisesFisherPosterior

__all__ = ["DeterministicPosterior", "FSQ", "FullPosterior", "GaussianPosterior", "LFQ", "POSTERIORS", "Posterior", "RVQ",
           "RelaxedBernoulliPosterior", "RelaxedCategoricalPosterior", "VQ", "VonMisesFisherPosterior"]
