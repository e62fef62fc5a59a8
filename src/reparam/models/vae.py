"""The model: x → encoder → latent → decoder → likelihood, four parts, each chosen on its own.

    p(x) = ∫ p(x | z) p(z) dz,    log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

Running it on a batch gives a `Trace`, which objectives and metrics read. (Kingma & Welling, 2014, arXiv:1312.6114)
Without an encoder it is the generator of a GAN, which a critic alone can teach. (Goodfellow et al., 2014, arXiv:1406.2661)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..distributions.base import Distribution
from ..parts.recipe import Recipe
from ..tensors import fold
from .latents import Latents, Observed
from .likelihoods import Likelihood
from .trace import Trace


class Model(nn.Module, ABC):
    """What every model can do: draw codes from its prior, and decode them."""

    has_encoder: ClassVar[bool]

    def __init__(self, latent: Latents, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.latent, self.decoder, self.likelihood = latent, decoder, likelihood
        self.recipe: Recipe | None = None
        self.image_shape: tuple[int, int, int] | None = None
        """Set by `build_model`, so that the model can be saved."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        """Runs on a batch with `samples` latents for each image."""

    def decode(self, code: Float[Tensor, "k b *d"]) -> Distribution:
        """p(x | z) of codes."""
        return self._decode(self.latent.read(code))

    def draw(self, n: int) -> Distribution:
        """p(x | z) of n codes from the model's own prior, batch shape (1, n)."""
        return self.decode(self.latent.generate(n))

    def _decode(self, features: Tensor) -> Distribution:
        return self.likelihood(fold(self.decoder, features))

    def _log_density(self, px: Distribution, x: Tensor) -> Tensor | None:
        return px.log_prob(x) if self.likelihood.has_density else None


class VAE(Model):
    """Four parts; `forward` runs them on a batch and returns the trace."""

    has_encoder = True

    def __init__(self, encoder: nn.Module, latent: Latents, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__(latent, decoder, likelihood)
        self.encoder = encoder

    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        features, layers = self.latent.infer(self.observe(x), samples, y)
        px = self._decode(features)
        return Trace(x, layers, px, self._log_density(px, x), features, self._decode)

    def encode(self, x: Float[Tensor, "b c h w"], *, sample: bool = False) -> Float[Tensor, "b *d"]:
        """The code of each image: the posterior's mean, or a draw from it."""
        return self.latent.code(self.observe(x), sample=sample)

    def observe(self, x: Float[Tensor, "b c h w"], at_once: int | None = None) -> Observed:
        """What latents are inferred from: features, encoded `at_once` images at a time, and log p(x | z) for who asks."""
        h = torch.cat([self.encoder(chunk) for chunk in x.split(at_once)]) if at_once else self.encoder(x)
        return Observed(h, lambda features: self._decode(features).log_prob(x))


class Generator(Model):
    """Prior and decoder of a GAN. Its trace holds new images beside the batch, and no latents: nothing is inferred."""

    has_encoder = False

    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        px = self.draw(len(x))
        return Trace(x, (), px, self._log_density(px, x), None, self._decode)
