"""From a recipe and the shape of its images to an untrained model."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..errors import UsageError
from ..nets.base import DECODERS, ENCODERS
from ..parts.call import parse_call
from ..parts.ranges import MOST_SIDE
from ..parts.recipe import Recipe
from ..tensors import Shape
from .latents import LATENTS, Drawn, FlatSpec, LatentSpec
from .likelihoods import LIKELIHOODS, Likelihood
from .posteriors import POSTERIORS, Posterior
from .priors import PRIORS, Prior
from .space import Space
from .vae import VAE, Generator, Model


def build_model(recipe: Recipe, image_shape: Shape) -> Model:
    """The model of a recipe for images of shape (C, H, W), freshly initialised: a VAE, or without an encoder a generator.
    What is trained after it is not part of it; see `sampler.py`.

    Raises:
        UsageError: an unknown part, or parts and image that do not fit together.
    """
    if min(image_shape[1:]) < 1 or max(image_shape[1:]) > MOST_SIDE:
        raise UsageError(f"images are {image_shape[2]}×{image_shape[1]}; sides from 1 to {MOST_SIDE} are supported: "
                         "give an --image-size")
    c, h, w = image_shape
    plan = LATENTS.make(recipe.latent, image_shape)
    likelihood = LIKELIHOODS.make(recipe.likelihood, image_shape)
    out_shape = (likelihood.channels, *image_shape[1:])
    if not recipe.has_encoder:
        generator = _generator(recipe, plan, likelihood, out_shape)
        generator.recipe, generator.image_shape = recipe, (c, h, w)
        return generator
    encoder = ENCODERS.make(recipe.encoder, image_shape, plan.grid)

    def posterior(features: Shape, shape: Shape) -> Posterior:
        return POSTERIORS.make(recipe.posterior, features, shape)

    def prior(q: Posterior, direct: bool) -> Prior:
        space = replace(q.space, image_shape=image_shape, inference=(encoder, q) if direct else ())
        made = build_prior(recipe.prior, space, of=f"the posterior {recipe.posterior!r}")
        if not made.joint:
            raise UsageError(f"the prior {recipe.prior!r} is fitted to the codes of a trained model and cannot be learned "
                             f"with it: leave --prior normal and give --fitted-prior \"{recipe.prior}\"")
        return made

    latent = plan.build(encoder.features, posterior, prior)
    decoder = DECODERS.make(recipe.decoder, latent.decoder_input, out_shape)
    if any(q.asks for q in latent.modules() if isinstance(q, Posterior)):
        _check_asked(recipe, decoder, likelihood)
    model = VAE(encoder, latent, decoder, likelihood)
    model.recipe, model.image_shape = recipe, (c, h, w)
    return model


def _check_asked(recipe: Recipe, decoder: nn.Module, likelihood: Likelihood) -> None:
    """Whether decoder and likelihood can tell a posterior log p(x | z) and its gradient."""
    if not likelihood.has_density:
        raise UsageError(f"the posterior {recipe.posterior!r} follows log p(x | z), and the likelihood "
                         f"{recipe.likelihood!r} gives images no density: choose another likelihood, or posterior gaussian")
    if any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in decoder.modules()):
        raise UsageError(f"the posterior {recipe.posterior!r} follows log p(x | z) of each image, and the BatchNorm of the "
                         f"decoder {recipe.decoder!r} makes it depend on the others: choose another decoder, such as conv")


MOST_DIMS = 256
"""Beyond so many latent dimensions full covariances cost more than they bring."""


def _generator(recipe: Recipe, plan: LatentSpec, likelihood: Likelihood, out_shape: Shape) -> Generator:
    if not isinstance(plan, FlatSpec):
        raise UsageError(f"the latent {recipe.latent!r} is inferred layer by layer, which takes an encoder: a GAN takes "
                         "flat(dim) or spatial(channels, factor)")
    latent = Drawn(build_prior(recipe.prior, Space(plan.shape), of="a GAN's code"), Space(plan.shape))
    return Generator(latent, DECODERS.make(recipe.decoder, latent.decoder_input, out_shape), likelihood)


def build_prior(what: str, space: Space, *, of: str) -> Prior:
    """The prior that `what` names, over `space`, which `of` made.

    Raises:
        UsageError: an unknown prior, or one that is no density on such a space.
    """
    call = parse_call(what)
    PRIORS.check(call)
    classes = PRIORS.classes
    if call.name not in classes:
        raise UsageError(f"the prior {call.name!r} is not a class derived from reparam.models.priors.Prior")
    if space.kind not in classes[call.name].covers:
        fitting = [PRIORS.signature(name) for name, part in classes.items() if space.kind in part.covers]
        kinds = " or ".join(_KINDS[k] for k in classes[call.name].covers)
        raise UsageError(f"the prior {what!r} is a density over {kinds}, and {of} lives in {_KINDS[space.kind]}. "
                         f"Priors over these: {', '.join(fitting) or 'none'}")
    return PRIORS.make(call, space)


_KINDS = {"real": "real numbers", "sphere": "points of a sphere", "relaxed": "relaxed bits or classes",
          "codes": "integer codes"}
