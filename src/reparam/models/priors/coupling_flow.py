"""A normalising flow of affine couplings."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...distributions.base import LOG_2PI, FromNoise, Reparameterized
from ...parts.ranges import at_least, between
from ...parts.registry import prior
from ...tensors import bounded, no_autocast
from ..space import Space
from .base import Prior, Standardize


class Coupling(nn.Module):
    """One affine coupling: half of z moves by a scale and shift that the other half determines.

    (Dinh et al., 2017, arXiv:1605.08803, Eq. 7–8). The scale stays in e^±2 and starts at 1.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.kept = dim // 2
        last = nn.Linear(hidden, 2 * (dim - self.kept))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with warnings.catch_warnings():  # of one dimension nothing is kept, and torch remarks on the empty weight
            warnings.simplefilter("ignore", UserWarning)
            first = nn.Linear(self.kept, hidden)
        self.net = nn.Sequential(first, nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)

    def _parameters_of(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.net(kept).chunk(2, -1)
        return bounded(log_scale, 2.0), shift

    def forward(self, z: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
        """Code to noise, and log |det ∂u/∂z|."""
        kept, moved = z[..., : self.kept], z[..., self.kept :]
        log_scale, shift = self._parameters_of(kept)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], -1), log_scale.sum(-1)

    def inverse(self, u: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Noise to code."""
        kept, moved = u[..., : self.kept], u[..., self.kept :]
        log_scale, shift = self._parameters_of(kept)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], -1)


@dataclass(frozen=True)
class FlowDistribution(FromNoise, Reparameterized):
    """The law of z = f⁻¹(u), u ~ N(0, I): log p(z) = log N(f(z); 0, I) + log |det ∂f/∂z|."""

    flow: Flow

    @property
    def mean(self) -> Tensor:
        """The code of the noise's mean: a flow has no closed mean."""
        return self.flow.decode(torch.zeros(self.flow.shape, device=self.flow.device))

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.flow.decode(torch.randn((*shape, *self.flow.shape), device=self.flow.device))

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, math.prod(self.flow.shape), device=self.flow.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Codes of noise that is multiplied by the temperature. (Kingma & Dhariwal, 2018, arXiv:1807.03039, section 6)"""
        return self.flow.decode(temperature * u.reshape(-1, *self.flow.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        u, log_det = self.flow.encode(value)
        return -0.5 * (u**2 + LOG_2PI).sum(-1) + log_det


@prior("flow")
class Flow(Prior):
    """A few affine couplings in float32, learned with the model: the cheapest large gain in likelihood there is.

    The prior moves to where the codes are, so that samples from it match them. The halves of z change places after
    each coupling, in reversed order. (Chen et al., 2017, arXiv:1611.02731; Dinh et al., 2017, arXiv:1605.08803)
    """

    def __init__(self, space: Space, couplings: Annotated[int, between(1, 64)] = 6,
                 hidden: Annotated[int, at_least(1)] = 128) -> None:
        super().__init__(space)
        self.whitening = Standardize(self.shape)
        self.couplings = nn.ModuleList(Coupling(math.prod(self.shape), hidden) for _ in range(couplings))

    def prepare(self, codes: Float[Tensor, "n *d"], y: Tensor | None = None) -> None:
        self.whitening.fit(codes)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, z: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*m d"], Float[Tensor, "*m"]]:
        """Code to noise, flattened over the latent's shape, and the log-determinant."""
        with no_autocast(z):
            u = self.whitening(z.float()).flatten(-len(self.shape))
            log_det = self.whitening.log_det.expand(u.shape[:-1])
            for coupling in self.couplings:
                u, change = coupling(u)
                u, log_det = u.flip(-1), log_det + change
            return u, log_det

    def decode(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Noise to code, both with the latent's shape."""
        with no_autocast(u):
            z = u.flatten(-len(self.shape))
            for coupling in reversed(self.couplings):
                z = coupling.inverse(z.flip(-1))  # type: ignore[operator]
            return self.whitening.inverse(z.unflatten(-1, self.shape))

    def forward(self) -> FlowDistribution:
        return FlowDistribution(self)
