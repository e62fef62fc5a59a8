"""What one pass of a model says of a batch, and what follows from it alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..distributions.base import Distribution, Reparameterized
from ..distributions.base import kl as divergence
from ..errors import UsageError

Batch = Tensor | tuple[Tensor, Tensor]
"""Images x (B, C, H, W) in [0, 1], or with them class labels y (B,), −1 where there is none."""


class Latent(NamedTuple):
    """One stochastic layer: z ~ q, judged by p."""

    z: Tensor
    """(K, B, *d): K importance samples of each of B examples."""
    q: Reparameterized
    """q(z | x), or q(z | x, layers above)."""
    p: Distribution
    """p(z), or p(z | layers above)."""


class Contest(ABC):
    """One batch before a critic: what the two players say of it. `objectives/adversaries` makes it."""

    @abstractmethod
    def critic_loss(self) -> Float[Tensor, ""]:
        """What the critic minimises; no gradient of it reaches the model."""

    @abstractmethod
    def adversarial(self, balance: float, cap: float) -> Float[Tensor, "b"]:
        """What the model minimises, for each example; no gradient of it reaches the critic. See `terms.adversarial`."""

    @abstractmethod
    def features(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        """What the critic sees in images, (n, *f), before it judges them; it learns nothing from being asked."""


@dataclass(frozen=True)
class Trace:
    """What one pass of a model says of a batch. Terms and metrics read this and nothing else."""

    x: Tensor
    """(B, C, H, W), in [0, 1]."""
    latents: tuple[Latent, ...]
    """From the top down."""
    px: Distribution
    """p(x | z), batch shape (K, B)."""
    log_px: Tensor
    """(K, B), nats per example."""
    features: Tensor | None = None
    """(K, B, *f): what the decoder read."""
    decode: Callable[[Tensor], Distribution] | None = None
    """The decoder and likelihood: from features (K, B, *f) to p(x | z)."""
    y: Tensor | None = None
    """(B,) class labels, −1 where there is none."""
    progress: Tensor | None = None
    """(): 0 at the start of training, 1 at its end; None outside it."""
    population: int = 0
    """Images that the batch is drawn from; 0 when unknown."""
    contest: Contest | None = None
    """The batch before the critic, when there is one and it has begun to learn."""


def rate(trace: Trace) -> Tensor:
    """KL(q ‖ p) over all layers, (K, B), nats."""
    return reduce(torch.add, (divergence(layer.q, layer.p, layer.z) for layer in trace.latents))


def log_weight(trace: Trace) -> Tensor:
    """log p(x, z) − log q(z | x) of each importance sample, (K, B), nats."""
    return reduce(torch.add, (layer.p.log_prob(layer.z) - layer.q.log_prob(layer.z) for layer in trace.latents),
                  trace.log_px)


def only_layer(trace: Trace, term: str) -> Latent:
    """The layer of a trace that has one, for a term that knows no others.

    Raises:
        UsageError: several layers.
    """
    if len(trace.latents) != 1:
        raise UsageError(f"{term} looks at the draws of one stochastic layer, and this model has {len(trace.latents)}: "
                         "use a latent with one layer, such as flat(64), or another term")
    return trace.latents[0]
