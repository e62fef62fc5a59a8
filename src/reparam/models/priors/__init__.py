"""Priors p(z): modules whose `forward()` is a distribution over the latents of a space."""

from .base import PRIORS, Prior, Standardize
from .coupling_flow import Coupling, Flow, FlowDistribution
from .discrete import Autoregressive, Uniform
from .flow_matching import FlowMatching
from .mixture import GaussianMixture, Mixture
from .normal import Normal
from .relaxed import Relaxed
from .sphere import Sphere

__all__ = ["Autoregressive", "Coupling", "Flow", "FlowDistribution", "FlowMatching", "GaussianMixture",
           "Mixture", "Normal", "PRIORS", "Prior", "Relaxed", "Sphere", "Uniform", "Standardize"]
