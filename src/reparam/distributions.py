"""The distributions that models are made of: small frozen dataclasses with torch.distributions' method names.

One rule holds for all of them: `log_prob` sums over the event and returns one number per example, in nats, in float32
also under autocast. There is no `reduction=` argument. Shapes: K importance samples, B examples, D latent dimensions,
C channels, H height, W width; `*d` stands for the shape of a latent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def sum_event(t: Tensor, dims: int) -> Tensor:
    """Sums the last `dims` axes."""
    return t.flatten(-dims).sum(-1) if dims else t


class Distribution(ABC):
    """What every distribution can do."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Expectation, batch shape + event shape."""

    @abstractmethod
    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `shape` + batch shape + event shape; gradients may not flow."""

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value), summed over the event, nats."""


class Reparameterized(Distribution):
    """A distribution whose draws are a differentiable function of its parameters (Kingma & Welling, 2014)."""

    @abstractmethod
    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `shape` + batch shape + event shape, with gradients."""

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(shape)


@dataclass(frozen=True)
class Gaussian(Reparameterized):
    """N(loc, exp(log_var)), independent over the event's `event_dims` last axes."""

    loc: Tensor
    log_var: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        eps = torch.randn((*shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (0.5 * self.log_var).exp() * eps

    def log_prob(self, value: Tensor) -> Tensor:
        t = -0.5 * (LOG_2PI + self.log_var + (value - self.loc) ** 2 * (-self.log_var).exp())
        return sum_event(t, self.event_dims)

    @staticmethod
    def best_log_scale(value: Tensor, loc: Tensor) -> Tensor:
        """log σ of the single σ that makes `value` likeliest: σ² is the mean squared error (Rybkin et al., 2021, Eq. 5)."""
        return 0.5 * ((value - loc) ** 2).mean().clamp(min=1e-12).log()

    @staticmethod
    def of_scale(loc: Tensor, log_scale: Tensor, event_dims: int) -> Gaussian:
        return Gaussian(loc, 2 * log_scale.expand_as(loc), event_dims)


@dataclass(frozen=True)
class Laplace(Reparameterized):
    """Laplace(loc, exp(log_scale)), independent over the event's `event_dims` last axes."""

    loc: Tensor
    log_scale: Tensor
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        u = torch.rand((*shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device) - 0.5
        # 1 − 2|u| is 0 with probability 2⁻²⁴ in float32: its logarithm is kept finite.
        magnitude = -torch.log((1 - 2 * u.abs()).clamp(min=torch.finfo(u.dtype).tiny))
        return self.loc + self.log_scale.exp() * u.sign() * magnitude

    def log_prob(self, value: Tensor) -> Tensor:
        t = -(math.log(2) + self.log_scale + (value - self.loc).abs() * (-self.log_scale).exp())
        return sum_event(t, self.event_dims)

    @staticmethod
    def best_log_scale(value: Tensor, loc: Tensor) -> Tensor:
        """log b of the single b that makes `value` likeliest: the mean absolute error."""
        return (value - loc).abs().mean().clamp(min=1e-6).log()

    @staticmethod
    def of_scale(loc: Tensor, log_scale: Tensor, event_dims: int) -> Laplace:
        return Laplace(loc, log_scale.expand_as(loc), event_dims)


@dataclass(frozen=True)
class BestScale(Distribution):
    """A location family whose one scale is the best for the batch that it is asked about.

    `log_prob` maximises over the scale in closed form, so that the likelihood is calibrated at every step of training;
    `sample` uses `log_scale`, the number that the model carries. (Rybkin et al., 2021, arXiv:2006.13202)
    """

    family: type[Gaussian] | type[Laplace]
    loc: Tensor
    log_scale: Tensor
    event_dims: int = 3

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.family.of_scale(self.loc, self.log_scale, self.event_dims).sample(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        best = self.family.best_log_scale(value, self.loc)
        return self.family.of_scale(self.loc, best, self.event_dims).log_prob(value)


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
        """Mean of each channel given the means of the channels before it, (…, C, H, W) in [0, 1]."""
        weights = self.log_weights.exp().squeeze(-3)
        channels: list[Tensor] = []
        for c in range(self.means.shape[-3]):
            loc = self.means[..., c, :, :]
            for d, before in enumerate(channels):
                loc = loc + self.chain[..., c, d, :, :] * before.unsqueeze(-3)
            channels.append((weights * loc.clamp(-1, 1)).sum(-3))
        return (torch.stack(channels, -3) + 1) / 2

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            full = (*shape, *self.means.shape)
            gumbel = -torch.log(-torch.log(torch.rand((*shape, *self.log_weights.shape), device=self.means.device)
                                           .clamp(1e-9, 1 - 1e-7)))
            m = (self.log_weights + gumbel).argmax(-4, keepdim=True)
            m = m.expand(*m.shape[:-3], *full[-3:])
            loc = self.means.expand(full).gather(-4, m).squeeze(-4)
            scale = self.log_scales.expand(full).gather(-4, m).squeeze(-4).exp()
            chain = self.chain.expand(*shape, *self.chain.shape)
            chain = chain.gather(-5, m.unsqueeze(-3).expand(*m.shape[:-2], full[-3], *full[-2:])).squeeze(-5)
            u = torch.rand(loc.shape, device=loc.device).clamp(1e-5, 1 - 1e-5)
            noise = scale * (u.log() - (1 - u).log())
            channels: list[Tensor] = []
            for c in range(full[-3]):
                v = loc[..., c, :, :] + noise[..., c, :, :]
                for d, before in enumerate(channels):
                    v = v + chain[..., c, d, :, :] * before
                levels = ((v + 1) * 127.5).round().clamp(0, 255)
                channels.append(levels / 127.5 - 1)
            return (torch.stack(channels, -3) + 1) / 2

    def log_prob(self, value: Tensor) -> Tensor:
        v = 2 * value - 1
        centred = v.unsqueeze(-4) - self._shifted(v)
        inv_scale = (-self.log_scales).exp()
        upper, lower = (centred + 1 / 255) * inv_scale, (centred - 1 / 255) * inv_scale
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)): exact and smooth however narrow or far the component is.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 / 255 * inv_scale))
        x = value.unsqueeze(-4)
        t = torch.where(x < 0.5 / 255, F.logsigmoid(upper), torch.where(x > 254.5 / 255, F.logsigmoid(-lower), inside))
        per_pixel = torch.logsumexp(self.log_weights.squeeze(-3) + t.sum(-3), -3)
        return sum_event(per_pixel, 2)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of each latent dimension in closed form, nats, (B, *d). (Kingma & Welling, 2014, Appendix B)"""
    ratio = (q.log_var - p.log_var).exp()
    return 0.5 * (p.log_var - q.log_var + ratio + (q.loc - p.loc) ** 2 * (-p.log_var).exp() - 1)


def kl(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q ‖ p) per example, nats, (K, B): in closed form where there is one, else log q(z) − log p(z) at z ~ q."""
    if isinstance(q, Gaussian) and isinstance(p, Gaussian):
        return sum_event(gaussian_kl(q, p), q.event_dims).expand(z.shape[:2])
    return q.log_prob(z) - p.log_prob(z)
