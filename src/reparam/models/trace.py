"""The trace: one forward pass of a model on a batch, and what follows from it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from ..distributions.base import Distribution, Reparameterized
from ..distributions.base import kl as divergence
from ..distributions.point import NO_DENSITY
from ..errors import UsageError

Batch = Tensor | tuple[Tensor, Tensor]
"""Images x (B, C, H, W) in [0, 1], or with them class labels y (B,), −1 where there is none."""


class Layer(NamedTuple):
    """One stochastic layer: z ~ q, with its prior p."""

    z: Tensor
    """(K, B, *d): K importance samples of each of B examples."""
    q: Reparameterized
    """q(z | x), or q(z | x, layers above)."""
    p: Distribution
    """p(z), or p(z | layers above)."""


@dataclass(frozen=True)
class Trace:
    """One forward pass of a model on a batch: what terms and metrics read."""

    x: Tensor
    """(B, C, H, W), in [0, 1]."""
    layers: tuple[Layer, ...]
    """From the top down."""
    px: Distribution
    """p(x | z), batch shape (K, B)."""
    log_density: Tensor | None
    """log p(x | z), (K, B), nats per example; None where the likelihood gives images no density."""
    decoder_input: Tensor | None = None
    """(K, B, *f): what the decoder read; None where nothing is inferred."""
    decode: Callable[[Tensor], Distribution] | None = None
    """The decoder and likelihood: from `decoder_input` (K, B, *f) to p(x | z)."""

    @property
    def log_px(self) -> Tensor:
        """log p(x | z), (K, B), nats per example.

        Raises:
            UsageError: the likelihood gives images no density.
        """
        if self.log_density is None:
            raise UsageError(NO_DENSITY)
        return self.log_density


def rate(trace: Trace) -> Tensor:
    """KL(q ‖ p) over all layers, (K, B), nats."""
    return reduce(torch.add, (divergence(layer.q, layer.p, layer.z) for layer in trace.layers))


def log_weight(trace: Trace) -> Tensor:
    """log p(x, z) − log q(z | x) of each importance sample, (K, B), nats."""
    return reduce(torch.add, (layer.p.log_prob(layer.z) - layer.q.log_prob(layer.z) for layer in trace.layers),
                  trace.log_px)


def only_layer(trace: Trace, term: str) -> Layer:
    """The layer of a trace that has one, for a term that is defined for a single one.

    Raises:
        UsageError: several layers.
    """
    if len(trace.layers) != 1:
        raise UsageError(f"{term} reads the draws of one stochastic layer, and this model has {len(trace.layers)}: "
                         "use a latent with one layer, such as flat(64), or another term")
    return trace.layers[0]
