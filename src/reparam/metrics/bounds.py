"""Likelihood: the ELBO with its terms, and log p(x) by importance sampling.

    log p(x) ≥ E[log (1/K) Σ_k w_k],  w_k = p(x, z_k) / q(z_k | x)        (Burda et al., 2016, arXiv:1509.00519)

The bound tightens as K grows; `iw_nll(K)` is its negative. Figures in nats are per image; bits per dimension divide by
the number of pixel values and log 2. For a density (gaussian, laplace) the latter refer to pixels in [0, 1] and may be
negative; only discrete likelihoods give bits that a file could be compressed to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UsageError
from ..registry import metric
from ..terms import kl, log_weight, nll
from ..vae import VAE
from .evaluation import Evaluation
from .figures import Figure, mean_figure


@torch.inference_mode()
def importance_nll(model: VAE, x: Tensor, samples: int, budget: int = 2500) -> Tensor:
    """−log (1/K) Σ_k w_k for each image of x (n, C, H, W), nats, (n,); at most `budget` decodes at a time."""
    at_once = min(samples, budget)
    results: list[Tensor] = []
    for chunk in x.split(max(budget // at_once, 1)):
        log_w = [log_weight(model(chunk, samples=min(at_once, samples - done))) for done in range(0, samples, at_once)]
        results.append(math.log(samples) - torch.logsumexp(torch.cat(log_w), 0))
    return torch.cat(results)


def _unit(evaluation: Evaluation) -> str:
    return "nats" if evaluation.model.likelihood.discrete else "nats (density)"


def _bits(name: str, evaluation: Evaluation, nats: Tensor) -> Figure:
    discrete = evaluation.model.likelihood.discrete
    note = "" if discrete else "of a density over pixels in [0, 1]: compare with models of the same likelihood only"
    dims = math.prod(evaluation.x.shape[1:])
    return mean_figure(f"{name} bits/dim", nats / (dims * math.log(2)),
                       "bits/dim" if discrete else "bits/dim (density)", note)


@metric("elbo")
def elbo(evaluation: Evaluation) -> list[Figure]:
    """The negative ELBO and its two terms, one sample per image."""
    distortion: list[Tensor] = []
    rate: list[Tensor] = []
    with evaluation.drawing():
        for chunk in evaluation.x.split(250):
            trace = evaluation.model(chunk)
            distortion.append(nll.of(trace).cpu())
            rate.append(kl.of(trace).cpu())
    d, r = torch.cat(distortion), torch.cat(rate)
    unit = _unit(evaluation)
    return [mean_figure("-elbo", d + r, unit), mean_figure("nll", d, unit), mean_figure("kl", r, "nats"),
            _bits("-elbo", evaluation, d + r)]


@metric("iw_nll")
def iw_nll(evaluation: Evaluation, samples: int = 100, images: int | None = None) -> list[Figure]:
    """Importance-weighted estimate of −log p(x) with K samples, which bounds it from above; on evenly spaced `images`."""
    if samples < 1 or (images is not None and images < 1):
        raise UsageError(f"iw_nll({samples}, images={images}): give at least one sample and one image")
    x = evaluation.x[:: max(len(evaluation.x) // images, 1)][:images] if images else evaluation.x
    with evaluation.drawing():
        values = importance_nll(evaluation.model, x, samples).cpu()
    return [mean_figure(f"iw_nll({samples})", values, _unit(evaluation)),
            _bits(f"iw_nll({samples})", evaluation, values)]
