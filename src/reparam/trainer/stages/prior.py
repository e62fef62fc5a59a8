"""A prior fitted to a trained model's codes."""

from __future__ import annotations

import math

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...errors import ModelFileError, UsageError
from ...models.build import build_prior
from ...models.codes import codes_of
from ...models.latents import Latents
from ...models.priors import Mixture, Prior
from ...models.space import Space
from ...models.vae import VAE, Model
from ...parts import registry
from ...parts.call import Call
from ...parts.recipe import Recipe
from ...tensors import evenly
from .base import BATCH, Effort, Shares, batches_of, fitting_of, train_part


def check_fitting(recipe: Recipe, latent: Latents) -> None:
    """Refuses a prior that could not be fitted to the codes once training has ended, and shares that leave no time to train.

    Raises:
        UsageError: that, with the reason.
    """
    call, space = fitting_of(recipe, latent), latent.fit_space
    Shares.of(recipe, latent)
    if call is None or space is None:
        return
    with torch.random.fork_rng(), torch.device("meta"):  # its covariances alone may be gigabytes
        made = build_prior(str(call), space, of="codes")
    if not any(True for _ in made.parameters()):
        raise UsageError(f"the prior {call} has nothing to learn from codes; priors that can be fitted: mixture, flow, "
                         "spline_flow, autoregressive_flow, flow_matching, and for integer codes autoregressive")

CODES = 20_000
"""Codes that a prior is fitted to; with fewer images, each is drawn several times, 100 at most."""
DRAWS, MOST_NUMBERS = 4, 100_000_000
"""Draws of each code that a prior learns from, as far as so many numbers hold them."""
MOST_CLASSES = 1000
NOISE = 0.01
"""A dimension that carries less about an image, in nats, is left out of the fit."""


def fit_prior(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, y: Tensor | None = None,
              effort: Effort = Effort(steps=2000)) -> str | None:
    """Fits the recipe's `fitted_prior` to the codes of images x and puts it into the model; returns it as a part call.

    A mixture takes the time that it takes; what learns step by step takes the `effort`. With labels `y` (n,), −1 for
    none, a prior that knows classes learns them. 'auto' stands for what `fitting_of` says.

    Raises:
        UsageError: a part that cannot be fitted to codes.
    """
    call = fitting_of(recipe, model.latent)
    if call is None or not isinstance(model, VAE):
        return None
    check_fitting(recipe, model.latent)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if call.name == "mixture":
            call, fitted = _fit_mixture(model, call, x, seed)
        else:
            call, fitted = _learn(model, call, x, y, effort)
    model.latent.fitted = fitted.to(x.device).eval().requires_grad_(False)
    return str(call)


@torch.no_grad()
def _fit_mixture(model: VAE, call: Call, x: Tensor, seed: int) -> tuple[Call, Prior]:
    n = int(call.args[0] if call.args else call.kwargs.get("n", 50))
    few, x = x[evenly(len(x), 2000)], x[evenly(len(x), CODES)]
    codes = codes_to_fit(model, x, 1).flatten(1)
    informative = (codes_of(model, few).information.numpy() > NOISE
                   if codes.shape[1] == math.prod(model.latent.shape) else None)
    with threadpool_limits(torch.get_num_threads()):  # waiting threads of several libraries hinder one another
        fitted = Mixture.fit(codes.cpu().numpy(), _space(model).shape, n, seed, informative)
    return Call("mixture", (len(fitted.logits),)), fitted


def _space(model: VAE) -> Space:
    space = model.latent.fit_space
    if space is None:
        raise UsageError("nothing can be fitted to the codes of this latent: choose a learned --prior")
    return space


@torch.no_grad()
def codes_to_fit(model: VAE, x: Tensor, most: int = DRAWS) -> Tensor:
    """Draws of the posterior of images x, `most` for each where memory allows and more where images are few: (m, *d),
    image after image, over and over.

    Raises:
        ModelFileError: the model gives codes that are not finite, or whose squares are not.
    """
    draws = max(min(-(-CODES // len(x)), 100), min(most, MOST_NUMBERS // (len(x) * math.prod(_space(model).shape))))
    codes = torch.cat([model.latent.to_fit(model.encoder(chunk), draws) for chunk in x.split(250)], 1).flatten(0, 1)
    if not bool(codes.square().isfinite().all()):
        raise ModelFileError("codes of images are beyond measure, so no prior can be fitted to them: the weights are "
                             "damaged, or its training had diverged")
    return codes


def codes_a_step(prior: Prior, device: torch.device) -> int:
    """How many codes a fit takes at a time."""
    return prior.batch if device.type == "cpu" else max(prior.batch, BATCH)


def _learn(model: VAE, call: Call, x: Tensor, y: Tensor | None, effort: Effort) -> tuple[Call, Prior]:
    """Trains a prior on codes that are drawn once, with the loop that trains models."""
    call, labels = _with_classes(call, y)
    prior = build_prior(str(call), _space(model), of="codes").to(x.device)
    codes = codes_to_fit(model, x)
    labels = labels.repeat(len(codes) // len(labels)) if labels is not None else None
    prior.prepare(codes, labels)
    batches = batches_of(codes, labels, codes_a_step(prior, x.device))
    return call, train_part(prior, lambda z, y: (z, y), batches, effort, x.device)


def _with_classes(call: Call, y: Tensor | None) -> tuple[Call, Tensor | None]:
    """`flow_matching` is told how many classes the labels have, and gets them; other priors get none.

    Raises:
        UsageError: it is told of fewer classes than there are, or of classes where images have no labels.
    """
    if call.name != "flow_matching":
        return call, None
    most = int(y.max()) + 1 if y is not None else 0
    told = registry.prior.check(call).arguments.get("classes")
    if told is None and 2 <= most <= MOST_CLASSES:
        return Call(call.name, call.args, call.kwargs | {"classes": most}), y
    if told and not most:
        raise UsageError(f"{call}: the images have no labels; leave the classes out")
    if told and told < most:
        raise UsageError(f"{call}: the images are of {most} classes; give as many, or leave the number out")
    return call, y if told else None
