"""A posterior that learns from pairs of images which share some of what they were made from, without knowing what."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...distributions.gaussian import Gaussian, gaussian_kl
from ...parts.registry import posterior
from ...tensors import Shape
from .base import Posterior
from .gaussian import GaussianPosterior


def shared(q: Gaussian) -> Gaussian:
    """The posteriors of a batch of partners, rows 2i and 2i + 1, made one where those of a pair differ little.

    A latent is shared where KL(q(z_d | x_2i) ‖ q(z_d | x_2i+1)) lies below half the sum of the pair's least and largest;
    there μ and σ² are the means of both. The last of an odd number has no partner. (Locatello et al., 2020,
    arXiv:2002.02886, section 4.1, with the averages of Hosoya, 2019, arXiv:1809.02383)
    """
    n = len(q.loc) // 2 * 2
    loc, log_var = (t[:n].unflatten(0, (-1, 2)) for t in (q.loc, q.log_var))
    with torch.no_grad():
        apart = gaussian_kl(*(Gaussian(loc[:, i], log_var[:, i], q.event_dims) for i in (0, 1))).flatten(1)
        common = apart < 0.5 * (apart.amin(1, keepdim=True) + apart.amax(1, keepdim=True))
        common = common.view_as(loc[:, 0]).unsqueeze(1)

    def joined(each: Tensor, mean: Tensor, alone: Tensor) -> Tensor:
        return torch.cat([torch.where(common, mean, each).flatten(0, 1), alone])

    mean_var = log_var.logsumexp(1, keepdim=True) - math.log(2)
    return Gaussian(joined(loc, loc.mean(1, keepdim=True), q.loc[n:]), joined(log_var, mean_var, q.log_var[n:]),
                    q.event_dims)


@posterior("adaptive")
class AdaptivePosterior(Posterior):
    """A Gaussian that learns from pairs of images, of which it is known only that they share some factors: Ada-GVAE.

    Latents in which the posteriors of two partners differ little are made the same for both, by their mean, so that what
    changes between partners has to come apart from what does not. Partners are rows 2i and 2i + 1 of a batch in training, as
    a stream with `partners` gives them; after it, and for single images, it is the Gaussian of each image alone. (Locatello
    et al., 2020, arXiv:2002.02886)
    """

    in_pairs = True

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.base = GaussianPosterior(features, shape)
        self.space = self.base.space

    def forward(self, h: Tensor) -> Gaussian:
        q = self.base(h)
        return shared(q) if self.training else q
