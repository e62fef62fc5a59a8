"""The stages in the order in which they are trained, and their shares of a run's minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ...errors import UsageError
from ...models.sampler import Sampler
from ...models.vae import Model
from ...parts.recipe import Recipe
from ...tensors import Shape
from ..state import State
from .base import Data, Stage, StageBudget, fit_stage
from .prior import PriorStage
from .refiner import RefinerStage
from .resampler import ResamplerStage

STAGES: list[Stage] = [PriorStage(), ResamplerStage(), RefinerStage()]
"""Each learns from the model and the stages before it."""


@dataclass(frozen=True)
class TimeSplit:
    """How a run's minutes are divided between the model and its stages."""

    stages: dict[str, float]
    """Share of each stage that takes any."""

    @staticmethod
    def of(recipe: Recipe, model: Model) -> TimeSplit:
        """As a recipe says.

        Raises:
            UsageError: nothing is left for the model.
        """
        shares = {stage.name: share for stage in STAGES if (share := stage.share(recipe, model))}
        split = TimeSplit(shares)
        if split.model <= 0:
            fields = " and ".join(f"{stage.share_field}={shares[stage.name]}" for stage in STAGES if stage.name in shares)
            raise UsageError(f"{fields} leave nothing of the minutes for the model itself")
        return split

    @property
    def model(self) -> float:
        """What the stages leave."""
        rest = 1.0
        for share in self.stages.values():
            rest -= share
        return rest

    def budget(self, stage: Stage, recipe: Recipe, state: State[Model], precision: str) -> StageBudget:
        """A stage's budget after the model's training ended in `state`: its share of the minutes; where the end was counted
        in steps, as many steps."""
        if recipe.minutes is None and (recipe.steps is not None or recipe.epochs is not None):
            return StageBudget(steps=state.step, precision=precision)
        return StageBudget(minutes=state.seconds / 60 * self.stages.get(stage.name, 0.0) / self.model, precision=precision)


def check_stages(recipe: Recipe, model: Model, image_shape: Shape) -> None:
    """Refuses stages that could not be trained once the model's training has ended, and shares that leave it no time.

    Raises:
        UsageError: that, with the reason.
    """
    for stage in STAGES:
        stage.check(recipe, model, image_shape)
    TimeSplit.of(recipe, model)


def fit_stages(sampler: Sampler, recipe: Recipe, data: Data, budget: Callable[[Stage], StageBudget], *,
               stages: Sequence[Stage] | None = None,
               attempt: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()) -> dict[str, str]:
    """Trains the stages that a recipe asks for, one after another, and puts them into the sampler. Returns the part call of
    each, for the config.

    `budget` is asked how long each may take. Each is trained within an `attempt`: where that catches an error, the sampler
    stays without what failed. `stages` are all by default.
    """
    calls: dict[str, str] = {}
    for stage in STAGES if stages is None else stages:
        with attempt(stage.doing):
            if stage.choice(recipe, sampler.model) is not None:
                calls[stage.name] = fit_stage(stage, sampler, recipe, data, budget(stage))
    return calls


def fit_anew(name: str, sampler: Sampler, calls: Mapping[str, str], recipe: Recipe, data: Data,
             budget: Callable[[Stage], StageBudget]) -> dict[str, str]:
    """Trains the stage of this name again, as the recipe now says, and those that learn from it. `calls` are the sampler's
    stages as they were; returns them as they are.

    Raises:
        UsageError: a stage that cannot be trained.
    """
    check_stages(recipe, sampler.model, tuple(data.x.shape[1:]))  # before anything is taken out
    again = [stage for stage in STAGES if name in (stage.name, *stage.depends_on)]
    for stage in again:
        if stage.name in sampler.stages:
            del sampler.stages[stage.name]
    kept = {name: call for name, call in calls.items() if name in sampler.stages}
    made = kept | fit_stages(sampler, recipe, data, budget, stages=again)
    return {stage.name: made[stage.name] for stage in STAGES if stage.name in made}
