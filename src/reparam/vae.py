"""The model: x → encoder → latent → decoder → likelihood, four parts, each chosen on its own.

    p(x) = ∫ p(x | z) p(z) dz,    log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

Running it on a batch gives a `Trace`, which objectives and metrics read. (Kingma & Welling, 2014, arXiv:1312.6114)
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from .distributions import Distribution
from .latent import Latent, OneLayer
from .likelihoods import Likelihood
from .nets.layers import fold


@dataclass(frozen=True)
class Trace:
    """What one pass of a model says of a batch. Terms and metrics read this and nothing else."""

    x: Tensor
    """(B, C, H, W), in [0, 1]."""
    latents: tuple[Latent, ...]
    px: Distribution
    """p(x | z), batch shape (K, B)."""
    log_px: Tensor
    """(K, B), nats per example."""


class VAE(nn.Module):
    """Four parts; `forward` runs them on a batch and returns the trace."""

    def __init__(self, encoder: nn.Module, latent: OneLayer, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.latent, self.decoder, self.likelihood = encoder, latent, decoder, likelihood

    def forward(self, x: Float[Tensor, "b c h w"], samples: int = 1) -> Trace:
        z, latents = self.latent.infer(self.encoder(x), samples)
        px = self.decode(z)
        return Trace(x, latents, px, px.log_prob(x))

    def encode(self, x: Float[Tensor, "b c h w"], *, sample: bool = False) -> Float[Tensor, "b *d"]:
        """The latent of each image: the posterior's mean, or a draw from it."""
        return self.latent.code(self.encoder(x), sample=sample)

    def decode(self, z: Float[Tensor, "k b *d"]) -> Distribution:
        """p(x | z)."""
        return self.likelihood(fold(self.decoder, z))
