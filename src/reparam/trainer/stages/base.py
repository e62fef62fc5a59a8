"""What every stage is: a module that is trained after the model and leaves it as it is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...data.stream import binarized, to_batch
from ...errors import UsageError
from ...models.sampler import Sampler, build_stage
from ...models.trace import Batch
from ...models.vae import Model
from ...parallel import Processes, SingleProcess
from ...parts.call import parse_call
from ...parts.recipe import Recipe
from ...tensors import Shape, evenly, forked_rng
from ..budget import Budget, Optimization
from ..loop import training
from ..state import State
from ..tasks import Inputs, Part, PartTask

CODES = 20_000
"""Codes that a prior is fitted to at once."""
MOST_IMAGES, MOST_VALUES = 60_000, 500_000_000
"""Training images that a stage learns from, at most, and pixel values in them."""


@dataclass(frozen=True)
class StageBudget(Budget):
    """How long a stage is trained, and who watches."""

    follow: Callable[[State[Any]], None] | None = None
    """Called after every step."""
    processes: Processes | None = None
    """That train it together; None for this one alone."""
    codes: int = CODES
    """That a prior is fitted to at once, which knows no other budget. The codes of fewer images are drawn several times, 100
    at most."""


class Data(NamedTuple):
    """Training images."""

    x: Tensor
    """(n, C, H, W) in [0, 1]."""
    y: Tensor | None = None
    """(n,) class labels, −1 where there is none."""


def stage_data(images: np.ndarray, rows: np.ndarray, labels: np.ndarray | None, device: torch.device | str, *,
               binarize: bool) -> Data:
    """The images (n, H, W, C) of these rows, evenly spaced where there are too many for memory, and their labels (n,)."""
    rows = rows[evenly(len(rows), min(MOST_IMAGES, MOST_VALUES // math.prod(images.shape[1:])))]
    x = to_batch(images[rows], device)
    return Data(binarized(x) if binarize else x, torch.from_numpy(labels[rows]).to(device) if labels is not None else None)


class Fitted(NamedTuple):
    """What a stage's training gives."""

    call: str
    """The part call that builds the module, for the config."""
    module: nn.Module


class Stage(ABC):
    """Something that is trained after the model. `models.sampler.STAGES` says how its module is built, and the list in
    `sequence.py` when it is trained."""

    name: ClassVar[str]
    """Of the recipe's field that chooses it, of its entry in the config and of its tensors."""
    share_field: ClassVar[str]
    """The recipe's field with its share of the minutes."""
    doing: ClassVar[str]
    """What is reported while it is trained."""
    depends_on: ClassVar[tuple[str, ...]] = ()
    """Other stages that it learns from. It is trained anew when one of these is."""
    needs_codes: ClassVar[bool] = True
    """Whether it learns from the codes of images, which a GAN does not have."""

    def choice(self, recipe: Recipe, model: Model) -> str | None:
        """The part call that a recipe asks for; None for nothing.

        Raises:
            UsageError: the model has nothing that it could learn from.
        """
        text: str = getattr(recipe, self.name)
        return None if parse_call(text).name == "none" else text

    def share(self, recipe: Recipe, model: Model) -> float:
        """Its share of the minutes."""
        return getattr(recipe, self.share_field) if self.choice(recipe, model) is not None else 0.0

    def check(self, recipe: Recipe, model: Model, image_shape: Shape) -> nn.Module | None:
        """Builds its module without memory, so that what cannot be trained is refused before the model is. None where the
        recipe asks for nothing.

        Raises:
            UsageError: a part that does not exist, does not fit the model, or could not be trained.
        """
        call = self.choice(recipe, model)
        if call is None:
            return None
        if self.needs_codes and not model.has_encoder:
            raise UsageError(f"{self.name}={getattr(recipe, self.name)!r} learns from the codes of images, and a GAN has no "
                             f"encoder that gives them: leave it at {getattr(Recipe(), self.name)!r}")
        with forked_rng(), torch.device("meta"):  # the covariances of a mixture alone may be gigabytes
            return build_stage(self.name, call, model, image_shape)

    @abstractmethod
    def fit(self, call: str, sampler: Sampler, recipe: Recipe, data: Data, budget: StageBudget) -> Fitted:
        """Trains the module of a part call on images, for a sampler that holds the stages before it.

        Raises:
            UsageError: it cannot be trained on these images.
        """


def fit_stage(stage: Stage, sampler: Sampler, recipe: Recipe, data: Data, budget: StageBudget) -> str:
    """Trains a stage as the recipe says and puts it into the sampler; returns its part call. Random numbers come from the
    recipe's seed and are left as they were.

    Raises:
        UsageError: the recipe asks for nothing, or for what cannot be trained, as `Stage.check` says.
    """
    stage.check(recipe, sampler.model, tuple(data.x.shape[1:]))
    call = stage.choice(recipe, sampler.model)
    if call is None:
        raise UsageError(f"{stage.name}={getattr(recipe, stage.name)!r} leaves nothing to train")
    with forked_rng():
        torch.manual_seed(recipe.seed)
        fitted = stage.fit(call, sampler, recipe, data, budget)
    sampler.stages[stage.name] = fitted.module.to(data.x.device).eval().requires_grad_(False)
    return fitted.call


def batches_of(examples: Tensor, labels: Tensor | None, size: int, processes: Processes | None = None) -> Iterator[Batch]:
    """Endless random batches, each drawn with replacement; of several processes each has its part."""
    own = slice(processes.process_index, None, processes.num_processes) if processes is not None else slice(None)
    while True:
        chosen = torch.randint(len(examples), (min(size, len(examples)),), device=examples.device)[own]
        yield examples[chosen] if labels is None else (examples[chosen], labels[chosen])


def train_part(part: Part, inputs: Inputs, batches: Iterator[Batch], budget: StageBudget, device: torch.device) -> Part:
    """Trains a part with the loop that trains models; returns the averaged weights."""
    optimization, state = Optimization(f"adamw(lr={part.rate})", ema=0.998), None
    processes = budget.processes or SingleProcess(device)
    for state in training(PartTask(part, inputs), batches, budget, optimization, accelerator=processes):
        if budget.follow is not None:
            budget.follow(state)
    return state.ema if state is not None else part
