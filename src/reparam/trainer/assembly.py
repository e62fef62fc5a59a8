"""What is estimated once training has ended: the likelihood's scale, a prior for the codes, and the latents' order."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..data.augment import parse_augmentation
from ..distributions.point import Implicit
from ..errors import UsageError
from ..models.build import build_model
from ..models.refiner import build_refiner
from ..models.resampler import build_resampler
from ..models.vae import VAE, Generator, Model
from ..objectives.adversaries.base import Adversary
from ..objectives.adversaries.build import build_adversary
from ..objectives.adversaries.penalties import parse_penalties
from ..objectives.context import Context
from ..objectives.objective import Objective, build_objective
from ..parts import registry
from ..parts.call import parse_call
from ..parts.recipe import Recipe
from ..pretrained.config import Added
from ..tensors import Shape
from .stages.base import Effort, Shares
from .stages.prior import check_fitting, fit_prior
from .stages.refiner import fit_refiner
from .stages.resampler import fit_resampler


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
        critical = [term.name for _, term in objective.terms if term.uses_critic]
        if isinstance(model, Generator):
            _check_generator(objective, adversary)
        if recipe.compile and adversary is not None:
            raise UsageError("compile=True does not go with an adversary, whose penalties differentiate twice: leave it out")
        if adversary is None and critical:
            raise UsageError(f"the term {critical[0]} needs a second player: give an --adversary, such as 'images', and a "
                             "--critic")
        if adversary is not None and not critical:
            raise UsageError(f"nobody listens to the adversary {recipe.adversary!r}: add the term adversarial to the "
                             f"objective, such as --objective \"{recipe.objective} + adversarial\"")
        trace = model(torch.zeros(2, *image_shape), samples=objective.samples)
        context = Context(adversarial=adversary(model, trace) if adversary is not None else None)
        values = objective.parts(trace, context).tolist()
        for name, value in zip(objective.names, values, strict=True):
            if isinstance(trace.px, Implicit) and math.isnan(value):
                raise UsageError(f"the term {name} needs a density of images, and the likelihood 'implicit' has none: "
                                 "choose another --likelihood, or leave the term out")
    return model


def fit_second_stages(model: Model, recipe: Recipe, x: Tensor, effort: Callable[[float, str], Effort], *,
                      y: Tensor | None = None,
                      attempt: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()) -> Added:
    """Trains what a recipe adds to a trained model: prior, resampler and refiner, which it puts into the model.

    `effort` says how long, given a share of the minutes and what is being done. Each is trained within an `attempt`: where
    that lets go of an error, the model stays without what failed. Returns what they are.
    """
    shares, seed, added = Shares.of(recipe, model.latent), recipe.seed, Added()
    with attempt("fitting the prior"):
        added["fitted_prior"] = fit_prior(model, recipe, x, seed, y=y, effort=effort(shares.prior, "fitting the prior"))
    with attempt("training the resampler"):
        added["resampler"] = fit_resampler(model, recipe, x, seed,
                                           effort=effort(shares.resampler, "training the resampler"))
    with attempt("training the refiner"):
        added["refiner"] = fit_refiner(model, recipe, x, seed, y=y, effort=effort(shares.refiner, "training the refiner"))
    return added


def fit_prior_anew(model: VAE, recipe: Recipe, x: Tensor, y: Tensor | None, effort: Effort, resampling: Effort
                   ) -> tuple[str | None, str | None]:
    """Fits prior and resampler of a recipe in place of those that a model carries; returns what they are."""
    model.latent.fitted = model.resampler = None
    fitted = fit_prior(model, recipe, x, recipe.seed, y=y, effort=effort)
    return fitted, fit_resampler(model, recipe, x, recipe.seed, effort=resampling)
