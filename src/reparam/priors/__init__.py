"""Priors p(z): modules whose `forward()` is a distribution over the latents of a space."""

from .base import Draw, Prior, Whitening
from .basic import Coupling, Flow, FlowDistribution, GaussianMixture, Mixture, Normal
from .codes import Autoregressive, Uniform
from .matching import FlowMatching
from .relaxed import Relaxed
from .sphere import Sphere

__all__ = ["Autoregressive", "Coupling", "Draw", "Flow", "FlowDistribution", "FlowMatching", "GaussianMixture", "Mixture",
           "Normal", "Prior", "Relaxed", "Sphere", "Uniform", "Whitening"]
