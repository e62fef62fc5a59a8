"""What every posterior is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...distributions.base import Distribution, Reparameterized
from ...parts import registry
from ..space import Space


class Posterior(nn.Module, ABC):
    """q(z | x): a module from an encoder's features to a distribution over latents."""

    space: Space
    """Where its draws lie."""

    @abstractmethod
    def forward(self, h: Tensor) -> Reparameterized:
        """The posterior of each example with features h (B, *features)."""

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """What the decoder reads of draws z (K, B, *d), of `q` when they are inferred: here, the draws themselves."""
        return z


POSTERIORS = registry.posterior.of(Posterior)
