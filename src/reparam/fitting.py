"""What is estimated once training has ended: the likelihood's scale, a prior for the codes, and the latents' order."""

from __future__ import annotations

import math

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from .checkpoint import Axis
from .errors import UsageError
from .metrics.latents import axes_of, codes_of
from .priors import Mixture
from .recipe import Call, Recipe, parse_call
from .vae import VAE, Model

CODES = 20_000
"""Codes that a prior is fitted to; with fewer images, each is drawn several times."""
MOST_DIMS = 256
"""Beyond so many latent dimensions full covariances cost more than they bring."""
NOISE = 0.01
"""A dimension that carries less about an image, in nats, is left out of the fit."""


@torch.no_grad()
def calibrate_likelihood(model: Model, x: Tensor, seed: int = 0) -> None:
    """Fixes the likelihood's scale as the best one for images x (n, C, H, W) and one posterior draw each.

    Does nothing for a model without an encoder.
    """
    if not isinstance(model, VAE):
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        means = torch.cat([model.decode(model.encode(chunk, sample=True)[None]).mean[0] for chunk in x.split(250)])
    model.likelihood.calibrate(means, x)


@torch.no_grad()
def fit_prior(model: Model, recipe: Recipe, x: Tensor, seed: int = 0) -> str | None:
    """Fits the recipe's `fitted_prior` to the codes of images x and puts it into the model; returns it as a part call.

    With 'auto', a mixture for a prior that is fixed and a latent of at most 256 dimensions, else none.

    Raises:
        UsageError: a part that cannot be fitted to codes.
    """
    shape = model.latent.shape
    call = _resolve(recipe, possible=model.latent.can_be_fitted, learned=model.latent.prior_is_learned,
                    dims=math.prod(shape))
    if call is None or not isinstance(model, VAE):
        return None
    n = int(call.args[0] if call.args else call.kwargs.get("n", 50))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        draws = max(CODES // len(x), 1)
        codes = torch.cat([model.encode(chunk, sample=True).flatten(1).cpu()
                           for _ in range(draws) for chunk in x[:CODES].split(250)])
        informative = codes_of(model, x[:2000]).information.numpy() > NOISE
        with threadpool_limits(torch.get_num_threads()):  # waiting threads of several libraries hinder one another
            fitted = Mixture.fit(codes.numpy(), shape, n, seed, informative)
    model.latent.fitted = fitted.to(x.device)
    return str(Call("mixture", (len(fitted.logits),)))


def _resolve(recipe: Recipe, *, possible: bool, learned: bool, dims: int) -> Call | None:
    if recipe.fitted_prior == "auto":
        return Call("mixture", (50,)) if possible and not learned and dims <= MOST_DIMS else None
    call = parse_call(recipe.fitted_prior)
    if call.name == "none":
        return None
    if not possible:
        raise UsageError(f"nothing can be fitted to the codes of {recipe.latent} with the posterior {recipe.posterior}: "
                         "they are not one layer of real numbers. Choose a learned --prior")
    if call.name != "mixture":
        raise UsageError(f"{call.name!r} cannot be fitted to codes after training; fitted priors: mixture(n), none")
    return call


@torch.no_grad()
def latent_axes(model: Model, x: Tensor, seed: int = 0) -> tuple[Axis, ...]:
    """The latent dimensions by the information that they carry about images x; without an encoder, by how much they change
    an image."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return axes_of(codes_of(model, x)) if isinstance(model, VAE) else _drawn_axes(model)


DRAWN_AXES = 16
"""Dimensions of a GAN's latent that are kept for traversals."""


def _drawn_axes(model: Model) -> tuple[Axis, ...]:
    """By the mean square change of 16 images when a number of their codes moves by two standard deviations."""
    z = model.latent.generate(512, fitted=False).flatten(2)
    mean, std, few = z.mean((0, 1)), z.std((0, 1)), z[:, :16]
    changes = torch.zeros(z.shape[-1])
    for i in range(min(z.shape[-1], MOST_DIMS)):
        step = torch.zeros_like(mean)
        step[i] = std[i]
        low, high = (model.decode((few + way * step).unflatten(2, model.latent.shape)).mean for way in (-1, 1))
        changes[i] = (high - low).square().mean().cpu()
    order = changes.argsort(descending=True)[:DRAWN_AXES]
    return tuple(Axis(int(i), 0.0, round(float(mean[i]), 5), round(float(std[i]), 5)) for i in order)
