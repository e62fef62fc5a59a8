"""What is trained after the model: how long, and by which loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from ...models.build import MOST_DIMS
from ...models.latents import Latents
from ...models.trace import Batch
from ...models.vae import Model
from ...parallel import SingleProcess
from ...parts.call import Call, parse_call
from ...parts.recipe import Recipe
from ..budget import Budget, Optimization
from ..loop import training
from ..state import State
from ..tasks import Inputs, Part, PartTask

BATCH = 256
"""Codes a step, at least, where there is an accelerator, which takes hardly longer for many than for few."""


@dataclass(frozen=True)
class Effort:
    """How long something is trained after the model."""

    minutes: float | None = None
    steps: int | None = None
    clock: Callable[[], float] = time.perf_counter
    """Seconds."""
    precision: str = "float32"
    follow: Callable[[State[Any]], None] | None = None
    """Told of every step."""


def effort_of(recipe: Recipe, state: State[Model], share: float, shares: Shares, precision: str) -> Effort:
    """A share of the minutes, of which training took the model's; where the end was counted in steps, as many steps."""
    if recipe.minutes is None and (recipe.steps is not None or recipe.epochs is not None):
        return Effort(steps=state.step, precision=precision)
    return Effort(state.seconds / 60 * share / shares.model, precision=precision)


def batches_of(examples: Tensor, labels: Tensor | None, size: int) -> Iterator[Batch]:
    while True:
        chosen = torch.randint(len(examples), (min(size, len(examples)),), device=examples.device)
        yield examples[chosen] if labels is None else (examples[chosen], labels[chosen])


def train_part(part: Part, inputs: Inputs, batches: Iterator[Batch], effort: Effort, device: torch.device) -> Part:
    """Trains a part with the loop that trains models; returns the averaged weights."""
    budget = Budget(effort.steps, effort.minutes, effort.clock, effort.precision)
    optimization, state = Optimization(f"adamw(lr={part.rate})", ema=0.998), None
    for state in training(PartTask(part, inputs), batches, budget, optimization, accelerator=SingleProcess(device)):
        if effort.follow is not None:
            effort.follow(state)
    return state.ema if state is not None else part


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
