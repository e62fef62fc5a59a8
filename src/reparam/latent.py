"""Latents: how z is inferred from an image and generated without one.

A latent part is chosen by its shape alone; `build` then gives it its posterior and prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from .distributions import Distribution, Reparameterized
from .errors import UsageError
from .nets.layers import Shape
from .registry import latent

Posterior = Callable[[Shape, Shape], nn.Module]
"""From the shapes of features and latent to a posterior."""
Prior = Callable[[Shape], nn.Module]
"""From the shape of a latent to a prior."""


class Latent(NamedTuple):
    """One stochastic layer: z ~ q, judged by p."""

    z: Tensor
    """(K, B, *d): K importance samples of each of B examples."""
    q: Reparameterized
    """q(z | x), or q(z | x, layers above)."""
    p: Distribution
    """p(z), or p(z | layers above)."""


class OneLayer(nn.Module):
    """One stochastic layer: z ~ q(z | x), judged by p(z). `fitted`, when there is one, replaces p for sampling."""

    fitted: nn.Module | None

    def __init__(self, posterior: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.posterior, self.prior = posterior, prior
        self.fitted = None

    def infer(self, h: Tensor, samples: int) -> tuple[Float[Tensor, "k b *d"], tuple[Latent, ...]]:
        """Draws `samples` latents for the features of each image; returns what the decoder reads, and the layers."""
        q, p = self.posterior(h), self.prior()
        z = q.rsample((samples,))
        return z, (Latent(z, q, p),)

    @property
    def shape(self) -> Shape:
        """Shape of one latent."""
        return tuple(self.prior().mean.shape)

    def code(self, h: Tensor, *, sample: bool = False) -> Float[Tensor, "b *d"]:
        """One latent for the features of each image: the posterior's mean, or a draw from it."""
        q: Reparameterized = self.posterior(h)
        return q.sample() if sample else q.mean

    def generate(self, n: int, temperature: float = 1.0, *, fitted: bool = True) -> Float[Tensor, "k n *d"]:
        """Draws n latents, from the fitted prior when there is one and `fitted`; temperature shrinks them to the mean."""
        p: Distribution = self.fitted() if fitted and self.fitted is not None else self.prior()
        z = p.sample((1, n))
        return z if temperature == 1 else p.mean + temperature * (z - p.mean)


@dataclass(frozen=True)
class Plan:
    """A latent's shape, and the grid at which the encoder should end for it (None: the encoder's own choice)."""

    shape: Shape
    grid: tuple[int, int] | None

    def build(self, features: Shape, posterior: Posterior, prior: Prior) -> OneLayer:
        return OneLayer(posterior(features, self.shape), prior(self.shape))


@latent("flat")
def flat(image_shape: Shape, dim: int) -> Plan:
    """One vector of `dim` numbers."""
    if dim < 1:
        raise UsageError(f"flat({dim}): a latent needs at least one dimension")
    return Plan((dim,), None)


@latent("spatial")
def spatial(image_shape: Shape, channels: int, factor: int) -> Plan:
    """A map of `channels` × ⌈H/factor⌉ × ⌈W/factor⌉ numbers."""
    if channels < 1 or factor < 1:
        raise UsageError(f"spatial({channels}, {factor}): channels and factor must be at least 1")
    grid = (-(-image_shape[1] // factor), -(-image_shape[2] // factor))
    return Plan((channels, *grid), grid)
