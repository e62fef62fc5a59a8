"""Posteriors q(z | x): modules from the encoder's features to a distribution over latents."""

from .base import Posterior
from .gaussian import FullPosterior, GaussianPosterior
from .point import DeterministicPosterior
from .relaxed import RelaxedBernoulliPosterior, RelaxedCategoricalPosterior
from .sphere import VonMisesFisherPosterior

__all__ = ["DeterministicPosterior", "FullPosterior", "GaussianPosterior", "Posterior", "RelaxedBernoulliPosterior",
           "RelaxedCategoricalPosterior", "VonMisesFisherPosterior"]
