"""Priors by autoregressive and spline flows, for codes whose law a few affine couplings (`flow`) do not reach."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...nets.autoregressive import Autoregressive
from ...parts.ranges import at_least, between
from ...parts.registry import prior
from ..space import Space
from .base import Prior, Standardize
from .coupling_flow import Flow


@prior("autoregressive_flow")
class AutoregressiveFlow(Flow):
    """A masked autoregressive flow in float32: the density takes one pass, a draw one pass for each latent dimension.

    Each dimension of the code is shifted and scaled by those before it, in `transforms` rounds of opposite order; dimensions
    beyond `hidden` go in blocks. It fits tighter than `flow`, and samples more slowly. Starts at N(0, I).
    (Papamakarios et al., 2017, arXiv:1705.07057)
    """

    def __init__(self, space: Space, transforms: Annotated[int, between(1, 64)] = 3,
                 hidden: Annotated[int, at_least(1)] = 128) -> None:
        Prior.__init__(self, space)
        self.whitening = Standardize(self.shape)
        self.couplings = nn.ModuleList(Autoregressive(math.prod(self.shape), hidden, interleaved=i // 2 % 2 == 1)
                                       for i in range(transforms))


@prior("spline_flow")
class SplineFlow(Flow):
    """A neural spline flow in float32: couplings by rational-quadratic splines, as quick to draw as to judge.

    Half of the dimensions move by splines of their own, and the other half by splines that the first determines. Splines
    bend [−5, 5] and nothing beyond, so a learned shift and scale of each dimension stands before them and brings the codes
    there. For up to about a thousand dimensions. Starts at N(0, I). (Durkan et al., 2019, arXiv:1906.04032)
    """

    def __init__(self, space: Space, transforms: Annotated[int, between(1, 64)] = 3,
                 bins: Annotated[int, between(2, 64)] = 8, hidden: Annotated[int, at_least(2)] = 128) -> None:
        Prior.__init__(self, space)
        dim = math.prod(self.shape)
        splines = (Autoregressive(dim, hidden, bins=bins, passes=2, interleaved=i // 2 % 2 == 1) for i in range(transforms))
        self.whitening = Standardize(self.shape)
        self.couplings = nn.ModuleList([ActNorm(dim), *splines])


class ActNorm(nn.Module):
    """u = (z − loc) / scale in each dimension, learned; starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, z: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
        """Code to noise, and log |det ∂u/∂z|."""
        return (z - self.loc) * (-self.log_scale).exp(), -self.log_scale.sum().expand(z.shape[:-1])

    def inverse(self, u: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Noise to code."""
        return self.loc + u * self.log_scale.exp()
