"""From a recipe and the shape of its images to a model and its objective: the only file that knows both."""

from __future__ import annotations

from . import registry
from .errors import UsageError
from .likelihoods import Likelihood
from .nets.layers import Shape
from .objective import Objective, parse_objective
from .recipe import Recipe
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
    latent = plan.build(encoder.features,
                        lambda features, shape: registry.posterior.make(recipe.posterior, features, shape),
                        lambda shape: registry.prior.make(recipe.prior, shape))
    likelihood: Likelihood = registry.likelihood.make(recipe.likelihood, image_shape)
    decoder = registry.decoder.make(recipe.decoder, plan.shape, (likelihood.channels, *image_shape[1:]))
    if fitted_prior is not None:
        latent.fitted = registry.prior.make(fitted_prior, plan.shape)
    return VAE(encoder, latent, decoder, likelihood)


def build_objective(recipe: Recipe) -> Objective:
    """The objective of a recipe."""
    return parse_objective(recipe.objective)
