"""What a recipe makes for images of one shape: model, objective, adversary and later stages; and how it is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from ..data.augment import parse_augmentation
from ..data.imageset import Streamed
from ..data.pairs import check_partners
from ..data.stream import Batches, LateStream, Stream
from ..errors import UsageError
from ..models.build import build_model
from ..models.calibration import calibrate_likelihood
from ..models.codes import latent_axes
from ..models.sampler import Sampler
from ..models.vae import Model
from ..objectives.adversaries.base import Adversary
from ..objectives.adversaries.build import build_adversary
from ..objectives.adversaries.penalties import parse_penalties
from ..objectives.context import Context
from ..objectives.objective import Objective, build_objective
from ..parallel import Processes
from ..parts import registry
from ..parts.call import parse_call
from ..parts.recipe import Recipe
from ..pretrained.config import Config
from ..pretrained.image_model import ImageModel
from ..tensors import Shape, evenly, forked_rng
from ..text import counted
from .budget import Budget, Optimization
from .loop import training
from .optim import OPTIMIZERS, asks_rate, default_rate, with_rate
from .profile import Phase, unnamed
from .schedule_free import ScheduleFree
from .snapshots import Snapshot
from .stages.base import Data, Stage, StageBudget, stage_data
from .stages.sequence import TimeSplit, check_stages, fit_stages
from .state import State
from .tasks import ModelTask

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
        with forked_rng():
            check_stages(recipe, self.model, self.image_shape)
            _check_adversary(recipe, self.model, self.objective, self.adversary)
            self._check_terms()
        return self

    def _check_terms(self) -> None:
        """Computes the objective of two blank images."""
        twin = self.copied()
        model, adversary = twin.model, twin.adversary
        trace = model(torch.zeros(2, *self.image_shape), samples=self.objective.samples)
        context = Context(adversarial=adversary(model, trace) if adversary is not None else None)
        self.objective.parts(trace, context)

    def copied(self, **changes: Any) -> Assembly:
        """The same with weights of its own, for a trial; with some fields of its recipe changed."""
        twin = copy.copy(self)
        twin.recipe = self.recipe.but(**changes)
        twin.model, twin.adversary = copy.deepcopy((self.model, self.adversary))
        return twin

    @property
    def split(self) -> TimeSplit:
        """How the minutes are divided between the model and the stages after it."""
        return TimeSplit.of(self.recipe, self.model)

    def stream(self, images: np.ndarray | Streamed, rows: np.ndarray | None = None, labels: np.ndarray | None = None, *,
               partners: np.ndarray | None = None, accelerator: Processes | None = None, start: int = 0) -> Batches:
        """Batches of images (n, H, W, C), uint8 or floats in [0, 1], as the recipe draws them: of those in `rows`, from step
        `start` on, with their `labels` (n,), −1 for none. With the row of each one's partner, `partners` (n,), batches are
        of pairs. Several processes get equal parts, of a batch that is a little smaller where its size does not divide.

        Images that are streamed are all trained on, with the labels that they have there.

        Raises:
            UsageError: partners of another shape, or of images that are not there; a batch of less than one, or than two
                partners, for each process.
        """
        recipe = self.recipe
        if not recipe.batch_size:
            raise UsageError("batch_size auto is measured by reparam.train and ImageVAE as they begin: give a number here")
        n = images.count if isinstance(images, Streamed) else len(images) if rows is None else len(rows)
        size = min(recipe.batch_size, n)
        drawn: dict[str, Any] = {
            "seed": recipe.seed, "augment": parse_augmentation(recipe.augment), "binarize": recipe.binarize, "start": start}
        processes = accelerator.num_processes if accelerator is not None else 1
        each = 2 * processes if partners is not None else processes
        if 0 < size < each:
            raise UsageError(_too_few(size, processes, in_pairs=partners is not None))
        drawn["batch_size"] = size - size % each
        if accelerator is not None:
            drawn |= {"device": accelerator.device, "process": accelerator.process_index,
                      "processes": processes}
        if isinstance(images, Streamed):
            return LateStream(images, labelled=True, **drawn)
        if partners is not None:
            check_partners(partners, len(images))
        return Stream(images, np.arange(n) if rows is None else rows, labels=labels, partners=partners, **drawn)

    def budget(self, stream: Batches) -> Budget:
        """How long the recipe trains, stages included; neither steps nor minutes where it names no end."""
        r = self.recipe
        by_epochs = math.ceil(r.epochs * stream.count / stream.batch_size) if r.epochs else None
        return Budget(min((s for s in (r.steps, by_epochs) if s), default=None), r.minutes,
                      precision="float32" if r.precision == "auto" else r.precision, compile=r.compile == "on")

    def training(self, batches: Iterable[Any], budget: Budget, *, accelerator: Processes | None = None,
                 resume: Snapshot | None = None, phase: Phase = unnamed) -> Iterator[State[Model]]:
        """Trains the model, without what follows; yields the state after every step, as `reparam.training` does.

        A model that knows no classes gets no labels of a stream. The whole of the budget is the model's.
        """
        recipe, dataset_size = self.recipe, 0
        if isinstance(batches, Batches):
            dataset_size = batches.count
            batches = batches if self.model.latent.classes else batches.unlabelled()
        task = ModelTask(self.model, self.objective, self.adversary, dataset_size=dataset_size)
        return training(task, batches, budget, Optimization.of(recipe), accelerator=accelerator, resume=resume,
                        phase=phase)

    def fit(self, stream: Batches, budget: Budget | None = None, progress: Progress = _silent, *,
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
        last, data, split = state, self.examples(stream), self.split

        def budget_of(stage: Stage) -> StageBudget:
            share = split.stages.get(stage.name, 0.0)
            minutes = last.seconds / 60 * share / split.model if budget.minutes is not None else None
            return StageBudget(last.step if minutes is None else None, minutes, budget.clock, budget.precision,
                               follow=lambda state: progress(stage.doing, state))

        model = state.ema.eval()
        subset, sampler = data.x[evenly(len(data.x), CALIBRATED_ON)], Sampler(model)
        calibrate_likelihood(model, subset)
        stages = fit_stages(sampler, self.recipe, data, budget_of) if len(data.x) > 1 else {}
        config = Config(self.recipe, self.image_shape, axes=latent_axes(model, subset), stages=stages)
        return ImageModel(sampler, config, data.x.device)

    def of_model(self, budget: Budget) -> Budget:
        """The part of a budget in which the model is trained."""
        return replace(budget, minutes=budget.minutes * self.split.model if budget.minutes else budget.minutes)

    def examples(self, stream: Batches) -> Data:
        """What the stages learn from: images of a stream, evenly spaced where there are many, and their labels."""
        return stage_data(*stream.at_hand(), stream.device, binarize=stream.binarize)


def _too_few(size: int, processes: int, *, in_pairs: bool) -> str:
    """Why a batch cannot be drawn."""
    if processes == 1:
        return "a batch of one image holds no pair: give a batch_size of 2 or more"
    return (f"a batch of {counted(size, 'image')} has no {'pair' if in_pairs else 'image'} for each of {processes} "
            "processes: give a larger batch_size, or fewer processes")


def _check_training(recipe: Recipe, objective: Objective) -> None:
    """Builds what a recipe says of training besides the model, whose numbers would else be told once it has begun."""
    known = recipe.optimizer
    if asks_rate(known):
        objective.settled()
        known = with_rate(known, default_rate(known))
    if asks_rate(recipe.critic_optimizer):
        raise UsageError("lr=auto is found for the model's optimizer alone: give --critic-optimizer a number")
    _, of_critic = (OPTIMIZERS.make(text, [torch.nn.Parameter(torch.zeros(1))]) for text in (known, recipe.critic_optimizer))
    if isinstance(of_critic, ScheduleFree):
        raise UsageError("schedule_free keeps an average of weights, and a critic is used as it stands: give it another "
                         "--critic-optimizer, such as adamw")
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
    if not model.has_encoder:
        _check_generator(objective, adversary)
    if adversary is None and adversarial:
        raise UsageError(f"the term {adversarial[0]} needs an adversary: give one, such as --adversary images, and a "
                         "--critic")
    if adversary is not None and not adversarial:
        raise UsageError(f"the adversary {recipe.adversary!r} has no effect: no term of the objective uses it. Add the "
                         f"term adversarial, such as --objective \"{recipe.objective} + adversarial\"")
