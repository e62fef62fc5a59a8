"""The prior over directions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...distributions.sphere import UniformSphere
from ...parts.registry import prior
from ..space import Space
from .base import Prior


@prior("sphere")
class Sphere(Prior):
    """Uniform on the unit sphere, for a spatial latent on one over the channels at each position.

    A lower temperature changes nothing in its draws: no direction is likelier than another.
    (Davidson et al., 2018, arXiv:1804.00891)
    """

    covers: ClassVar[tuple[str, ...]] = ("sphere",)
    zero: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.register_buffer("zero", torch.zeros(self.shape))

    def forward(self) -> UniformSphere:
        return UniformSphere(self.zero)
