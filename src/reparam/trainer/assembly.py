"""What a recipe makes for images of one shape: model, objective, adversary and later stages; and how it is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..data.augment import parse_augmentation
from ..data.stream import Stream, binarized, to_batch
from ..distributions.point import Implicit
from ..errors import UsageError
from ..models.build import build_model
from ..models.calibration import calibrate_likelihood
from ..models.codes import latent_axes
from ..models.refiner import build_refiner
from ..models.resampler import build_resampler
from ..models.vae import VAE, Generator, Model
from ..objectives.adversaries.base import Adversary
from ..objectives.adversaries.build import build_adversary
from ..objectives.adversaries.penalties import parse_penalties
from ..objectives.context import Context
from ..objectives.objective import Objective, build_objective
from ..parallel import Processes
from ..parts import registry
from ..parts.call import parse_call
from ..parts.recipe import Recipe
from ..pretrained.config import Added, Config
from ..pretrained.image_model import ImageModel
from ..tensors import Shape, evenly
from .budget import Budget, Optimization
from .loop import training
from .snapshots import Snapshot
from .stages.base import Effort, Shares
from .stages.prior import check_fitting, fit_prior
from .stages.refiner import fit_refiner
from .stages.resampler import fit_resampler
from .state import State
from .tasks import ModelTask

MOST_IMAGES, MOST_VALUES = 60_000, 500_000_000
"""Training images that a stage learns from, at most, and pixel values in them."""
CALIBRATED_ON = 2000
"""Training images that set the likelihood's scale and the order of the latents, at most."""

Progress = Callable[[str, State[Any]], None]
"""Told what is being done, and the state, after every step."""


def _silent(doing: str, state: State[Any]) -> None:
    """Says nothing."""


class Assembly:
    """Everything that a recipe makes of images of one shape, and the one way in which it is trained.

    Building it seeds torch with the recipe's seed, so that the same recipe gives the same weights.

    Args:
        recipe: every choice of a model and its training.
        image_shape: (C, H, W).

    Attributes:
        model: the network, untrained until `training` or `fit` has run.
        objective: what is minimised.
        adversary: what learns against the model, or None.

    Raises:
        UsageError: parts that do not exist, or numbers that they do not take.

    Example:
        import reparam

        digits = reparam.open_images("digits").images                  # (n, 8, 8, 1), uint8
        recipe = reparam.Recipe(encoder="mlp", decoder="mlp", latent="flat(8)", steps=200)
        assembly = reparam.Assembly(recipe, (1, 8, 8))
        assembly.check()                                               # do the parts fit one another?
        model = assembly.fit(assembly.stream(digits))                  # an ImageModel
        model.sample(16)                                               # (16, 8, 8)
    """

    def __init__(self, recipe: Recipe, image_shape: Shape) -> None:
        c, h, w = image_shape
        self.recipe, self.image_shape = recipe, (c, h, w)
        self.objective: Objective = build_objective(recipe)
        torch.manual_seed(recipe.seed)
        self.model: Model = build_model(recipe, image_shape)
        self.adversary: Adversary | None = build_adversary(recipe, self.model, image_shape)

    def check(self) -> Self:
        """Runs copies of model, objective and adversary on two blank images, so that parts that do not fit one another
        are refused before training starts. Leaves weights and random numbers as they are.

        Raises:
            UsageError: they do not fit one another, or a number that a part does not take.
        """
        recipe = self.recipe
        _check_training(recipe, self.objective)
        with torch.random.fork_rng():
            build_resampler(recipe.resampler, self.image_shape)
            if build_refiner(recipe.refiner, self.image_shape) is not None and recipe.binarize:
                raise UsageError(f"refiner={recipe.refiner!r} draws shades of grey, and binarize=True leaves black and "
                                 "white: choose one of them")
            check_fitting(recipe, self.model.latent)
            _check_adversary(recipe, self.model, self.objective, self.adversary)
            self._check_terms()
        return self

    def _check_terms(self) -> None:
        """Computes the objective of two blank images."""
        twin = self.copied()
        model, adversary = twin.model, twin.adversary
        trace = model(torch.zeros(2, *self.image_shape), samples=self.objective.samples)
        context = Context(adversarial=adversary(model, trace) if adversary is not None else None)
        values = self.objective.parts(trace, context).tolist()
        for name, value in zip(self.objective.names, values, strict=True):
            if isinstance(trace.px, Implicit) and math.isnan(value):
                raise UsageError(f"the term {name} needs a density of images, and the likelihood 'implicit' has none: "
                                 "choose another --likelihood, or leave the term out")

    def copied(self, **changes: Any) -> Assembly:
        """The same with weights of its own, for a trial; with some fields of its recipe changed."""
        twin = copy.copy(self)
        twin.recipe = self.recipe.but(**changes)
        twin.model, twin.adversary = copy.deepcopy((self.model, self.adversary))
        return twin

    @property
    def shares(self) -> Shares:
        """How the minutes are divided between the model and the stages after it."""
        return Shares.of(self.recipe, self.model.latent)

    def stream(self, images: np.ndarray, rows: np.ndarray | None = None, labels: np.ndarray | None = None, *,
               accelerator: Processes | None = None, start: int = 0) -> Stream:
        """Batches of images (n, H, W, C), uint8 or floats in [0, 1], as the recipe draws them: of those in `rows`, from step
        `start` on, with their `labels` (n,), −1 for none. Of several processes each gets its part."""
        recipe, rows = self.recipe, np.arange(len(images)) if rows is None else rows
        return Stream(images, rows, min(recipe.batch_size, len(rows)), recipe.seed, parse_augmentation(recipe.augment),
                      recipe.binarize, accelerator.device if accelerator is not None else "cpu",
                      0 if accelerator is None else accelerator.process_index,
                      accelerator.num_processes if accelerator is not None else 1, start=start, labels=labels)

    def budget(self, stream: Stream) -> Budget:
        """How long the recipe trains, stages included; neither steps nor minutes where it names no end."""
        r = self.recipe
        by_epochs = math.ceil(r.epochs * len(stream.indices) / stream.batch_size) if r.epochs else None
        return Budget(min((s for s in (r.steps, by_epochs) if s), default=None), r.minutes,
                      precision="float32" if r.precision == "auto" else r.precision)

    def training(self, batches: Iterable[Any], budget: Budget, *, accelerator: Processes | None = None,
                 resume: Snapshot | None = None) -> Iterator[State[Model]]:
        """Trains the model, without what follows; yields the state after every step, as `reparam.training` does.

        A model that knows no classes gets no labels of a stream. The whole of the budget is the model's.
        """
        recipe, dataset_size = self.recipe, 0
        if isinstance(batches, Stream):
            dataset_size = len(batches.indices)
            batches = batches if self.model.latent.classes else replace(batches, labels=None)
        task = ModelTask(self.model, self.objective, self.adversary, dataset_size=dataset_size)
        return training(task, batches, budget, Optimization.of(recipe), accelerator=accelerator, resume=resume)

    def fit(self, stream: Stream, budget: Budget | None = None, progress: Progress = _silent, *,
            accelerator: Processes | None = None, resume: Snapshot | None = None) -> ImageModel:
        """Trains the model and runs the stages after it.

        `budget` is that of all of it, the recipe's by default. `progress` is told what is being done, and the state, after
        every step. A state's `snapshot()`, given as `resume` with a stream that starts at its step, goes on from there.

        Raises:
            UsageError: no end of training.
            TrainingDiverged: no learning rate was low enough.
        """
        budget, state = budget or self.budget(stream), None
        for state in self.training(stream, self.of_model(budget), accelerator=accelerator, resume=resume):
            progress("training", state)
        if state is None:
            raise UsageError("there was nothing to train on")
        last, x, y = state, *self.examples(stream)

        def effort(share: float, doing: str) -> Effort:
            minutes = last.seconds / 60 * share / self.shares.model if budget.minutes is not None else None
            return Effort(minutes, last.step if minutes is None else None, budget.clock, budget.precision,
                          lambda state: progress(doing, state))

        model = state.ema.eval()
        few = x[evenly(len(x), CALIBRATED_ON)]
        calibrate_likelihood(model, few)
        added = fit_second_stages(model, self.recipe, x, effort, y=y) if len(x) > 1 else Added()
        config = Config(self.recipe, self.image_shape, axes=latent_axes(model, few), **added)
        return ImageModel(model, config, x.device)

    def of_model(self, budget: Budget) -> Budget:
        """The part of a budget in which the model is trained."""
        return replace(budget, minutes=budget.minutes * self.shares.model if budget.minutes else budget.minutes)

    def examples(self, stream: Stream) -> tuple[Tensor, Tensor | None]:
        """What the stages learn from: images of a stream, evenly spaced where there are many, and their labels."""
        rows = stream.indices[evenly(len(stream.indices), min(MOST_IMAGES, MOST_VALUES // math.prod(self.image_shape)))]
        x = to_batch(stream.images[rows], stream.device)
        y = torch.from_numpy(stream.labels[rows]).to(stream.device) if stream.labels is not None else None
        return (binarized(x) if stream.binarize else x), y


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


def _check_generator(objective: Objective, adversary: Adversary | None) -> None:
    other = next((term.name for _, term in objective.terms if not term.name.startswith("adversarial")), None)
    if other is not None:
        raise UsageError(f"the term {other} compares images with what a model makes of them, and a GAN has no encoder: give "
                         "it --objective adversarial and --adversary images. A hybrid has both, such as --preset vae_gan")
    if adversary is None:
        raise UsageError("a GAN learns from its critic alone: give it --objective adversarial and --adversary images")


def _check_adversary(recipe: Recipe, model: Model, objective: Objective, adversary: Adversary | None) -> None:
    """Refuses an adversary that no term uses, and a term that has none to use."""
    adversarial = [term.name for _, term in objective.terms if term.uses_critic]
    if isinstance(model, Generator):
        _check_generator(objective, adversary)
    if recipe.compile and adversary is not None:
        raise UsageError("compile=True does not go with an adversary, whose penalties differentiate twice: leave it out")
    if adversary is None and adversarial:
        raise UsageError(f"the term {adversarial[0]} needs an adversary: give one, such as --adversary images, and a "
                         "--critic")
    if adversary is not None and not adversarial:
        raise UsageError(f"the adversary {recipe.adversary!r} has no effect: no term of the objective uses it. Add the "
                         f"term adversarial, such as --objective \"{recipe.objective} + adversarial\"")


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
