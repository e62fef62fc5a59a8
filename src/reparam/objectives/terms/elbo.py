"""The evidence lower bound: distortion, rate, and what keeps the rate alive."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from ...distributions.base import kl as divergence
from ...distributions.base import stopped
from ...distributions.gaussian import Gaussian, gaussian_kl
from ...models.trace import Trace, log_weight, rate
from ...parallel import averaged
from ...parts import registry
from ...parts.ranges import at_least, between, one_of
from ..context import Context
from ..objective import Term
from ..weights import Fraction

nll = Term("nll", lambda trace, _: -trace.log_px.mean(0))
kl = Term("kl", lambda trace, _: rate(trace).mean(0))


@registry.term("nll")
def _nll() -> Term:
    """−E_q[log p(x | z)]: the distortion."""
    return nll


@registry.term("kl")
def _kl() -> Term:
    """KL(q(z | x) ‖ p(z)): the rate."""
    return kl


@registry.term("free_bits")
def free_bits(nats: float, per: Annotated[str, one_of("unit", "layer")] = "unit") -> Term:
    """The KL, where each latent dimension, or each layer, counts for at least `nats` on average over the batch.

    Σ_u max(λ, E_B[KL_u]) over units or layers u: below λ one feels no pull to the prior (Kingma et al., 2016,
    arXiv:1606.04934, Eq. 15). Where the KL has no closed form per dimension (a flow prior), a layer as a whole is the
    unit. `per` is 'unit' or 'layer'.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        total = trace.x.new_zeros(())
        for z, q, p in trace.layers:
            if per == "unit" and isinstance(q, Gaussian) and isinstance(p, Gaussian):
                units = gaussian_kl(q, p).flatten(1).mean(0)
            else:
                units = divergence(q, p, z).mean()[None]
            total = total + averaged(units).clamp(min=nats).sum()
        return total.expand(len(trace.x))

    return Term(f"free_bits({nats:.12g})" if per == "unit" else f"free_bits({nats:.12g}, {per!r})", of)


@registry.term("capacity")
def capacity(nats: Annotated[float, at_least(0)], fraction: Fraction = 0.5) -> Term:
    """|E_B[KL] − C|: holds the mean rate at C, which rises from 0 to `nats` over the first `fraction` of training.

    Its weight is the γ of the paper, large enough for the rate to follow C: `nll + 100*capacity(25)`. Outside training
    C = `nats`. The mean over the batch stands inside, so that one image may take more nats than another.
    (Burgess et al., 2018, arXiv:1804.03599, Eq. 8)
    """

    def of(trace: Trace, context: Context) -> Tensor:
        mean = averaged(rate(trace).mean())
        risen = mean.new_ones(()) if context.progress is None else (context.progress / fraction).clamp(max=1)
        return (mean - nats * risen).abs().expand(len(trace.x))

    return Term(f"capacity({nats:.12g}, {fraction:.12g})", of)


Alpha = Annotated[float, between(0, 1, advice="0 is all to the posterior, 1 all to the prior")]


@registry.term("balanced_kl")
def balanced_kl(alpha: Alpha = 0.8) -> Term:
    """The KL in value, whose gradient moves the prior with weight α and the posterior with weight 1 − α.

    α KL(sg(q) ‖ p) + (1 − α) KL(q ‖ sg(p)), with sg(·) taken as constant: above ½ a learned prior learns to predict
    faster than the posterior gives way to it. (Hafner et al., 2021, arXiv:2010.02193, Algorithm 2)

    Raises:
        UsageError: an α outside [0, 1]; on a trace, a prior or posterior that a network computes draw by draw (a flow).
    """

    def of(trace: Trace, context: Context) -> Tensor:
        total = trace.x.new_zeros(())
        for z, q, p in trace.layers:
            total = (total + alpha * divergence(stopped(q), p, z.detach())
                     + (1 - alpha) * divergence(q, stopped(p), z))
        return total.mean(0)

    return Term(f"balanced_kl({alpha:.12g})", of)


@registry.term("layer_balanced_kl")
def layer_balanced_kl(fraction: Fraction = 0.3) -> Term:
    """The KL, with the layers weighted against each other over the first `fraction` of training, so that none dies.

    Σ_l γ_l KL_l,  γ_l ∝ E_B[KL_l] / D_l,  Σ_l γ_l = L: a layer that says less per dimension than the others pays less
    for it. γ takes no gradient, and is 1 later and outside training. Meant to go with the warm-up of its own weight,
    `linear(0, 1, 0.3)*layer_balanced_kl(0.3)`. (Vahdat & Kautz, 2020, arXiv:2007.03898, Appendix A, which by its
    authors' own correction divides by the layer's size D_l; Vahdat et al., 2018, arXiv:1802.04920, Appendix H)
    """

    def of(trace: Trace, context: Context) -> Tensor:
        kls = [divergence(q, p, z).mean(0) for z, q, p in trace.layers]
        layers = torch.stack(kls)
        if context.progress is None:
            return layers.sum(0)
        each = [kl.detach().mean() / z[0, 0].numel() for kl, (z, _, _) in zip(kls, trace.layers, strict=True)]
        used = averaged(torch.stack(each)).clamp(min=1e-6)
        gamma = torch.where(context.progress < fraction, used / used.mean(), 1.0)
        return (gamma[:, None] * layers).sum(0)

    return Term(f"layer_balanced_kl({fraction:.12g})", of)


@registry.term("iw_bound")
def iw_bound(samples: Annotated[int, at_least(1)]) -> Term:
    """−log (1/K) Σ_k p(x, z_k) / q(z_k | x): the importance-weighted bound (Burda et al., 2016, arXiv:1509.00519, Eq. 8)."""


    def of(trace: Trace, context: Context) -> Tensor:
        # another term may have asked for more samples: the bound takes its own
        return math.log(samples) - torch.logsumexp(log_weight(trace)[:samples], 0)

    return Term(f"iw_bound({samples})", of, samples)
