"""What every posterior is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ...distributions.base import Distribution, Reparameterized
from ...parts import registry
from ..space import Space

LogJoint = Callable[[Tensor], Tensor]
"""log p(x, z) of a batch of images, (K, B), nats, of draws z (K, B, *d)."""


class Posterior(nn.Module, ABC):
    """q(z | x): a module from an encoder's features to a distribution over latents."""

    space: Space
    """Where its draws lie."""
    asks: ClassVar[bool] = False
    """Whether it asks for log p(x, z), so that `guided` gives another posterior than the features alone."""

    in_pairs: ClassVar[bool] = False
    """Whether it takes rows 2i and 2i + 1 of a batch in training for partners, images known to share something."""

    @abstractmethod
    def forward(self, h: Tensor) -> Reparameterized:
        """The posterior of each example with features h (B, *features)."""

    def guided(self, h: Tensor, log_joint: LogJoint) -> Reparameterized:
        """The posterior of images whose log p(x, z) can be asked for too; here, as if it could not."""
        return self(h)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """What the decoder reads of draws z (K, B, *d), of `q` when they are inferred: here, the draws themselves."""
        return z


POSTERIORS = registry.posterior.of(Posterior)
