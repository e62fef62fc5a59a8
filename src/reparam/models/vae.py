"""The model: x → encoder → latent → decoder → likelihood, four parts, each chosen on its own.

    p(x) = ∫ p(x | z) p(z) dz,    log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

Running it on a batch gives a `Trace`, which objectives and metrics read. (Kingma & Welling, 2014, arXiv:1312.6114)
Without an encoder it is the generator of a GAN, which a critic alone can teach. (Goodfellow et al., 2014, arXiv:1406.2661)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..distributions.base import Distribution
from ..errors import UsageError
from ..parts.recipe import Recipe
from ..tensors import fold
from .latents import Latents
from .likelihoods import Likelihood
from .priors import Draw
from .refiner import Refiner
from .resampler import Resampler
from .trace import Trace


class Model(nn.Module, ABC):
    """What every model can do: draw codes, and decode them."""

    def __init__(self, latent: Latents, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.latent, self.decoder, self.likelihood = latent, decoder, likelihood
        self.resampler: Resampler | None = None
        self.refiner: Refiner | None = None
        self.recipe: Recipe | None = None
        self.image_shape: tuple[int, int, int] | None = None
        """Of what `build_model` made, so that it can be saved."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        """Runs on a batch with `samples` latents for each image."""

    def decode(self, code: Float[Tensor, "k b *d"]) -> Distribution:
        """p(x | z) of codes."""
        return self._decode(self.latent.read(code))

    def render(self, code: Float[Tensor, "b *d"], noise: Float[Tensor, "b c h w"] | None = None, *,
               refine: bool | float = True) -> Float[Tensor, "b c h w"]:
        """The image of each code: the mean of p(x | z), with the detail that a refiner draws where there is one. `noise` is
        what it begins from; one image of it serves all codes, which then change nothing but what they stand for. `refine`
        may be a temperature in place of the refiner's own.

        Raises:
            UsageError: a temperature that is not above 0 and up to 1, or of a model without a refiner.
        """
        if not isinstance(refine, bool) and (self.refiner is None or not 0 < refine <= 1):
            raise UsageError("this model has no refiner, whose temperature could be set" if self.refiner is None else
                             f"the temperature of a refiner is above 0 and up to 1; got {refine}")
        means = self.decode(code[None]).mean[0]
        if self.refiner is None or refine is False:
            return means
        shape = means.shape  # not randn_like, whose order is that of the memory and changes with it
        noise = torch.randn(shape, device=means.device) if noise is None else noise.expand(shape)
        return self.refiner(means, noise, None if refine is True else refine)

    def generate(self, n: int, how: Draw = Draw()) -> Float[Tensor, "n *d"]:
        """n codes of new images: draws of the prior; where a resampler has learned to judge them, those that it keeps."""
        def draw(count: int) -> Tensor:
            return self.latent.generate(count, how)[0]

        learned = how.is_plain and (how.fitted or self.latent.fitted is None)
        if self.resampler is None or not how.resample or not learned:
            return draw(n)
        return self.resampler.chosen(n, draw, lambda z: self.decode(z[None]).mean[0])

    def draw(self, n: int) -> Distribution:
        """p(x | z) of n codes from the model's own prior, batch shape (1, n)."""
        return self.decode(self.latent.generate(n, Draw(fitted=False)))

    def _decode(self, features: Tensor) -> Distribution:
        return self.likelihood(fold(self.decoder, features))


class VAE(Model):
    """Four parts; `forward` runs them on a batch and returns the trace."""

    def __init__(self, encoder: nn.Module, latent: Latents, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__(latent, decoder, likelihood)
        self.encoder = encoder

    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        features, layers = self.latent.infer(self.encoder(x), samples, y)
        px = self._decode(features)
        return Trace(x, layers, px, px.log_prob(x), features, self._decode)

    def encode(self, x: Float[Tensor, "b c h w"], *, sample: bool = False) -> Float[Tensor, "b *d"]:
        """The code of each image: the posterior's mean, or a draw from it."""
        return self.latent.code(self.encoder(x), sample=sample)


class Generator(Model):
    """Prior and decoder of a GAN. Its trace holds new images beside the batch, and no latents: nothing is inferred."""

    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1, y: Int[Tensor, "b"] | None = None) -> Trace:
        px = self.draw(len(x))
        return Trace(x, (), px, px.log_prob(x), None, self._decode)
