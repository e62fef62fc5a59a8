"""What a run's recipe leaves open, found once and kept with the run, which goes on as it began."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from ..data.imageset import ImageSet
from ..data.options import DataOptions
from ..data.pixels import LARGEST
from ..data.stream import Batches
from ..data.symmetry import mirrored
from ..parts.presets import find
from ..parts.profiles import AUTO, FEW, FOR_LARGE, Choice, Situation, choose, largest_side
from ..parts.recipe import ARCHITECTURE, Recipe
from ..progress import Reporter
from ..trainer.assembly import Assembly
from ..trainer.settle import settle
from .folder import Run

DEFAULT_MINUTES = 5.0
"""Training time where no end is given."""


def starting_recipe(preset: str, fields: dict[str, Any]) -> Recipe:
    """The recipe of a preset with some fields replaced; with 'auto', the default one until the images are known.

    Raises:
        UsageError: an unknown preset, or a field that does not exist.
    """
    return find("default" if preset == AUTO else preset).recipe.but(**fields)


def settle_size(run: Run, preset: str, device: str) -> None:
    """Lets images keep their own size, where none was named, as far as a preset is made for it and, where `--preset auto`
    chooses, as far as the machine can."""
    if run.options.image_size is None and run.options.largest == LARGEST:
        side = largest_side(_minutes(run.recipe), **machine(device)) if preset == AUTO else FOR_LARGE.get(preset)
        run.options = run.options if side is None else replace(run.options, largest=side)


def _minutes(recipe: Recipe) -> float | None:
    """Of training; None where its end is counted in steps or epochs."""
    no_end = recipe.minutes is None and recipe.steps is None and recipe.epochs is None
    return DEFAULT_MINUTES if no_end else recipe.minutes


def open_settled(run: Run, preset: str, named: Collection[str], device: str, usual: DataOptions,
                 opened: Callable[[DataOptions], ImageSet], report: Reporter) -> ImageSet:
    """The images of a run, and in it what `--preset auto` trains on them, but for the fields that were `named`; why is said
    in a line. What was asked for and chosen is noted in the run, and a resumed run keeps it.

    Args:
        usual: the options before `settle_size`. Images that it let keep a size for which no preset was chosen are opened
            anew, shrunk as on any machine.
        opened: images as options say.
    """
    images = opened(run.options)
    if preset == AUTO:
        before = run.recipe
        composed = ARCHITECTURE if "init" in run.facts else ()  # the weights that it starts from have parts already
        known = frozenset((*named, *composed))
        let, choice = run.options.largest, choose(situation_of(images, before, known, device))
        if run.options != usual and max(images.images.shape[1:3]) > usual.largest and choice.preset not in FOR_LARGE:
            run.options, images = usual, opened(usual)
            choice = choose(situation_of(images, before, known, device))
        run.recipe, preset = recipe_of(choice, before, named), choice.preset
        run.facts["asked"] = {k: v for k, v in before.to_dict().items() if getattr(run.recipe, k) != v}
        run.facts["auto"] = {"preset": choice.preset, "changes": dict(choice.changes), "reason": choice.reason,
                             "largest": let}
        report.say(choice.reason)
    if not run.recipe.batch_size:
        run.facts["tuned_at"] = find(preset).recipe.batch_size
    return images


def recipe_of(choice: Choice, asked: Recipe, named: Collection[str]) -> Recipe:
    """What was chosen, with the fields that were named as they were asked for."""
    return choice.recipe.but(**{name: getattr(asked, name) for name in named})


def situation_of(images: ImageSet, recipe: Recipe, named: frozenset[str], device: str) -> Situation:
    """What is known before training on these images."""
    _, height, width, channels = images.images.shape
    few = images.streamed is None and images.trained_on < FEW
    return Situation(images=images.trained_on, side=max(height, width), channels=channels,
                     minutes=_minutes(recipe), labelled=bool(images.classes), named=named,
                     mirrored=few and mirrored(images.images[images.split()[0]]),
                     **machine(device))


def machine(device: str) -> dict[str, Any]:
    """The device that training takes, and the memory of a GPU, GiB: the same in all processes of a run."""
    found = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
    if found is None or found.type != "cuda":
        return {"device": "cpu" if found is None else found.type}
    return {"device": "gpu", "memory": torch.cuda.get_device_properties(found).total_memory / 2**30}


def settle_run(run: Run, assembly: Assembly, stream: Callable[[Assembly], Batches], accelerator: Accelerator,
               report: Reporter) -> Recipe:
    """Finds batch size and learning rate where the recipe leaves them open, and writes down what was asked for and found."""
    recipe = run.recipe
    before = run.facts.get("asked", {})  # what a preset was chosen from
    run.facts["asked"] = {name: getattr(recipe, name) for name in ("batch_size", "optimizer", "critic_optimizer")} | before
    run.facts["found"] = settle(assembly, stream, accelerator, say=report.say,
                                tuned_at=run.facts.get("tuned_at", recipe.batch_size),
                                precision="float32" if recipe.precision == "auto" else recipe.precision)
    run.recipe = assembly.recipe
    if accelerator.is_main_process:
        run.save()
    return run.recipe
