"""Likelihood: the ELBO with its terms, and log p(x) by importance sampling.

    log p(x) ≥ E[log (1/K) Σ_k w_k],  w_k = p(x, z_k) / q(z_k | x)        (Burda et al., 2016, arXiv:1509.00519)

The bound tightens as K grows; `iw_nll(K)` is its negative. Figures in nats are per image; bits per dimension divide by
the number of pixel values and log 2. For a density (gaussian, laplace) the latter refer to pixels in [0, 1] and may be
negative; only discrete likelihoods give bits that a file could be compressed to. What `bernoulli` says of grey pixels is
neither: a cross-entropy, whose exponential does not integrate to 1 over [0, 1] (Loaiza-Ganem & Cunningham, 2019,
arXiv:1907.06845), so that it bounds no log p(x) and no bits are made of it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor

from ..chunks import columns_in_chunks, in_chunks
from ..distributions.base import kl as divergence
from ..distributions.point import Point
from ..models.likelihoods import BernoulliLikelihood
from ..models.trace import log_weight
from ..models.vae import VAE
from ..parts.ranges import at_least
from ..parts.registry import metric
from ..tensors import evenly
from .catalogue import FigureType, measures
from .evaluation import Evaluation, Unavailable
from .figures import Figure

PIXELS_AT_ONCE = 500_000
"""Pixel values that are decoded at a time: what passes between layers then stays in a processor's cache. Five times as many
take 1.4 to 2.4 times as long."""


@torch.inference_mode()
def importance_nll(model: VAE, x: Tensor, samples: int) -> Tensor:
    """−log (1/K) Σ_k w_k for each image of x (n, C, H, W), nats, (n,)."""
    decodes = max(PIXELS_AT_ONCE // x[0].numel(), 1)
    at_once = min(samples, decodes)

    def of_chunk(chunk: Tensor) -> Tensor:
        log_w = [log_weight(model(chunk, samples=min(at_once, samples - done))) for done in range(0, samples, at_once)]
        return math.log(samples) - torch.logsumexp(torch.cat(log_w), 0)

    return in_chunks(of_chunk, x, size=max(decodes // at_once, 1))


def _with_likelihood(evaluation: Evaluation) -> VAE:
    """The model, which has an encoder and a likelihood.

    Raises:
        Unavailable: it lacks one.
    """
    model = evaluation.vae
    if not model.likelihood.has_density:
        raise Unavailable("this model has the likelihood implicit, which gives images no density: measure its samples and "
                          "reconstructions instead, such as with fd, psnr", short="its likelihood gives images no density")
    return model


def _is_cross_entropy(evaluation: Evaluation) -> bool:
    """Whether the likelihood is of black and white alone, and the images are grey."""
    return (isinstance(evaluation.model.likelihood, BernoulliLikelihood)
            and bool(((evaluation.x > 0) & (evaluation.x < 1)).any()))


def _likelihood_of(evaluation: Evaluation) -> dict[str, Any]:
    """What the model's likelihood makes of a figure in nats: a density, a probability, or neither."""
    if _is_cross_entropy(evaluation):
        return {"unit": "nats (cross-entropy, not a density)"}
    return {"is_density": not evaluation.model.likelihood.discrete}


def _in_both_units(nats: FigureType, bits: FigureType, evaluation: Evaluation, values: Tensor, arguments: str = ""
                   ) -> list[Figure]:
    """In nats, and in bits/dim where there are such; `arguments` of the metric follow the name."""
    name, kind = nats.name + arguments, _likelihood_of(evaluation)
    if _is_cross_entropy(evaluation):
        return [nats.mean(values, "of grey pixels under bernoulli, which has no density of them and so no bits/dim: "
                          "binarize, or choose the likelihood continuous_bernoulli", name=name, **kind)]
    note = "of a density over pixels in [0, 1]: compare with models of the same likelihood only"
    dims = math.prod(evaluation.x.shape[1:])
    return [nats.mean(values, name=name, **kind),
            bits.mean(values / (dims * math.log(2)), note if kind["is_density"] else "", name=f"{name} bits/dim", **kind)]


NO_BOUND = "a deterministic posterior bounds no likelihood"
NO_BITS = "a cross-entropy of grey pixels, which has no bits/dim"
ELBO = FigureType("-elbo", "Likelihood", "nats", "upper bound on −log p(x)", "lower", absent=NO_BOUND)
ELBO_BITS = FigureType("-elbo bits/dim", "Likelihood", "bits/dim", "the same for each pixel value", "lower", headline=False,
                       absent=f"{NO_BITS}, or {NO_BOUND}")
DISTORTION = FigureType("nll", "Likelihood", "nats", "the bound's reconstruction term",
                        why_neither="one of the bound's two terms, which are traded for one another")
RATE = FigureType("kl", "Likelihood", "nats", "the bound's KL term",
                  why_neither="one of the bound's two terms, which are traded for one another", absent=NO_BOUND)


@metric("elbo")
@measures(ELBO, ELBO_BITS, DISTORTION, RATE)
def elbo(evaluation: Evaluation) -> list[Figure]:
    """The negative ELBO and its two terms, one sample per image, and the KL of each layer of a hierarchy.

    Of a deterministic posterior, which bounds nothing, only the distortion.
    """
    model, kind = _with_likelihood(evaluation), _likelihood_of(evaluation)

    def terms(chunk: Tensor) -> tuple[Tensor, Tensor]:
        trace = model(chunk)
        rates = [divergence(layer.q, layer.p, layer.z).mean(0) for layer in trace.layers]
        return -trace.log_px.mean(0).cpu(), torch.stack(rates, 1).cpu()

    with evaluation.drawing():
        d, rates = columns_in_chunks(terms, evaluation.x, size=evaluation.at_once)
    if _is_deterministic(evaluation):
        return [DISTORTION.mean(d, NO_BOUND, **kind)]
    r = rates.sum(1)
    figures = [*_in_both_units(ELBO, ELBO_BITS, evaluation, d + r), DISTORTION.mean(d, **kind), RATE.mean(r)]
    if rates.shape[1] > 1:
        figures += [RATE.mean(layer, "counted from the top", name=f"kl of layer {i}")
                    for i, layer in enumerate(rates.unbind(1), 1)]
    return figures


def _is_deterministic(evaluation: Evaluation) -> bool:
    """Whether a layer's posterior is a point."""
    with evaluation.drawing():
        return any(isinstance(layer.q, Point) for layer in evaluation.vae(evaluation.x[:1]).layers)


IW_NLL = FigureType("iw_nll", "Likelihood", "nats", "tighter upper bound on −log p(x)", "lower", headline=False)
IW_NLL_BITS = FigureType("iw_nll bits/dim", "Likelihood", "bits/dim", "the same for each pixel value", "lower",
                         headline=False, absent=NO_BITS)


@metric("iw_nll")
@measures(IW_NLL, IW_NLL_BITS)
def iw_nll(evaluation: Evaluation, samples: Annotated[int, at_least(1)] = 100,
           images: Annotated[int, at_least(1)] | None = None) -> list[Figure]:
    """Importance-weighted estimate of −log p(x) with K samples, which bounds it from above; on evenly spaced `images`."""
    model = _with_likelihood(evaluation)
    x = evaluation.x[evenly(len(evaluation.x), images)] if images else evaluation.x
    if _is_deterministic(evaluation):
        raise Unavailable(NO_BOUND)
    with evaluation.drawing():
        values = importance_nll(model, x, samples).cpu()
    return _in_both_units(IW_NLL, IW_NLL_BITS, evaluation, values, f"({samples})")
