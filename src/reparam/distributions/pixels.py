"""Distributions of pixels in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Distribution, sum_event


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
