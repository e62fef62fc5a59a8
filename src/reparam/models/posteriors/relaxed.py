"""Posteriors over relaxed bits and classes."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from ...distributions.base import Distribution
from ...distributions.relaxed import RelaxedBernoulli, RelaxedCategorical
from ...errors import UsageError
from ...nets.layers import to_latent
from ...parts.ranges import above, at_least
from ...parts.registry import posterior
from ...tensors import Shape, bounded
from ..space import Space
from .base import Posterior

BOUND = 10.0
"""Logits are bounded smoothly to ±10."""
Temperature = Annotated[float, above(0)]


@posterior("relaxed_bernoulli")
class RelaxedBernoulliPosterior(Posterior):
    """Each latent dimension is a bit relaxed to (0, 1), the closer to 0 and 1 the lower the temperature.

    Draws z are log-odds, of which the decoder reads σ(z); an image's code is the probabilities of its bits. Goes with the
    prior `relaxed`. (Maddison et al., 2017, arXiv:1611.00712; Jang et al., 2017, arXiv:1611.01144)
    """

    def __init__(self, features: Shape, shape: Shape, temperature: Temperature = 0.67) -> None:
        super().__init__()
        self.logits = to_latent(features, shape)
        self.temperature = temperature
        self.space = Space(shape, "relaxed")

    def forward(self, h: Tensor) -> RelaxedBernoulli:
        return RelaxedBernoulli(bounded(self.logits(h).float(), BOUND), self.temperature, len(self.space.shape))

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        return z.sigmoid()


@posterior("relaxed_categorical")
class RelaxedCategoricalPosterior(Posterior):
    """The latent is cut into groups of `classes` numbers, each a relaxed choice of one class: positive, with sum 1.

    A spatial latent is cut along its channels. Draws z are log-probabilities, of which the decoder reads e^z; an image's
    code is the probabilities of its classes. Goes with the prior `relaxed`. (Maddison et al., 2017, arXiv:1611.00712;
    Jang et al., 2017, arXiv:1611.01144)
    """

    def __init__(self, features: Shape, shape: Shape, classes: Annotated[int, at_least(2)],
                 temperature: Temperature = 0.67) -> None:
        super().__init__()
        if shape[0] % classes:
            raise UsageError(f"relaxed_categorical({classes}): give a number of classes of which the latent's "
                             f"{'dimensions' if len(shape) == 1 else 'channels'}, here {shape[0]}, are a multiple")
        self.logits = to_latent(features, shape)
        self.classes, self.temperature = classes, temperature
        self.space = Space(shape, "relaxed", classes)

    def forward(self, h: Tensor) -> RelaxedCategorical:
        logits = bounded(self.logits(h).float(), BOUND)
        return RelaxedCategorical(logits, self.temperature, self.classes, len(self.space.shape))

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        return z.exp()
