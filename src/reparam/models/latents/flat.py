"""Latents of one layer: a vector, or a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from ...distributions.base import Reparameterized
from ...errors import UsageError
from ...parts.ranges import at_least
from ...parts.registry import latent
from ...tensors import Shape
from ..draw import Draw
from ..posteriors import Posterior
from ..priors import Prior
from ..space import Space
from ..trace import Layer
from .base import NO_ENCODER, Latents, LatentSpec, MakePosterior, MakePrior, Observed


class OneLayer(Latents):
    """One stochastic layer: z ~ q(z | x), judged by p(z)."""

    def __init__(self, posterior: Posterior, prior: Prior, shape: Shape) -> None:
        super().__init__()
        self.posterior, self.prior, self.shape = posterior, prior, shape
        self.decoder_input, self.space = shape, posterior.space

    def infer(self, seen: Observed, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Layer, ...]]:
        q, p = self._q(seen), self.prior()
        z = q.rsample((samples,))
        return self.posterior.embed(z, q), (Layer(z, q, p),)

    def code(self, seen: Observed, *, sample: bool = False) -> Tensor:
        q = self._q(seen)
        return self.posterior.embed(q.sample((1,)), q)[0] if sample else q.mean

    def _q(self, seen: Observed) -> Reparameterized:
        """q(z | x), by a posterior that may ask for log p(x, z)."""
        return self.posterior.guided(
            seen.h, lambda z: seen.log_px(self.posterior.embed(z)) + self.prior().log_prob(z))

    def read(self, code: Tensor) -> Tensor:
        return code

    @property
    def top_prior(self) -> Prior:
        return self.prior

    def noise(self, n: int, prior: Prior | None = None) -> Tensor:
        return (prior or self.prior).noise(n)

    def from_noise(self, u: Tensor, options: Draw = Draw(), prior: Prior | None = None) -> Tensor:
        return self.posterior.embed((prior or self.prior).from_noise(u, options)[None])[0]

    def log_density(self, code: Tensor, prior: Prior | None = None) -> Tensor:
        if self.space.kind != "real":
            return super().log_density(code, prior)
        return (prior or self.prior)().relative_log_prob(code)

    @property
    def fit_space(self) -> Space | None:
        return Space(self.space.shape, self.space.kind, self.space.levels) if self.space.kind in ("real", "codes") else None

    def to_fit(self, seen: Observed, draws: int) -> Tensor:
        return self._q(seen).sample((draws,))

    @property
    def prior_is_learned(self) -> bool:
        return any(True for _ in self.prior.parameters())


class Drawn(Latents):
    """The latent of a model without an encoder: its codes are drawn from the prior alone."""

    def __init__(self, prior: Prior, space: Space) -> None:
        super().__init__()
        self.prior, self.space = prior, space
        self.shape = self.decoder_input = space.shape

    def infer(self, seen: Observed, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Layer, ...]]:
        raise UsageError(NO_ENCODER)

    def code(self, seen: Observed, *, sample: bool = False) -> Tensor:
        raise UsageError(NO_ENCODER)

    def read(self, code: Tensor) -> Tensor:
        return code

    @property
    def top_prior(self) -> Prior:
        return self.prior

    def noise(self, n: int, prior: Prior | None = None) -> Tensor:
        return (prior or self.prior).noise(n)

    def from_noise(self, u: Tensor, options: Draw = Draw(), prior: Prior | None = None) -> Tensor:
        return (prior or self.prior).from_noise(u, options)

    def log_density(self, code: Tensor, prior: Prior | None = None) -> Tensor:
        if self.space.kind != "real":
            return super().log_density(code, prior)
        return (prior or self.prior)().relative_log_prob(code)


@dataclass(frozen=True)
class FlatSpec(LatentSpec):
    """The shape of a latent of one layer."""

    shape: Shape

    def build(self, features: Shape, posterior: MakePosterior, prior: MakePrior) -> Latents:
        q = posterior(features, self.shape)
        return OneLayer(q, prior(q, True), self.shape)


@latent("flat")
def flat(image_shape: Shape, dim: Annotated[int, at_least(1)]) -> FlatSpec:
    """One vector of `dim` numbers."""
    return FlatSpec(None, (dim,))


@latent("spatial")
def spatial(image_shape: Shape, channels: Annotated[int, at_least(1)], factor: Annotated[int, at_least(1)]) -> FlatSpec:
    """A map of `channels` × ⌈H/factor⌉ × ⌈W/factor⌉ numbers."""
    grid = (-(-image_shape[1] // factor), -(-image_shape[2] // factor))
    return FlatSpec(grid, (channels, *grid))
