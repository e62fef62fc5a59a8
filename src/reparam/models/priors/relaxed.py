"""The prior over relaxed bits and classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from ...distributions.relaxed import RelaxedBernoulli, RelaxedCategorical
from ...parts.ranges import above
from ...parts.registry import prior
from ..space import Space
from .base import Prior


@prior("relaxed")
class Relaxed(Prior):
    """Relaxed bits or classes that are all equally likely, as the posterior has them.

    Its temperature need not be the posterior's; a half is what Maddison et al. (2017, arXiv:1611.00712, appendix C.4)
    use for bits.
    """

    covers: ClassVar[tuple[str, ...]] = ("relaxed",)
    zero: Tensor

    def __init__(self, space: Space, temperature: Annotated[float, above(0)] = 0.5) -> None:
        super().__init__(space)
        self.temperature, self.classes = temperature, space.levels
        self.register_buffer("zero", torch.zeros(self.shape))

    def forward(self) -> RelaxedBernoulli | RelaxedCategorical:
        if self.classes:
            return RelaxedCategorical(self.zero, self.temperature, self.classes, self.zero.dim())
        return RelaxedBernoulli(self.zero, self.temperature, self.zero.dim())
