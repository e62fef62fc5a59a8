"""A posterior that is bent by a flow."""

from __future__ import annotations

import math

from torch import Tensor

from ..distributions import Gaussian
from ..distributions.flows import Autoregressions, Autoregressive, FlowedGaussian
from ..errors import UsageError
from ..nets.layers import Shape, to_latent
from ..registry import posterior
from ..space import Space
from .base import Posterior
from .gaussian import GaussianPosterior


@posterior("iaf")
class InverseAutoregressive(Posterior):
    """z = f_T ∘ … ∘ f_1(u; c), u ~ N(μ(x), diag σ²(x)), with autoregressive affine maps f that read a context c(x).

    Latents of one image may thus depend on one another. A draw takes one pass and knows its density; the density of another
    value takes one pass for each dimension (dimensions beyond `hidden` go in blocks). Codes of images are f(μ(x)).
    Starts as the Gaussian posterior. (Kingma et al., 2016, arXiv:1606.04934)
    """

    def __init__(self, features: Shape, shape: Shape, transforms: int = 2, hidden: int = 64) -> None:
        super().__init__()
        if not 1 <= transforms <= 64 or hidden < 1:
            raise UsageError(f"iaf({transforms}, {hidden}): give 1 to 64 transforms and at least one hidden unit")
        self.base = GaussianPosterior(features, shape)
        self.context = to_latent(features, (hidden,))
        self.flow = Autoregressions(Autoregressive(math.prod(shape), hidden, context=hidden, interleaved=i // 2 % 2 == 1)
                                    for i in range(transforms))
        self.space = Space(shape)

    def forward(self, h: Tensor) -> FlowedGaussian:
        base = self.base(h)
        flat = Gaussian(base.loc.flatten(1), base.log_var.flatten(1))
        return FlowedGaussian(flat, self.flow, self.context(h).float(), self.space.shape)
