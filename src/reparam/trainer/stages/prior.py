"""A prior fitted to a trained model's codes."""

from __future__ import annotations

import math
from typing import cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ...chunks import from_first
from ...errors import ModelFileError, UsageError
from ...models.build import MOST_DIMS
from ...models.codes import codes_of, posterior_moments
from ...models.latents import Latents
from ...models.latents.flat import OneLayer
from ...models.posteriors.gaussian import FullPosterior, GaussianPosterior
from ...models.priors import Mixture, Prior
from ...models.priors.riemannian import Riemannian
from ...models.sampler import FITTED_PRIOR, Sampler, build_stage
from ...models.space import Space
from ...models.vae import VAE, Model
from ...parts import registry
from ...parts.call import Call, parse_call
from ...parts.recipe import Recipe
from ...tensors import Shape, at_once, evenly
from .base import CODES, Data, Fitted, Stage, StageBudget, batches_of, train_part

BATCH = 256
"""Codes per step on an accelerator, at least: many take hardly longer than few."""
DRAWS, MOST_NUMBERS = 4, 100_000_000
"""Draws of each code that a prior learns from, and numbers in all of them, at most."""
MOST_CLASSES = 1000
AT_ONCE = ("mixture", "riemannian")
"""Priors that are fitted without steps, in the time that it takes."""
NOISE = 0.01
"""Dimensions with less information than this (nats) are excluded from the fit."""


class PriorStage(Stage):
    """Fits the recipe's `fitted_prior` to the codes of images. What is fitted at once takes the time that it takes; what
    learns step by step takes the budget. With labels, a prior that knows classes learns them."""

    name, share_field, doing = FITTED_PRIOR, "prior_share", "fitting the prior"

    def choice(self, recipe: Recipe, model: Model) -> str | None:
        """'auto' is none where the model's own prior is learned; else a mixture up to 256 dimensions, `flow_matching`
        beyond, and `autoregressive` for integer codes.

        Raises:
            UsageError: the model has no codes that a prior could be fitted to.
        """
        latent, space = model.latent, model.latent.fit_space
        if recipe.fitted_prior == "auto":
            if space is None or latent.prior_is_learned:
                return None
            if space.kind == "codes":
                return "autoregressive"
            return "mixture(50)" if math.prod(space.shape) <= MOST_DIMS else "flow_matching"
        call = parse_call(recipe.fitted_prior)
        if call.name == "none":
            return None
        if space is None and model.has_encoder:
            raise UsageError(f"nothing can be fitted to the codes of {recipe.latent} with the posterior {recipe.posterior}: "
                             "they are neither one layer of real numbers nor integer codes. Choose a learned --prior")
        return str(call)

    def share(self, recipe: Recipe, model: Model) -> float:
        call = self.choice(recipe, model)
        return 0.0 if call is None or parse_call(call).name in AT_ONCE else recipe.prior_share

    def check(self, recipe: Recipe, model: Model, image_shape: Shape) -> nn.Module | None:
        prior = super().check(recipe, model, image_shape)
        if isinstance(prior, Riemannian) and not _is_gaussian(model.latent):
            raise UsageError("the prior riemannian is made of Gaussian posteriors of one layer, --posterior gaussian or "
                             f"full, this model has {recipe.latent} with the posterior {recipe.posterior}; a mixture fits")
        if prior is not None and not any(True for _ in prior.parameters()):
            raise UsageError(f"the prior {self.choice(recipe, model)} has nothing to learn from codes; priors that can be "
                             "fitted: mixture, riemannian, two_stage, flow, spline_flow, autoregressive_flow, "
                             "flow_matching, and for integer codes autoregressive")
        return prior

    def fit(self, call: str, sampler: Sampler, recipe: Recipe, data: Data, budget: StageBudget) -> Fitted:
        model, parsed = cast(VAE, sampler.model), parse_call(call)
        if parsed.name == "mixture":
            return _fit_mixture(model, parsed, data.x, recipe.seed, budget.codes)
        if parsed.name == "riemannian":
            return _fit_riemannian(model, parsed, data.x, recipe.seed, budget.codes)
        return _learn(model, parsed, data, budget)


def _is_gaussian(latent: Latents) -> bool:
    return isinstance(latent, OneLayer) and isinstance(latent.posterior, GaussianPosterior | FullPosterior)


@torch.no_grad()
def _fit_mixture(model: VAE, call: Call, x: Tensor, seed: int, most: int) -> Fitted:
    n = int(call.args[0] if call.args else call.kwargs.get("n", 50))
    subset, x = x[evenly(len(x), 2000)], x[evenly(len(x), most)]
    codes = codes_to_fit(model, x, 1, most).flatten(1)
    informative = (codes_of(model, subset).information.numpy() > NOISE
                   if codes.shape[1] == math.prod(model.latent.shape) else None)

    def fit() -> Mixture:
        with threadpool_limits(torch.get_num_threads()):  # waiting threads of several libraries hinder one another
            return Mixture.fit(codes.cpu().numpy(), _space(model).shape, n, seed, informative)

    fitted = from_first(fit)
    return Fitted(f"mixture({len(fitted.logits)})", fitted)


@torch.no_grad()
def _fit_riemannian(model: VAE, call: Call, x: Tensor, seed: int, most: int) -> Fitted:
    asked = cast(Riemannian, build_stage(FITTED_PRIOR, str(call), model, tuple(x.shape[1:])))
    moments = [posterior_moments(model, chunk) for chunk in x[evenly(len(x), most)].split(at_once(x.shape))]
    means, variances = (torch.cat(each) for each in zip(*moments, strict=True))

    def fit() -> Riemannian:
        with threadpool_limits(torch.get_num_threads()):
            return Riemannian.fit(means, variances, asked.shape, len(asked.means), asked.spread, seed).cpu()

    fitted = from_first(fit)
    return Fitted(f"riemannian({len(fitted.means)}, {fitted.spread})", fitted)


def _space(model: VAE) -> Space:
    space = model.latent.fit_space
    if space is None:
        raise UsageError("nothing can be fitted to the codes of this latent: choose a learned --prior")
    return space


@torch.no_grad()
def codes_to_fit(model: VAE, x: Tensor, draws: int = DRAWS, least: int = CODES) -> Tensor:
    """Draws of the posterior of images x, (m, *d): all images once, then all again. `draws` of each where memory allows,
    more where that makes fewer than `least` of them.

    Raises:
        ModelFileError: the model gives codes that are not finite, or whose squares are not.
    """
    wanted, numbers = max(draws, min(-(-least // len(x)), 100)), len(x) * math.prod(_space(model).shape)
    draws = max(1, min(wanted, MOST_NUMBERS // numbers))
    codes = torch.cat([model.latent.to_fit(model.observe(chunk), draws) for chunk in x.split(at_once(x.shape))],
                      1).flatten(0, 1)
    if not bool(codes.square().isfinite().all()):
        raise ModelFileError("codes of images are beyond measure, so no prior can be fitted to them: the weights are "
                             "damaged, or its training had diverged")
    return codes


def codes_a_step(prior: Prior, device: torch.device) -> int:
    """Batch size of a fit."""
    return prior.batch if device.type == "cpu" else max(prior.batch, BATCH)


def _learn(model: VAE, call: Call, data: Data, budget: StageBudget) -> Fitted:
    """Trains a prior step by step, on codes that are drawn once."""
    x = data.x
    call, labels = _with_classes(call, data.y)
    prior = cast(Prior, build_stage(FITTED_PRIOR, str(call), model, tuple(x.shape[1:]))).to(x.device)
    codes = codes_to_fit(model, x)
    labels = labels.repeat(len(codes) // len(labels)) if labels is not None else None
    prior.prepare(codes, labels)
    batches = batches_of(codes, labels, codes_a_step(prior, x.device), budget.processes)
    return Fitted(str(call), train_part(prior, lambda z, y: (z, y), batches, budget, x.device))


def _with_classes(call: Call, y: Tensor | None) -> tuple[Call, Tensor | None]:
    """The call of `flow_matching` with the number of classes that the labels have, and the labels; other priors take none.

    Raises:
        UsageError: the call names fewer classes than there are, or classes where images have no labels.
    """
    if call.name != "flow_matching":
        return call, None
    most = int(y.max()) + 1 if y is not None else 0
    classes = registry.prior.check(call).arguments.get("classes")
    if classes is None and 2 <= most <= MOST_CLASSES:
        return Call(call.name, call.args, call.kwargs | {"classes": most}), y
    if classes and not most:
        raise UsageError(f"{call}: the images have no labels; leave the classes out")
    if classes and classes < most:
        raise UsageError(f"{call}: the images are of {most} classes; give as many, or leave the number out")
    return call, y if classes else None
