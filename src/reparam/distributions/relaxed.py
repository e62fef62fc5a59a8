"""Continuous relaxations of bits and classes: the concrete, or Gumbel-softmax, distributions.

Draws are kept before the last step, which squeezes them into (0, 1): log-odds of bits, and log-probabilities of classes.
There the densities have no boundary and are exact in float32; the squeeze changes no KL and no ratio of densities.
(Maddison et al., 2017, arXiv:1611.00712, appendix C.3; Jang et al., 2017, arXiv:1611.01144)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Reparameterized, sum_event, uniform


def _gumbel(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draws −log E, E ~ Exp(1)."""
    noise = torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()
    return -noise.clamp(min=torch.finfo(like.dtype).tiny).log()


@dataclass(frozen=True)
class RelaxedBernoulli(Reparameterized):
    """Log-odds z = (l + L) / λ of relaxed bits σ(z), with L ~ Logistic(0, 1): σ(z) > ½ with probability σ(l).

    log p(z) = log λ + y − 2 log(1 + e^y) with y = l − λz, summed over the event.
    """

    logits: Tensor
    temperature: float
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        """σ(l), the mean of the bit that is relaxed, which the decoder can read like σ(z); E[σ(z)] has no closed form."""
        return self.logits.sigmoid()

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        full = (*shape, *self.logits.shape)
        return (self.logits + _gumbel(full, self.logits) - _gumbel(full, self.logits)) / self.temperature

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.logits.numel(), device=self.logits.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """L is the log-odds of a uniform number."""
        return (self.logits + temperature * uniform(u.reshape(-1, *self.logits.shape)).logit()) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        y = self.logits - self.temperature * value
        return sum_event(math.log(self.temperature) + F.logsigmoid(y) + F.logsigmoid(-y), self.event_dims)

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws whose noise L is multiplied by the temperature."""
        centre = self.logits / self.temperature
        return centre + temperature * (self.sample(shape) - centre)


@dataclass(frozen=True)
class RelaxedCategorical(Reparameterized):
    """Log-probabilities z = log softmax((l + G) / λ) of relaxed one-of-n choices, with Gumbel noise G.

    log p(z) = log Γ(n) + (n−1) log λ + Σ_k y_k − n log Σ_k e^{y_k} with y = l − λz, the density of z_k − z_n for k < n,
    summed over the event. The event's first axis, (D,) or (C, h, w), is cut into groups of n = `classes`, a choice each.
    (Maddison et al., 2017, arXiv:1611.00712, appendix C.3)
    """

    logits: Tensor
    temperature: float
    classes: int
    event_dims: int = 1

    @property
    def mean(self) -> Tensor:
        """softmax(l), the mean of the one-hot choice that is relaxed, which the decoder can read like e^z."""
        return self._normalised(self.logits).exp()

    def _grouped(self, t: Tensor) -> Tensor:
        """(…, groups, classes) or (…, groups, classes, h, w)."""
        return t.unflatten(-self.event_dims, (-1, self.classes))

    def _normalised(self, t: Tensor) -> Tensor:
        return self._grouped(t).log_softmax(-self.event_dims).flatten(-self.event_dims - 1, -self.event_dims)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        noise = _gumbel((*shape, *self.logits.shape), self.logits)
        return self._normalised((self.logits + noise) / self.temperature)

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.logits.numel(), device=self.logits.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """G is −log(−log v) of a uniform number v."""
        gumbel = -(-uniform(u.reshape(-1, *self.logits.shape)).log()).log()
        return self._normalised((self.logits + temperature * gumbel) / self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        n, axis = self.classes, -self.event_dims
        y = self._grouped(self.logits - self.temperature * value).log_softmax(axis)
        constant = math.lgamma(n) + (n - 1) * math.log(self.temperature)
        return sum_event(constant + y.sum(axis), self.event_dims)

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws whose noise G is multiplied by the temperature."""
        centre = self.logits / self.temperature
        return self._normalised(centre + temperature * (self.sample(shape) - centre))
