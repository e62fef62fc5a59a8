"""The standard normal prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ...distributions.gaussian import Gaussian
from ...parts.registry import prior
from ..space import Space
from .base import Prior


@prior("normal")
class Normal(Prior):
    """N(0, I)."""

    zero: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.register_buffer("zero", torch.zeros(self.shape))

    def forward(self) -> Gaussian:
        return Gaussian(self.zero, self.zero, self.zero.dim())
