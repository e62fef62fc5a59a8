"""The posterior over hyperbolic space."""

from __future__ import annotations

from torch import Tensor

from ...distributions.hyperbolic import WrappedNormal
from ...nets.layers import to_latent
from ...parts.registry import posterior
from ...tensors import Shape, bounded
from ..space import Space
from .base import Posterior


@posterior("hyperbolic")
class HyperbolicPosterior(Posterior):
    """A wrapped normal in hyperbolic space of curvature −1, for data that branch like a tree: what is general lies near the
    origin, what is special far out, where there is exponentially more room.

    Latents are normal coordinates: the direction of a point from the origin, times its distance. They are real numbers, so
    every prior over these goes with it; `normal` is the wrapped normal at the origin. The decoder reads these coordinates.
    A spatial latent has one point, over the channels, at each position.
    (Nagano et al., 2019, arXiv:1902.02992; Mathieu et al., 2019, arXiv:1901.06033)
    """

    farthest, bound = 10.0, 10.0
    """Distance of a centre from the origin, and |log σ²|, at most."""

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.loc, self.log_var = to_latent(features, shape), to_latent(features, shape)
        self.space = Space(shape)

    def forward(self, h: Tensor) -> WrappedNormal:
        loc = self.loc(h).float()
        length = loc.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt()
        loc = loc * (bounded(length, self.farthest) / length)
        return WrappedNormal(loc, bounded(self.log_var(h).float(), self.bound), len(self.space.shape))
