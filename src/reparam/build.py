"""From a recipe and the shape of its images to a model, its objective and its adversary: the only file that knows both."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace

import torch

from . import registry
from .adversary import Adversary, Setting
from .data.augment import parse_augmentation
from .distributions import Implicit
from .errors import UsageError
from .games import Game, parse_penalties
from .latent import Drawn, Latents, Plan
from .likelihoods import Likelihood
from .nets.layers import Shape
from .objective import Objective, parse_objective
from .posteriors import Posterior
from .priors import Prior
from .recipe import Call, Recipe, parse_call
from .refiner import build_refiner
from .resampler import build_resampler
from .space import Space
from .vae import VAE, Generator, Model


def build_model(recipe: Recipe, image_shape: Shape, *, fitted_prior: str | None = None, resampler: str | None = None,
                refiner: str | None = None) -> Model:
    """The model of a recipe for images of shape (C, H, W), freshly initialised: a VAE, or without an encoder a generator.

    `fitted_prior`, `resampler` and `refiner` add the modules of what was fitted after training, for their weights to be
    loaded into.

    Raises:
        UsageError: an unknown part, or parts and image that do not fit together.
    """
    if min(image_shape[1:]) < 1 or max(image_shape[1:]) > 256:
        raise UsageError(f"images are {image_shape[2]}×{image_shape[1]}; sides from 1 to 256 are supported: "
                         "give an --image-size")
    c, h, w = image_shape
    plan = registry.latent.make(recipe.latent, image_shape)
    likelihood: Likelihood = registry.likelihood.make(recipe.likelihood, image_shape)
    out_shape = (likelihood.channels, *image_shape[1:])
    if recipe.encoder == NO_ENCODER:
        generator = _generator(recipe, plan, likelihood, out_shape)
        generator.recipe, generator.image_shape = recipe, (c, h, w)
        return generator
    encoder = registry.encoder.make(recipe.encoder, image_shape, plan.grid)

    def posterior(features: Shape, shape: Shape) -> Posterior:
        return registry.posterior.make(recipe.posterior, features, shape)

    def prior(q: Posterior, direct: bool) -> Prior:
        space = replace(q.space, image_shape=image_shape, inference=(encoder, q) if direct else ())
        made = build_prior(recipe.prior, space, of=f"the posterior {recipe.posterior!r}")
        if not made.joint:
            raise UsageError(f"the prior {recipe.prior!r} is fitted to the codes of a trained model and cannot be learned "
                             f"with it: leave --prior normal and give --fitted-prior \"{recipe.prior}\"")
        return made

    latent = plan.build(encoder.features, posterior, prior)
    decoder = registry.decoder.make(recipe.decoder, latent.features, out_shape)
    if fitted_prior is not None:
        latent.fitted = build_prior(fitted_prior, latent.fit_space or Space(latent.shape), of="codes")
    model = VAE(encoder, latent, decoder, likelihood)
    model.recipe, model.image_shape = recipe, (c, h, w)
    model.resampler = build_resampler(resampler, image_shape) if resampler is not None else None
    model.refiner = build_refiner(refiner, image_shape) if refiner is not None else None
    return model


MOST_DIMS = 256
"""Beyond so many latent dimensions full covariances cost more than they bring."""
NO_ENCODER = "none"
"""What a recipe says in place of an encoder, which makes its model a GAN's generator."""


def _generator(recipe: Recipe, plan: object, likelihood: Likelihood, out_shape: Shape) -> Generator:
    if not isinstance(plan, Plan):
        raise UsageError(f"the latent {recipe.latent!r} is inferred layer by layer, which takes an encoder: a GAN takes "
                         "flat(dim) or spatial(channels, factor)")
    if recipe.fitted_prior not in ("auto", "none"):
        raise UsageError(f"fitted_prior={recipe.fitted_prior!r} is fitted to the codes of images, and a GAN, which has no "
                         "encoder, has none: leave it at 'auto' or 'none'")
    if recipe.refiner != "none":
        raise UsageError(f"refiner={recipe.refiner!r} learns from images and their reconstructions, which a GAN does not "
                         "make: leave it at 'none'")
    if recipe.resampler != "none":
        raise UsageError(f"resampler={recipe.resampler!r} learns from the codes of images, and a GAN, which has no encoder, "
                         "has none: leave it at 'none'")
    latent = Drawn(build_prior(recipe.prior, Space(plan.shape), of="a GAN's code"), Space(plan.shape))
    return Generator(latent, registry.decoder.make(recipe.decoder, latent.features, out_shape), likelihood)


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


def fitting_of(recipe: Recipe, latent: Latents) -> Call | None:
    """The prior to fit after training, as a part call; None for none.

    'auto' is none where the model's own prior is learned; else a mixture up to 256 dimensions, `flow_matching` beyond, and
    `autoregressive` for integer codes.

    Raises:
        UsageError: there is nothing that it could be fitted to.
    """
    space = latent.fit_space
    if recipe.fitted_prior == "auto":
        if space is None or latent.prior_is_learned:
            return None
        if space.kind == "codes":
            return Call("autoregressive")
        return Call("mixture", (50,)) if math.prod(space.shape) <= MOST_DIMS else Call("flow_matching")
    call = parse_call(recipe.fitted_prior)
    if call.name == "none":
        return None
    if space is None:
        raise UsageError(f"nothing can be fitted to the codes of {recipe.latent} with the posterior {recipe.posterior}: "
                         "they are neither one layer of real numbers nor integer codes. Choose a learned --prior")
    return call


@dataclass(frozen=True)
class Shares:
    """How a run's minutes are divided between the model and what is trained after it."""

    prior: float = 0.0
    resampler: float = 0.0
    refiner: float = 0.0

    @staticmethod
    def of(recipe: Recipe, latent: Latents) -> Shares:
        """Those of a recipe; 0 for what it does not train.

        Raises:
            UsageError: nothing is left for the model.
        """
        call = fitting_of(recipe, latent)
        shares = Shares(recipe.prior_share if call is not None and call.name != "mixture" else 0.0,
                        recipe.resampler_share if recipe.resampler != "none" else 0.0,
                        recipe.refiner_share if recipe.refiner != "none" else 0.0)
        if shares.model <= 0:
            raise UsageError(f"prior_share={recipe.prior_share}, resampler_share={recipe.resampler_share} and "
                             f"refiner_share={recipe.refiner_share} leave nothing of the minutes for the model itself")
        return shares

    @property
    def model(self) -> float:
        return 1 - self.prior - self.resampler - self.refiner


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


def build_objective(recipe: Recipe) -> Objective:
    """The objective of a recipe."""
    return parse_objective(recipe.objective)


def build_adversary(recipe: Recipe, model: Model, image_shape: Shape) -> Adversary | None:
    """The second player of a recipe, or none.

    Raises:
        UsageError: an unknown part, or a game that does not fit the model.
    """
    call = parse_call(recipe.adversary)
    if call.name == "none":
        return None
    game: Game = registry.game.make(recipe.game)
    setting = Setting(model, image_shape, recipe.critic, game, tuple(parse_penalties(recipe.penalty)),
                      parse_augmentation(recipe.critic_augment, for_critic=True))
    return registry.adversary.make(call, setting)


def _check_generator(objective: Objective, adversary: Adversary | None) -> None:
    other = next((term.name for _, term in objective.terms if not term.name.startswith("adversarial")), None)
    if other is not None:
        raise UsageError(f"the term {other} compares images with what a model makes of them, and a GAN has no encoder: give "
                         "it --objective adversarial and --adversary images. A hybrid has both, such as --preset vae_gan")
    if adversary is None:
        raise UsageError("a GAN learns from its critic alone: give it --objective adversarial and --adversary images")


def _check_training(recipe: Recipe, objective: Objective) -> None:
    """Builds what a recipe says of training besides the model, whose numbers would else be told once it has begun."""
    for text in (recipe.optimizer, recipe.critic_optimizer):
        registry.optimizer.make(text, [torch.nn.Parameter(torch.zeros(1))])
    registry.schedule.make(recipe.schedule)
    parse_augmentation(recipe.augment)
    parse_augmentation(recipe.critic_augment, for_critic=True)
    parse_penalties(recipe.penalty)
    registry.game.make(recipe.game)
    registry.encoder.check(parse_call(recipe.critic))
    try:
        weights = [w for progress in (0.0, 0.5, 1.0) for w in map(float, objective.weights(progress))]
    except OverflowError:
        weights = [math.inf]
    if not all(map(math.isfinite, weights)):
        raise UsageError(f"a weight in the objective {recipe.objective!r} is not finite")


def check(recipe: Recipe, image_shape: Shape = (1, 32, 32)) -> Model:
    """Builds a recipe's model, objective and adversary and tries them on two empty images, so that nothing senseless is
    started. Returns the model, untrained.

    Raises:
        UsageError: parts that do not exist or do not fit together, or numbers that they do not take.
    """
    objective = build_objective(recipe)
    _check_training(recipe, objective)
    with torch.random.fork_rng():
        model = build_model(recipe, image_shape)
        build_resampler(recipe.resampler, image_shape)
        if build_refiner(recipe.refiner, image_shape) is not None and recipe.binarize:
            raise UsageError(f"refiner={recipe.refiner!r} draws shades of grey, and binarize=True leaves black and white: "
                             "choose one of them")
        check_fitting(recipe, model.latent)
        adversary = build_adversary(recipe, model, image_shape)
        contested = [term.name for _, term in objective.terms if term.contest]
        if isinstance(model, Generator):
            _check_generator(objective, adversary)
        if recipe.compile and adversary is not None:
            raise UsageError("compile=True does not go with an adversary, whose penalties differentiate twice: leave it out")
        if adversary is None and contested:
            raise UsageError(f"the term {contested[0]} needs a second player: give an --adversary, such as 'images', and a "
                             "--critic")
        if adversary is not None and not contested:
            raise UsageError(f"nobody listens to the adversary {recipe.adversary!r}: add the term adversarial to the "
                             f"objective, such as --objective \"{recipe.objective} + adversarial\"")
        trace = model(torch.zeros(2, *image_shape), samples=objective.samples)
        trace = adversary(model, trace) if adversary is not None else trace
        values = objective.parts(trace).tolist()
        for name, value in zip(objective.names, values, strict=True):
            if isinstance(trace.px, Implicit) and math.isnan(value):
                raise UsageError(f"the term {name} needs a density of images, and the likelihood 'implicit' has none: "
                                 "choose another --likelihood, or leave the term out")
    return model
