"""Distributions of pixels in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Gamma

from .base import LOG_2PI, Distribution, sum_event


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """Independent pixels in {0, 1} with the given log-odds; grey values in between score as the cross-entropy."""

    logits: Tensor
    event_dims: int = 3

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(*shape, *self.logits.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        # log p = x·l − softplus(l), one fused pass
        t = F.binary_cross_entropy_with_logits(*torch.broadcast_tensors(self.logits, value), reduction="none")
        return -sum_event(t, self.event_dims)


@dataclass(frozen=True)
class LogisticMixture(Distribution):
    """Mixture of M discretised logistics over the 256 levels of each pixel; the channels of a pixel form a chain.

    Level v ∈ {0 … 255} stands at 2v/255 − 1 and takes the mass of its bin of width 2/255; the outermost bins reach to
    ±∞, so the 256 probabilities sum to 1. Component means of channel c shift linearly with the true values of channels
    before it. (Salimans et al., 2017, arXiv:1701.05517, Eq. 1–3)

    Fields, with leading batch axes: log_weights (…, M, 1, H, W), means and log_scales (…, M, C, H, W), chain
    (…, M, C, C, H, W) strictly lower-triangular in its two channel axes. Values are (…, C, H, W) in [0, 1].
    """

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    chain: Tensor

    def _shifted(self, value: Tensor) -> Tensor:
        return self.means + (self.chain * value[..., None, None, :, :, :]).sum(-3)

    @property
    def mean(self) -> Tensor:
        """E[x_c] = Σ_m w_m E[x_c | m], (…, C, H, W) in [0, 1].

        A component is one for all channels of a pixel, so the chain runs within it: x_c | m has the location
        μ_mc + Σ_d chain_mcd E[x_d | m] over the channels d before c. A logistic of location a and scale s that is cut off
        at ±1 has the mean −1 + ∫₋₁¹ P(x > t) dt = −1 + s (log(1 + e^{(a + 1)/s}) − log(1 + e^{(a − 1)/s})). That the spread
        of x_d, too, is cut off further on is left out: an error where both channels reach the ends of their range.
        """
        channels: list[Tensor] = []
        for c in range(self.means.shape[-3]):
            loc, scale = self.means[..., c, :, :], self.log_scales[..., c, :, :].exp()
            for d, before in enumerate(channels):
                loc = loc + self.chain[..., c, d, :, :] * before
            channels.append(scale * (F.softplus((loc + 1) / scale) - F.softplus((loc - 1) / scale)) - 1)
        weights = self.log_weights.exp().squeeze(-3)
        return ((weights.unsqueeze(-3) * torch.stack(channels, -3)).sum(-4) + 1) / 2

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            of_values = (*self.means.shape[:-4], *self.means.shape[-3:])
            return self.from_uniform(torch.rand((*shape, *of_values), device=self.means.device))

    def from_uniform(self, u: Tensor) -> Tensor:
        """The draw that uniform noise u (…, C, H, W) stands for: where the first channel's falls among the weights says the
        component, how far it falls in says where in that component."""
        above = self.log_weights.exp().cumsum(-4)
        # the sum of weights is 1 but for rounding, and noise that rounds to 1 is to fall below it
        first = u[..., :1, :, :].clamp(max=1 - torch.finfo(torch.float32).eps / 2) * above[..., -1, :, :, :]
        m = (first[..., None, :, :, :] >= above).sum(-4, keepdim=True).clamp(max=self.means.shape[-4] - 1)
        above, weight = _taken(above, m, -4), _taken(self.log_weights, m, -4).exp()
        within = 1 - (above - first) / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        u = torch.cat([within, u[..., 1:, :, :]], -3).clamp(1e-5, 1 - 1e-5)
        values = _taken(self.means, m, -4) + _taken(self.log_scales, m, -4).exp() * (u.log() - (-u).log1p())
        chain, channels = _taken(self.chain, m[..., None, :, :], -5), list[Tensor]()
        for c in range(values.shape[-3]):
            v = values[..., c, :, :]
            for d, before in enumerate(channels):
                v = v + chain[..., c, d, :, :] * before
            channels.append(((v + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1)
        return (torch.stack(channels, -3) + 1) / 2

    def sharpened(self, temperature: float) -> LogisticMixture:
        """Weights to the power of 1/temperature, and scales times it: below 1 nearer to the likeliest values."""
        return replace(self, log_weights=F.log_softmax(self.log_weights / temperature, -4),
                       log_scales=self.log_scales + math.log(temperature))

    def log_prob(self, value: Tensor) -> Tensor:
        return sum_event(self.log_prob_of_pixels(value), 2)

    def log_prob_of_pixels(self, value: Tensor) -> Tensor:
        """log p of each pixel, all its channels together, (…, H, W)."""
        v = 2 * value - 1
        centred = v.unsqueeze(-4) - self._shifted(v)
        inv_scale = (-self.log_scales).exp()
        upper, lower = (centred + 1 / 255) * inv_scale, (centred - 1 / 255) * inv_scale
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)): exact and smooth however narrow or far the component is.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 / 255 * inv_scale))
        x = value.unsqueeze(-4)
        t = torch.where(x < 0.5 / 255, F.logsigmoid(upper), torch.where(x > 254.5 / 255, F.logsigmoid(-lower), inside))
        return torch.logsumexp(self.log_weights.squeeze(-3) + t.sum(-3), -3)


def _taken(t: Tensor, m: Tensor, axis: int) -> Tensor:
    """The components that `m` names along an axis that is counted from the end, where t has all of them and m has 1."""
    taken, *others = t.unbind(axis)
    for k, other in enumerate(others, 1):  # a gather would tie a program to the number of images that it is traced with
        taken = torch.where(m.squeeze(axis) == k, other, taken)
    return taken


def _level(value: Tensor) -> Tensor:
    """The nearest of the levels 0 … 255 that stand at 0, 1/255 … 1."""
    return (value * 255).round().clamp(0, 255)


@dataclass(frozen=True)
class Categorical(Distribution):
    """Independent pixels, each with a probability of its own for every one of 256 levels.

    log p = Σ_pixels (l_x − log Σ_v exp l_v). `logits` are (…, 256, C, H, W); values (…, C, H, W) in [0, 1] count as the
    nearest level. Nothing of the logits' size is kept for the backward pass but the logits themselves.
    (van den Oord et al., 2016, arXiv:1601.06759)
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        levels = torch.arange(256, dtype=self.logits.dtype, device=self.logits.device) / 255
        return (self.logits.softmax(-4) * levels[:, None, None, None]).sum(-4)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            cdf = self.logits.softmax(-4).movedim(-4, -1).cumsum(-1)
            u = torch.rand((*cdf.shape[:-1], math.prod(shape)), dtype=cdf.dtype, device=cdf.device) * cdf[..., -1:]
            # on the right of equal values, so that a level without probability is never drawn
            levels = torch.searchsorted(cdf, u, right=True).clamp(max=255)
            return levels.movedim(-1, 0).reshape(*shape, *cdf.shape[:-1]).to(cdf.dtype) / 255

    def log_prob(self, value: Tensor) -> Tensor:
        leading = torch.broadcast_shapes(self.logits.shape[:-4], value.shape[:-3])
        levels = _level(value).long().unsqueeze(-4).expand(*leading, 1, *value.shape[-3:])
        chosen = self.logits.expand(*leading, *self.logits.shape[-4:]).gather(-4, levels).squeeze(-4)
        return sum_event(chosen - self.logits.logsumexp(-4), 3)


def _where_small(t: Tensor, bound: float, small: Callable[[Tensor], Tensor], large: Callable[[Tensor], Tensor]) -> Tensor:
    """`small` where |t| is below the bound, else `large`; neither sees what the other is for, so gradients stay finite."""
    near = t.abs() < bound
    return torch.where(near, small(torch.where(near, t, 0.0)), large(torch.where(near, bound, t)))


@dataclass(frozen=True)
class ContinuousBernoulli(Distribution):
    """Independent pixels in [0, 1] with the density of a Bernoulli's cross-entropy, made to integrate to 1.

    p(x) = e^{lx} / ∫₀¹ e^{lt} dt with logits l; log ∫₀¹ e^{lt} dt = h + log(sinh h / h) with h = l/2, an even function
    after h, of which a Taylor series gives the middle. The mean is ½ + (coth h − 1/h)/2, not σ(l).
    (Loaiza-Ganem & Cunningham, 2019, arXiv:1907.06845, Eq. 5–8)
    """

    logits: Tensor
    event_dims: int = 3

    @property
    def mean(self) -> Tensor:
        def series(h: Tensor) -> Tensor:
            s = h * h
            return h * (1 / 3 - s * (1 / 45 - s * (2 / 945 - s * (1 / 4725 - s * (2 / 93555)))))

        return 0.5 + 0.5 * _where_small(self.logits / 2, 0.25, series, lambda h: 1 / h.tanh() - 1 / h)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            u = torch.rand((*shape, *self.logits.shape), dtype=self.logits.dtype, device=self.logits.device)
            # x = log(1 + u (e^l − 1)) / l for l below 0, where nothing overflows; mirrored above
            below = -self.logits.abs().clamp(min=torch.finfo(u.dtype).eps)
            x = torch.log1p(u * torch.expm1(below)) / below
            return torch.where(self.logits > 0, 1 - x, x)

    def log_prob(self, value: Tensor) -> Tensor:
        def series(h: Tensor) -> Tensor:
            s = h * h
            return s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s * (1 / 37800 - s * (1 / 467775)))))

        def direct(h: Tensor) -> Tensor:
            h = h.abs()
            return h + torch.log(-torch.expm1(-2 * h)) - torch.log(2 * h)

        t = (value - 0.5) * self.logits - _where_small(self.logits / 2, 0.25, series, direct)
        return sum_event(t, self.event_dims)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) = log Γ(a) + log Γ(b) − log Γ(a + b), without the large terms of Stirling's formula, which cancel.

    With δ(t) = log Γ(t) − (t − ½) log t + t − ½ log 2π, which is 1/12t − … for large t,
    log B = ½ log 2π − (a − ½) log(1 + b/a) − (b − ½) log(1 + a/b) − ½ log(a + b) + δ(a) + δ(b) − δ(a + b).
    """

    def remainder(t: Tensor) -> Tensor:
        s = t * t
        return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * s)) / s) / s) / t

    def exact(t: Tensor) -> Tensor:
        return torch.lgamma(t) - (t - 0.5) * t.log() + t - LOG_2PI / 2

    def delta(t: Tensor) -> Tensor:
        return torch.where(t < 8, exact(t.clamp(max=8)), remainder(t.clamp(min=8)))

    return (LOG_2PI / 2 - (a - 0.5) * torch.log1p(b / a) - (b - 0.5) * torch.log1p(a / b) - 0.5 * (a + b).log()
            + delta(a) + delta(b) - delta(a + b))


@dataclass(frozen=True)
class BetaBinomial(Distribution):
    """Independent pixels whose level v ∈ {0 … 255} counts 255 coin flips, their bias drawn anew from a Beta for each pixel.

    p(v) = C(255, v) B(v + a, 255 − v + b) / B(a, b) with a = m κ, b = (1 − m) κ, mean m = σ(logits) and concentration
    κ = exp(log_concentration). At m = ½, κ = 2 all levels are alike; a small κ leaves black and white; a large one is
    the binomial, the narrowest there is (8 levels wide at m = ½). Values in [0, 1] count as the nearest level.
    (Townsend et al., 2019, arXiv:1901.04866)
    """

    logits: Tensor
    log_concentration: Tensor
    event_dims: int = 3

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def _shapes(self) -> tuple[Tensor, Tensor]:
        """a and b, of which neither vanishes by rounding."""
        return ((F.logsigmoid(self.logits) + self.log_concentration).exp(),
                (F.logsigmoid(-self.logits) + self.log_concentration).exp())

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        def log_gamma_variate(a: Tensor) -> Tensor:
            """log G with G ~ Gamma(a), as log G' + log(u)/a with G' ~ Gamma(a + 1): no underflow for small a."""
            a = a.expand(*shape, *a.shape)
            u = 1 - torch.rand(a.shape, dtype=a.dtype, device=a.device)
            return Gamma(a + 1, torch.ones_like(a), validate_args=False).sample().log() + u.log() / a

        with torch.no_grad():
            a, b = self._shapes
            p = (log_gamma_variate(a) - log_gamma_variate(b)).sigmoid()
            return torch.binomial(torch.full_like(p, 255), p) / 255

    def log_prob(self, value: Tensor) -> Tensor:
        v = _level(value)
        a, b = self._shapes
        # C(n, v) = 1 / ((n + 1) B(v + 1, n − v + 1))
        t = _log_beta(v + a, 255 - v + b) - _log_beta(a, b) - _log_beta(v + 1, 256 - v) - math.log(256)
        return sum_event(t, self.event_dims)
