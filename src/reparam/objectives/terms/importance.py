"""Bounds and gradients from several importance samples, log w = log p(x, z) − log q(z | x) at z ~ q.

A bound's own gradient is not always the best estimate of itself. Where an estimate differs from what autograd makes of
the bound, the term has the bound as its value and the estimate as its gradient, so that finite differences of the value
do not give the gradient.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Annotated

import torch
from torch import Tensor

from ...distributions.base import stopped
from ...errors import UsageError
from ...models.trace import Trace, log_weight
from ...parts import registry
from ...parts.ranges import at_least, between
from ..context import Context
from ..objective import Term

Count = Annotated[int, at_least(1)]
"""Of importance samples."""


def _pathwise_log_weight(trace: Trace) -> Tensor:
    """log w of each sample, where gradients reach the encoder through z alone, (K, B), nats."""
    return reduce(torch.add, (layer.p.log_prob(layer.z) - stopped(layer.q).log_prob(layer.z) for layer in trace.layers),
                  trace.log_px)


def _model_log_prob(trace: Trace, term: str) -> Tensor:
    """log p(x, z) of each sample, where no gradient reaches the encoder, (K, B), nats: a second decode of the same z."""
    z, _, p = trace.layers[0]
    if len(trace.layers) > 1 or trace.decoder_input is not z or trace.decode is None:
        raise UsageError(f"{term} gives encoder and decoder a gradient each, for which the decoder must read z itself, from "
                         "one stochastic layer of real numbers, and nothing else (no layers above, no classes); use "
                         "stl, iw_bound or miwae with this latent")
    return trace.decode(z.detach()).log_prob(trace.x) + p.log_prob(z.detach())


def _bound(log_w: Tensor) -> Tensor:
    """log (1/K) Σ_k w_k over the first axis."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def _with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """The one's value with the other's gradient."""
    return value.detach() + (surrogate - surrogate.detach())


@registry.term("stl")
def stl(samples: Count = 1) -> Term:
    """The negative ELBO without the score of q, "sticking the landing" (Roeder et al., 2017, arXiv:1703.09194).

    −(1/K) Σ_k [log p(x, z_k) − log q̄(z_k | x)], where q̄ is q with its parameters held constant: what is left out has
    mean zero, and without it the gradient's variance is zero where q is the true posterior. Several layers are as good as
    one. Replaces `nll + kl`; nats per example.

    Raises:
        UsageError: a posterior that is computed by a network (a flow) and cannot be held constant.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        return -_pathwise_log_weight(trace)[:samples].mean(0)

    return Term(f"stl({samples})", of, samples)


@registry.term("dreg")
def dreg(samples: Count) -> Term:
    """`iw_bound` with the doubly reparameterised gradient (Tucker et al., 2019, arXiv:1810.04152).

    Encoder: Σ_k w̃_k² ∂log w_k/∂z_k · ∂z_k/∂φ; decoder and prior: Σ_k w̃_k ∂log w_k/∂θ, as ever, with w̃ = w / Σ_k w_k.
    It has the mean of the bound's own gradient, and a signal-to-noise ratio that grows with K instead of falling.
    Costs a second decode. Replaces `nll + kl`; other terms may stand beside it. Nats per example.

    Raises:
        UsageError: a decoder that reads anything but one layer's z, or a posterior that is computed by a network (a flow).
    """
    name = f"dreg({samples})"

    def of(trace: Trace, context: Context) -> Tensor:
        live, model = _pathwise_log_weight(trace)[:samples], _model_log_prob(trace, name)[:samples]
        w = live.detach().softmax(0)
        # The decoder's gradient through the first sum has the encoder's weights; the second sum corrects it.
        surrogate = (w**2 * live).sum(0) + ((w - w**2) * model).sum(0)
        return -_with_gradient(_bound(live), surrogate)

    return Term(name, of, samples)


@registry.term("miwae")
def miwae(m: Count, k: Count) -> Term:
    """−(1/M) Σ_m log (1/K) Σ_k w_mk: the mean of M bounds of K samples each (Rainforth et al., 2018, arXiv:1802.04537).

    `miwae(1, k)` is `iw_bound(k)`, and `miwae(m, 1)` the negative ELBO from m samples. Nats per example.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        log_w = log_weight(trace)[: m * k].unflatten(0, (m, k))
        return -_bound(log_w.transpose(0, 1)).mean(0)

    return Term(f"miwae({m}, {k})", of, m * k)


@registry.term("ciwae")
def ciwae(beta: Annotated[float, between(0, 1)], k: Count) -> Term:
    """−β ELBO − (1 − β) IWAE_K, both from the same K samples (Rainforth et al., 2018, arXiv:1802.04537).

    `ciwae(1, k)` is the negative ELBO and `ciwae(0, k)` is `iw_bound(k)`. Nats per example.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        log_w = log_weight(trace)[:k]
        return -beta * log_w.mean(0) - (1 - beta) * _bound(log_w)

    return Term(f"ciwae({beta:.12g}, {k})", of, k)


@registry.term("piwae")
def piwae(m: Count, k: Count) -> Term:
    """Decoder and prior learn by `iw_bound(m*k)`, the encoder by `miwae(m, k)`.

    The tighter bound is the better one for the model, and the looser one has the clearer gradient for the encoder
    (Rainforth et al., 2018, arXiv:1802.04537). Its value is that of `iw_bound(m*k)`. Costs a second decode.
    Replaces `nll + kl`; nats per example.

    Raises:
        UsageError: a decoder that reads anything but one layer's z.
    """
    name = f"piwae({m}, {k})"

    def of(trace: Trace, context: Context) -> Tensor:
        log_w, model = log_weight(trace)[: m * k], _model_log_prob(trace, name)[: m * k]
        fixed = log_w.detach()
        w = fixed.softmax(0)
        each = fixed.unflatten(0, (m, k)).softmax(1).flatten(0, 1) / m
        surrogate = (each * log_w).sum(0) + ((w - each) * model).sum(0)
        return -_with_gradient(_bound(fixed), surrogate)

    return Term(name, of, m * k)
