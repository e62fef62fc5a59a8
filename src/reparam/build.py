"""From a recipe and the shape of its images to a model and its objective: the only file that knows both."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch

from . import registry
from .errors import UsageError
from .likelihoods import Likelihood
from .nets.layers import Shape
from .objective import Objective, parse_objective
from .posteriors import Posterior
from .priors import Prior
from .recipe import Recipe, parse_call
from .space import Space
from .vae import VAE


def build_model(recipe: Recipe, image_shape: Shape, *, fitted_prior: str | None = None) -> VAE:
    """The model of a recipe for images of shape (C, H, W), freshly initialised.

    `fitted_prior` adds the module of a prior that was fitted after training, for its weights to be loaded into.

    Raises:
        UsageError: an unknown part, or parts and image that do not fit together.
    """
    if min(image_shape[1:]) < 1 or max(image_shape[1:]) > 256:
        raise UsageError(f"images are {image_shape[2]}×{image_shape[1]}; sides from 1 to 256 are supported: "
                         "give an --image-size")
    plan = registry.latent.make(recipe.latent, image_shape)
    encoder = registry.encoder.make(recipe.encoder, image_shape, plan.grid)

    def posterior(features: Shape, shape: Shape) -> Posterior:
        return registry.posterior.make(recipe.posterior, features, shape)

    def prior(q: Posterior, direct: bool) -> Prior:
        space = replace(q.space, image_shape=image_shape, inference=(encoder, q) if direct else ())
        return build_prior(recipe.prior, space, of=f"the posterior {recipe.posterior!r}")

    latent = plan.build(encoder.features, posterior, prior)
    likelihood: Likelihood = registry.likelihood.make(recipe.likelihood, image_shape)
    decoder = registry.decoder.make(recipe.decoder, latent.features, (likelihood.channels, *image_shape[1:]))
    if fitted_prior is not None:
        latent.fitted = build_prior(fitted_prior, Space(latent.shape), of="codes")
    return VAE(encoder, latent, decoder, likelihood)


def build_prior(what: str, space: Space, *, of: str) -> Prior:
    """The prior that `what` names, over `space`, which `of` made.

    Raises:
        UsageError: an unknown prior, or one that is no density on such a space.
    """
    call = parse_call(what)
    registry.prior.check(call)
    parts = {name: part for name, part in registry.prior.parts.items()
             if inspect.isclass(part) and issubclass(part, Prior)}
    if call.name not in parts:
        raise UsageError(f"the prior {call.name!r} is not a class derived from reparam.priors.Prior")
    if space.kind not in parts[call.name].covers:
        fitting = [registry.prior.signature(name) for name, part in parts.items() if space.kind in part.covers]
        raise UsageError(f"the prior {what!r} is a density over {' or '.join(_KINDS[k] for k in parts[call.name].covers)}, "
                         f"and {of} lives in {_KINDS[space.kind]}. Priors over these: {', '.join(fitting) or 'none'}")
    return registry.prior.make(call, space)


_KINDS = {"real": "real numbers", "sphere": "points of a sphere", "relaxed": "relaxed bits or classes",
          "codes": "integer codes"}


def build_objective(recipe: Recipe) -> Objective:
    """The objective of a recipe."""
    return parse_objective(recipe.objective)


def check(recipe: Recipe, image_shape: Shape = (1, 32, 32)) -> None:
    """Builds a recipe's model and objective and tries them on two empty images, so that nothing senseless is started.

    Raises:
        UsageError: parts that do not exist or do not fit together.
    """
    objective = build_objective(recipe)
    with torch.random.fork_rng():
        model = build_model(recipe, image_shape)
        objective.parts(model(torch.zeros(2, *image_shape), samples=objective.samples))
