"""Likelihoods p(x | z): modules from the decoder's output to a distribution over images in [0, 1].

`channels` is how many numbers a pixel needs from the decoder. `discrete` says whether log p(x) is the probability of
an image (then bits per dimension are true bits) or a density on [0, 1], which depends on the scale of the pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributions.base import Distribution
from ..distributions.gaussian import BestScale, Gaussian, Laplace, Student
from ..distributions.pixels import Bernoulli, BetaBinomial, Categorical, ContinuousBernoulli, LogisticMixture
from ..distributions.point import Implicit
from ..parts import registry
from ..parts.ranges import above, at_least, between, one_of
from ..parts.registry import likelihood
from ..tensors import Shape, bounded


class Likelihood(nn.Module, ABC):
    """What a model needs to know of its likelihood."""

    discrete: bool
    channels: int
    has_density: bool = True
    """Whether it gives images a density or a probability; without one nothing but a critic can judge them."""
    ends: bool = False
    """Whether it is a density that ends at 0 and 1, beyond which images have no meaning; as they have none to levels."""

    @abstractmethod
    def forward(self, params: Tensor) -> Distribution:
        """p(x | z) of what the decoder gives, (…, channels, H, W)."""

    def calibrate(self, mean: Tensor, x: Tensor) -> None:
        """Sets what the likelihood estimates in closed form, from reconstructions (n, C, H, W) of images `x`."""


LIKELIHOODS = registry.likelihood.of(Likelihood)


@likelihood("implicit")
class ImplicitLikelihood(Likelihood):
    """Images as they come, without a density, so nothing but a critic can judge them: for GANs.

    The decoder's range is [−1, 1]. `squash` keeps it there by a tanh, as early GANs do; without it pixels that overshoot are
    seen by the critic and come back, where a tanh that is saturated passes no gradient on.
    """

    discrete = False
    has_density = False

    def __init__(self, image_shape: Shape, squash: bool = False) -> None:
        super().__init__()
        self.channels, self.squash = image_shape[0], squash

    def forward(self, params: Tensor) -> Implicit:
        raw = params.float()
        return Implicit(0.5 + 0.5 * (torch.tanh(raw) if self.squash else raw))


@likelihood("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Independent black or white pixels; for binary images, or grey ones read as probabilities (`binarize`).

    Grey images as they are it scores by a cross-entropy, which is no density of them: `continuous_bernoulli` has one.
    (Loaiza-Ganem & Cunningham, 2019, arXiv:1907.06845)
    """

    discrete = True

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.channels = image_shape[0]

    def forward(self, params: Tensor) -> Bernoulli:
        return Bernoulli(params.float())


@likelihood("continuous_bernoulli")
class ContinuousBernoulliLikelihood(Likelihood):
    """Grey pixels in [0, 1], with the density that `bernoulli` lacks there (Loaiza-Ganem & Cunningham, 2019).

    A density, not a probability of levels; images must lie within [0, 1].
    """

    discrete = False
    ends = True

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.channels = image_shape[0]

    def forward(self, params: Tensor) -> ContinuousBernoulli:
        return ContinuousBernoulli(params.float())


@likelihood("categorical")
class CategoricalLikelihood(Likelihood):
    """A free probability for each of 256 levels: true bits/dim of 8-bit images (van den Oord et al., 2016).

    The decoder gives 256 numbers for every value of the image, which takes as many times the memory of its output, and
    of the last layer of an `mlp`. It starts near 8 bits/dim, all levels alike.
    """

    discrete = True

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.channels = 256 * image_shape[0]

    def forward(self, params: Tensor) -> Categorical:
        return Categorical(params.float().unflatten(-3, (256, -1)))


@likelihood("beta_binomial")
class BetaBinomialLikelihood(Likelihood):
    """A mean and a concentration for each pixel of 256 levels: true bits/dim in two numbers (Townsend et al., 2019).

    It starts near 8 bits/dim, all levels alike. Not for images that are nearly noiseless: no grey of it is narrower
    than a binomial, 8 levels at the middle of the range.
    """

    discrete = True

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.channels = 2 * image_shape[0]

    def forward(self, params: Tensor) -> BetaBinomial:
        logits, log_concentration = params.float().chunk(2, -3)
        # At a logit of −15 any level but 0 has a probability below 255 σ(−15) < 10⁻⁴: beyond it nothing is to be gained.
        # Concentrations lie within e^±7 of 2, from two spikes to nearly the binomial.
        return BetaBinomial(bounded(logits, 15.0), bounded(log_concentration, 7.0) + math.log(2))


Scale = Annotated[float, above(0)]
ScaleRule = Annotated[str, one_of("learned", "per_pixel", "optimal")]
NO_BEST = "The best scale of a Student's t has no closed form, so there is no 'optimal'"


class LocationScaleLikelihood(Likelihood):
    """A mean for each pixel, and a scale: a number, learned by gradient, the best one in closed form, or one per pixel.

    'optimal' uses each batch's own best scale while training; `calibrate` then fixes the number that the model carries.
    'per_pixel' takes a log scale for each pixel from the decoder, with a floor where the density peaks at 255: pixels
    are 1/255 apart, and no level can hold more than all probability. Without a floor, pixels that never vary drive the
    density to infinity (Mattei & Frellsen, 2018, arXiv:1802.04826). It starts as 'learned' does, at 0.3.
    """

    discrete = False
    log_scale: Tensor
    error: Tensor | None = None
    """Of the whole batch, where what comes is a piece of it; the training loop measures it."""
    average: Callable[[Tensor], Tensor] | None = None
    """The mean of such errors over processes, where there are several."""

    def __init__(self, image_shape: Shape, density: Callable[[Tensor, Tensor, int], Distribution], scale: float | str,
                 best: type[Gaussian] | type[Laplace] | None = None) -> None:
        super().__init__()
        self.channels = image_shape[0] * (2 if scale == "per_pixel" else 1)
        self.density, self.scale, self.best = density, scale, best
        log_start = math.log(scale if isinstance(scale, int | float) else 0.3)
        start, zero = torch.tensor(log_start), torch.zeros(1, device="cpu")
        self.reach = log_start - (density(zero, zero, 1).log_prob(zero).item() - math.log(255))
        if scale == "learned":
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def forward(self, params: Tensor) -> Distribution:
        if self.scale == "per_pixel":
            mean, raw = params.float().chunk(2, -3)
            return self.density(mean, self.log_scale + bounded(raw, self.reach), 3)
        if self.scale == "optimal" and self.training and self.best is not None:
            return BestScale(self.best, params.float(), self.log_scale, error=self.error, average=self.average)
        return self.density(params.float(), self.log_scale, 3)

    @property
    def finds_scale(self) -> bool:
        """Whether it takes the best scale of each batch in training."""
        return self.scale == "optimal" and self.best is not None

    def calibrate(self, mean: Tensor, x: Tensor) -> None:
        if self.best is not None and self.finds_scale:
            self.log_scale.copy_(self.best.best_log_scale(self.best.error(x, mean)))


@likelihood("gaussian")
class GaussianLikelihood(LocationScaleLikelihood):
    """N(x; mean, σ²) with σ in units of the pixel range; 'optimal' is the σ-VAE (Rybkin et al., 2021, arXiv:2006.13202).

    σ is a number, 'optimal', 'learned', or 'per_pixel': from the decoder, and then at least 0.4/255.
    """

    def __init__(self, image_shape: Shape, sigma: Scale | ScaleRule = "optimal") -> None:
        super().__init__(image_shape, Gaussian.of_scale, sigma, Gaussian)


@likelihood("laplace")
class LaplaceLikelihood(LocationScaleLikelihood):
    """Laplace(x; mean, b): absolute error, calibrated; less drawn to outliers than the Gaussian.

    b is a number, 'optimal', 'learned', or 'per_pixel': from the decoder, and then at least 0.5/255.
    """

    def __init__(self, image_shape: Shape, scale: Scale | ScaleRule = "optimal") -> None:
        super().__init__(image_shape, Laplace.of_scale, scale, Laplace)


@likelihood("student")
class StudentLikelihood(LocationScaleLikelihood):
    """Student's t around each pixel's mean: few badly wrong pixels cost little (Takahashi et al., 2018, IJCAI).

    `df` goes from 1, the Cauchy density, to 10⁶, all but a Gaussian. The scale is a number, 'learned', or 'per_pixel':
    from the decoder, and then with a floor near 0.4/255. The best scale has no closed form, so there is no 'optimal'.
    """

    def __init__(self, image_shape: Shape, df: Annotated[float, between(1, 1e6)] = 4.0,
                 scale: Scale | Annotated[str, one_of("learned", "per_pixel", advice=NO_BEST)] = "learned") -> None:
        super().__init__(image_shape, partial(Student.of_scale, df=float(df)), scale)


@likelihood("logistic")
class LogisticLikelihood(Likelihood):
    """Mixture of discretised logistics over 256 levels: true bits/dim of 8-bit images (Salimans et al., 2017)."""

    discrete = True

    def __init__(self, image_shape: Shape, mixtures: Annotated[int, at_least(1)] = 5) -> None:
        super().__init__()
        c = image_shape[0]
        self.colors, self.mixtures = c, mixtures
        self.channels = mixtures * (1 + 2 * c + c * (c - 1) // 2)

    def forward(self, params: Tensor) -> LogisticMixture:
        c = self.colors
        p = params.float().unflatten(-3, (self.mixtures, -1))
        logits, means, scales, links = p.split([1, c, c, c * (c - 1) // 2], -3)
        chain = p.new_zeros(*means.shape[:-2], c, *means.shape[-2:])
        if c > 1:
            rows, columns = zip(*((i, j) for i in range(c) for j in range(i)), strict=True)
            chain[..., list(rows), list(columns), :, :] = torch.tanh(links)
        # log scales start near −2.5 (a tenth of the range) and stay within ±7 of it
        return LogisticMixture(F.log_softmax(logits, -4), means, bounded(scales, 7.0) - 2.5, chain)
