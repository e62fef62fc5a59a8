"""The posterior without randomness."""

from __future__ import annotations

from torch import Tensor

from ...distributions.point import Point
from ...nets.layers import to_latent
from ...parts.registry import posterior
from ...tensors import Shape
from ..space import Space
from .base import Posterior


@posterior("deterministic")
class DeterministicPosterior(Posterior):
    """A point: the model is an autoencoder whose codes the prior regularises.

    The term `kl` is −log p(z), for the prior normal ½|z|² and a constant: the RAE-L2, whose decoder takes weight decay and
    whose codes get a prior fitted after training (Ghosh et al., 2020, arXiv:1903.12436). It is no bound on log p(x).
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.loc = to_latent(features, shape)
        self.space = Space(shape)

    def forward(self, h: Tensor) -> Point:
        return Point(self.loc(h).float(), len(self.space.shape))
