"""Likelihood regret: how much better an image's bound gets when its posterior is fitted to it alone.

    LR(x) = max over τ of L(x; θ, τ) − L(x; θ, φ)

An encoder serves images like those that it learned from; for others its posterior is a poor one, and one that is fitted
to the image by itself explains it much better. (Xiao et al., 2020, arXiv:2003.02977, Eq. 7)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.stream import binarized
from ..distributions.base import kl
from ..distributions.gaussian import Gaussian
from ..errors import UsageError
from ..models.latents import OneLayer
from ..pretrained.image_model import ImageModel
from ..tensors import forked_rng
from .statistics import Array

STEPS = 100
RATE = 0.03
"""Of Adam."""
DRAWS = 16
"""Of a posterior that its bound is measured with, before and after."""


@dataclass(frozen=True)
class Posteriors:
    """N(loc, exp(log_var)) of n images."""

    loc: Tensor
    log_var: Tensor


def regret(model: ImageModel, x: Float[Tensor, "n c h w"], *, steps: int = STEPS, seed: int = 0,
           report: Callable[[int], None] | None = None) -> Array:
    """Nats by which a posterior that is fitted to each image raises its bound above the encoder's, (n,), at least 0.

    Adam moves the mean and log variance; the bounds before and after are measured with one draw of noise, other than what
    was fitted with. The encoder's own posterior counts among the candidates.

    Raises:
        UsageError: a model whose posterior is no Gaussian of one layer.
    """
    x = binarized(x, shared=True) if model.config.recipe.binarize else x
    rows: list[Tensor] = []
    for chunk in x.split(model.at_once):
        chunk = chunk.to(model.device)
        start = encoded(model, chunk)
        rows.append(bound(model, chunk, fitted(model, chunk, start, steps=steps, seed=seed), seed=seed + 1)
                    - bound(model, chunk, start, seed=seed + 1))
        if report:
            report(sum(map(len, rows)))
    return torch.cat(rows).clamp(min=0).double().cpu().numpy() if rows else np.zeros(0)


def encoded(model: ImageModel, x: Tensor) -> Posteriors:
    """The encoder's posteriors.

    Raises:
        UsageError: they are no Gaussians of one layer.
    """
    with torch.no_grad():
        q = _latent(model).posterior(model.vae.encoder(x))
    if not isinstance(q, Gaussian):
        raise UsageError(_unsuited(model))
    return Posteriors(q.loc, q.log_var)


def fitted(model: ImageModel, x: Tensor, start: Posteriors, *, steps: int = STEPS, seed: int = 0) -> Posteriors:
    """Posteriors that Adam found for each image by itself, from a start."""
    loc, log_var = (t.clone().requires_grad_() for t in (start.loc, start.log_var))
    adam = torch.optim.Adam([loc, log_var], lr=RATE)  # whose step is of one size in every number, so images do not mix
    frozen = [p for p in model.network.parameters() if p.requires_grad]
    for p in frozen:
        p.requires_grad_(False)
    try:
        with forked_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            for _ in range(steps):
                adam.zero_grad()
                (-_bounds(model, x, Posteriors(loc, log_var), 1).sum()).backward()
                adam.step()
    finally:
        for p in frozen:
            p.requires_grad_(True)
    return Posteriors(loc.detach(), log_var.detach())


@torch.no_grad()
def bound(model: ImageModel, x: Tensor, q: Posteriors, *, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """E_q log p(x | z) − KL(q ‖ p) of each image, nats, (n,), with noise that all images share."""
    with forked_rng():
        torch.manual_seed(seed)
        return _bounds(model, x, q, draws)


def _bounds(model: ImageModel, x: Tensor, q: Posteriors, draws: int) -> Tensor:
    shape = q.loc.shape[1:]
    noise = torch.randn(draws, 1, *shape, device=x.device)
    z = q.loc + (0.5 * q.log_var).exp() * noise
    divergence = kl(Gaussian(q.loc, q.log_var, len(shape)), _latent(model).prior(), z)
    return (model.vae.decode(z).log_prob(x) - divergence).mean(0)


def _latent(model: ImageModel) -> OneLayer:
    latent = model.vae.latent
    if not isinstance(latent, OneLayer) or latent.posterior.asks:
        raise UsageError(_unsuited(model))
    return latent


def _unsuited(model: ImageModel) -> str:
    recipe = model.config.recipe
    return ("regret fits the mean and variance of a Gaussian posterior of one layer to each image; this model has the "
            f"latent {recipe.latent} and the posterior {recipe.posterior}: take another score, such as typicality")
