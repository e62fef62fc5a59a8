"""A posterior that is bent by a flow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import torch
from torch import Tensor

from ...distributions.base import Reparameterized
from ...distributions.gaussian import Gaussian
from ...nets.autoregressive import Autoregressions, Autoregressive
from ...nets.layers import to_latent
from ...parts.ranges import at_least, between
from ...parts.registry import posterior
from ...tensors import Shape, no_autocast
from ..space import Space
from .base import Posterior
from .gaussian import GaussianPosterior


class Flow(Protocol):
    """An invertible map of vectors (…, B, D) that a context (B, C) steers."""

    def __call__(self, u: Tensor, context: Tensor, /) -> tuple[Tensor, Tensor]:
        """f(u; c), and log |det ∂f/∂u|."""
        ...

    def inverse(self, z: Tensor, context: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class FlowedGaussian(Reparameterized):
    """The law of z = f(u; c), u ~ N(loc, exp(log_var)): log q(z) = log N(u) − log |det ∂z/∂u|.

    f is one pass, and its inverse may be many. A draw therefore brings its density with it: `log_prob` of the very tensor
    that `rsample` returned last costs nothing, and that of any other value inverts f.
    """

    base: Gaussian  # (B, D)
    flow: Flow
    context: Tensor  # (B, C)
    shape: Shape
    drawn: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False, compare=False)

    @property
    def mean(self) -> Tensor:
        """f of the Gaussian's mean: a flow has no closed mean."""
        return self._push(self.base.loc)[0].unflatten(-1, self.shape)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        u = self.base.rsample(shape)
        z, log_det = self._push(u)
        z = z.unflatten(-1, self.shape)
        self.drawn[:] = [(z, self.base.log_prob(u) - log_det)]
        return z

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws of a Gaussian whose noise is multiplied by the temperature, before it flows."""
        with torch.no_grad():
            return self._push(self.base.tempered(shape, temperature))[0].unflatten(-1, self.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        for z, log_q in self.drawn:
            # a draw without gradients does not answer for a density that is asked with them
            if z is value and (log_q.requires_grad or not torch.is_grad_enabled()):
                return log_q
        with no_autocast(value):
            u = self.flow.inverse(value.float().flatten(-len(self.shape)), self.context)
            return self.base.log_prob(u) - self.flow(u, self.context)[1]

    def _push(self, u: Tensor) -> tuple[Tensor, Tensor]:
        with no_autocast(u):
            return self.flow(u, self.context)


@posterior("iaf")
class InverseAutoregressive(Posterior):
    """z = f_T ∘ … ∘ f_1(u; c), u ~ N(μ(x), diag σ²(x)), with autoregressive affine maps f that read a context c(x).

    Latents of one image may thus depend on one another. A draw takes one pass and knows its density; the density of another
    value takes one pass for each dimension (dimensions beyond `hidden` go in blocks). Codes of images are f(μ(x)).
    Starts as the Gaussian posterior. (Kingma et al., 2016, arXiv:1606.04934)
    """

    def __init__(self, features: Shape, shape: Shape, transforms: Annotated[int, between(1, 64)] = 2,
                 hidden: Annotated[int, at_least(1)] = 64) -> None:
        super().__init__()
        self.base = GaussianPosterior(features, shape)
        self.context = to_latent(features, (hidden,))
        self.flow = Autoregressions(Autoregressive(math.prod(shape), hidden, context=hidden, interleaved=i // 2 % 2 == 1)
                                    for i in range(transforms))
        self.space = Space(shape)

    def forward(self, h: Tensor) -> FlowedGaussian:
        base = self.base(h)
        flat = Gaussian(base.loc.flatten(1), base.log_var.flatten(1))
        return FlowedGaussian(flat, self.flow, self.context(h).float(), self.space.shape)
