"""Likelihoods p(x | z): modules from the decoder's output to a distribution over images in [0, 1].

`channels` is how many numbers a pixel needs from the decoder. `discrete` says whether log p(x) is the probability of
an image (then bits per dimension are true bits) or a density on [0, 1], which depends on the scale of the pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .distributions import Bernoulli, BestScale, Distribution, Gaussian, Laplace, LogisticMixture
from .errors import UsageError
from .nets.layers import Shape, bounded
from .registry import likelihood


class Likelihood(nn.Module):
    """What a model needs to know of its likelihood."""

    discrete: bool
    channels: int

    def calibrate(self, mean: Tensor, x: Tensor) -> None:
        """Sets what the likelihood estimates in closed form, from reconstructions (n, C, H, W) of images `x`."""


@likelihood("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Independent black or white pixels; for binary images, or grey ones read as probabilities (`binarize`)."""

    discrete = True

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.channels = image_shape[0]

    def forward(self, params: Tensor) -> Bernoulli:
        return Bernoulli(params.float())


class _LocationScale(Likelihood):
    """A mean for each pixel and one scale for all: a number, learned by gradient, or the best one in closed form.

    'optimal' uses each batch's own best scale while training; `calibrate` then fixes the number that the model carries.
    """

    discrete = False
    log_scale: Tensor

    def __init__(self, image_shape: Shape, family: type[Gaussian] | type[Laplace], scale: float | str) -> None:
        super().__init__()
        if not (scale in ("learned", "optimal") or (isinstance(scale, int | float) and scale > 0)):
            raise UsageError(f"the scale of a likelihood is a number above 0, 'learned' or 'optimal'; got {scale!r}")
        self.channels, self.family, self.scale = image_shape[0], family, scale
        start = torch.tensor(math.log(scale if isinstance(scale, int | float) else 0.3))
        if scale == "learned":
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def forward(self, params: Tensor) -> Distribution:
        if self.scale == "optimal" and self.training:
            return BestScale(self.family, params.float(), self.log_scale)
        return self.family.of_scale(params.float(), self.log_scale, 3)

    def calibrate(self, mean: Tensor, x: Tensor) -> None:
        if self.scale == "optimal":
            self.log_scale.copy_(self.family.best_log_scale(x, mean))


@likelihood("gaussian")
class GaussianLikelihood(_LocationScale):
    """N(x; mean, σ²) with σ in units of the pixel range; 'optimal' is the σ-VAE (Rybkin et al., 2021, arXiv:2006.13202)."""

    def __init__(self, image_shape: Shape, sigma: float | str = "optimal") -> None:
        super().__init__(image_shape, Gaussian, sigma)


@likelihood("laplace")
class LaplaceLikelihood(_LocationScale):
    """Laplace(x; mean, b): absolute error, calibrated; less drawn to outliers than the Gaussian."""

    def __init__(self, image_shape: Shape, scale: float | str = "optimal") -> None:
        super().__init__(image_shape, Laplace, scale)


@likelihood("logistic")
class LogisticLikelihood(Likelihood):
    """Mixture of discretised logistics over 256 levels: true bits/dim of 8-bit images (Salimans et al., 2017)."""

    discrete = True

    def __init__(self, image_shape: Shape, mixtures: int = 5) -> None:
        super().__init__()
        if mixtures < 1:
            raise UsageError(f"logistic({mixtures}): give at least one component")
        c = image_shape[0]
        self.colours, self.mixtures = c, mixtures
        self.channels = mixtures * (1 + 2 * c + c * (c - 1) // 2)

    def forward(self, params: Tensor) -> LogisticMixture:
        c = self.colours
        p = params.float().unflatten(-3, (self.mixtures, -1))
        logits, means, scales, links = p.split([1, c, c, c * (c - 1) // 2], -3)
        chain = p.new_zeros(*means.shape[:-2], c, *means.shape[-2:])
        if c > 1:
            rows, columns = zip(*((i, j) for i in range(c) for j in range(i)), strict=True)
            chain[..., list(rows), list(columns), :, :] = torch.tanh(links)
        # log scales start near −2.5 (a tenth of the range) and stay within ±7 of it
        return LogisticMixture(F.log_softmax(logits, -4), means, bounded(scales, 7.0) - 2.5, chain)
