"""What every prior is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from ..distributions import Distribution
from ..nets.layers import Shape
from ..space import Space


class Prior(nn.Module):
    """p(z): a module whose `forward()` is a distribution over the latents of a space."""

    covers: ClassVar[tuple[str, ...]] = ("real",)
    """The kinds of space that it is a density on."""

    shape: Shape
    """Of one draw."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.shape = space.shape

    @abstractmethod
    def forward(self) -> Distribution: ...
