"""The evidence lower bound: distortion, rate, and what keeps the rate alive."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

from .. import registry
from ..distributions import Gaussian, gaussian_kl
from ..distributions import kl as divergence
from ..errors import UsageError
from ..objective import Term
from ..vae import Trace


def rate(trace: Trace) -> Tensor:
    """KL(q ‖ p) over all layers, (K, B), nats."""
    return reduce(torch.add, (divergence(layer.q, layer.p, layer.z) for layer in trace.latents))


def log_weight(trace: Trace) -> Tensor:
    """log p(x, z) − log q(z | x) of each importance sample, (K, B), nats."""
    return reduce(torch.add, (layer.p.log_prob(layer.z) - layer.q.log_prob(layer.z) for layer in trace.latents),
                  trace.log_px)


nll = Term("nll", lambda trace: -trace.log_px.mean(0))
kl = Term("kl", lambda trace: rate(trace).mean(0))


@registry.term("nll")
def _nll() -> Term:
    """−E_q[log p(x | z)]: the distortion."""
    return nll


@registry.term("kl")
def _kl() -> Term:
    """KL(q(z | x) ‖ p(z)): the rate."""
    return kl


@registry.term("free_bits")
def free_bits(nats: float) -> Term:
    """The KL, where each latent dimension counts for at least `nats` on average over the batch.

    Σ_d max(λ, E_B[KL_d]): below λ a dimension feels no pull to the prior (Kingma et al., 2016, arXiv:1606.04934,
    Eq. 15). Where the KL has no closed form per dimension (a flow prior), a layer as a whole is the unit.
    """

    def of(trace: Trace) -> Tensor:
        total = trace.log_px.new_zeros(())
        for z, q, p in trace.latents:
            if isinstance(q, Gaussian) and isinstance(p, Gaussian):
                units = gaussian_kl(q, p).flatten(1).mean(0)
            else:
                units = divergence(q, p, z).mean()[None]
            total = total + units.clamp(min=nats).sum()
        return total.expand(len(trace.x))

    return Term(f"free_bits({nats:.12g})", of)


@registry.term("iw_bound")
def iw_bound(samples: int) -> Term:
    """−log (1/K) Σ_k p(x, z_k) / q(z_k | x): the importance-weighted bound (Burda et al., 2016, arXiv:1509.00519, Eq. 8)."""

    if samples < 1:
        raise UsageError(f"iw_bound({samples}): give a whole number of samples, at least 1")

    def of(trace: Trace) -> Tensor:
        # another term may have asked for more samples: the bound takes its own
        return math.log(samples) - torch.logsumexp(log_weight(trace)[:samples], 0)

    return Term(f"iw_bound({samples})", of, samples)
