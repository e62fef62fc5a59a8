"""The posterior over directions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...distributions.sphere import VonMisesFisher
from ...errors import UsageError
from ...nets.layers import to_latent
from ...parts.registry import posterior
from ...tensors import Shape, bounded
from ..space import Space
from .base import Posterior


@posterior("vmf")
class VonMisesFisherPosterior(Posterior):
    """Von Mises–Fisher on the unit sphere in D dimensions; for a spatial latent, over the channels at each position.

    Goes with the prior `sphere`, to which the KL depends on κ(x) alone and cannot pull the directions μ(x) together.
    κ = (D − 1)(softplus(·) + 0.01), so that in any D a fresh network's draws are neither noise nor points. The decoder
    reads unit vectors; an image's code is μ(x). (Davidson et al., 2018, arXiv:1804.00891)
    """

    floor, bound = 0.01, 1000.0

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        if shape[0] < 2:
            raise UsageError("vmf: a sphere needs at least 2 dimensions, and the latent has 1; give flat(2) or more, or "
                             "spatial() at least 2 channels")
        self.loc = to_latent(features, shape)
        self.concentration = to_latent(features, (1, *shape[1:]))
        self.space = Space(shape, "sphere")

    def forward(self, h: Tensor) -> VonMisesFisher:
        raw = bounded(self.concentration(h).float().squeeze(1), self.bound)
        kappa = (self.space.shape[0] - 1) * (F.softplus(raw) + self.floor)
        return VonMisesFisher(F.normalize(self.loc(h).float(), dim=1), kappa, len(self.space.shape))
