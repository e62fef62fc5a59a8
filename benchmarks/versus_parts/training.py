"""What trainings under a fixed budget of processor time share: images, parameters that are counted, the training itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reparam.data.open import open_images
from reparam.data.stream import to_batch
from reparam.features import get_features
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.calibration import calibrate_likelihood
from reparam.models.codes import latent_axes
from reparam.models.priors import Mixture
from reparam.models.sampler import Sampler
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import save_model
from reparam.pretrained.image_model import ImageModel
from reparam.runs.journal import held_out_figures
from reparam.tensors import evenly
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16
from reparam.trainer.budget import Budget
from reparam.trainer.stages.base import CODES, Data, StageBudget
from reparam.trainer.stages.sequence import STAGES, fit_stages

SETS = {"mnist": "mnist.npz", "fashion": "fashion-mnist.npz", "faces": "faces64.zip", "cifar": "cifar10-jpeg.zip"}
MEASURED = 2500
"""Test images of a set that has none of its own: the last ones."""
FIT_SECONDS = 45
"""Kept back from four minutes for fitting a mixture, which took 19 to 42; what learns step by step gets its share of the time."""
PRECISION = "bf16" if computes_in_bf16() else "float32"
"""What is fast here; it stands with the recipe in every result."""
TARGET = {"mnist": 800_000, "fashion": 800_000, "cifar": 800_000, "faces": 1_200_000}
"""Parameters of everything that sampling needs."""
POINTS = 12
"""Of the curve of a training."""


@cache
def images_of(data: str, folder: str, most: int = MEASURED):
    """Images, and the indices of training images and of evenly spaced test images, so many at most."""
    source = open_images(str(Path(folder) / SETS[data]))
    train, test = np.flatnonzero(~source.test), np.flatnonzero(source.test)
    if not len(test):  # the last ones, which no model sees
        train, test = train[:-MEASURED], train[-MEASURED:]
    return source, train, test[:: max(len(test) // most, 1)][:most]


def of_size(recipe: Recipe, decoder: str, image_shape: Sequence[int], target: int, step: int = 2) -> Recipe:
    """The recipe with the decoder, such as 'dcgan({w})', of the multiple of a step in width that brings `parameters` nearest to
    a target; from 8 to 512."""
    def at(steps: int) -> Recipe:
        return recipe.but(decoder=decoder.format(w=step * steps))

    others = parameters(at(32 // step), image_shape) - own_parameters(at(32 // step), image_shape)
    low, high = 8 // step, 512 // step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if own_parameters(at(middle), image_shape) + others <= target else (low, middle)
    return min((at(steps) for steps in (low, high)), key=lambda r: abs(own_parameters(r, image_shape) + others - target))


def own_parameters(recipe: Recipe, image_shape: Sequence[int]) -> int:
    """Of decoder and likelihood."""
    with torch.device("meta"):
        model = build_model(recipe, tuple(image_shape))
    return sum(p.numel() for part in (model.decoder, model.likelihood) for p in part.parameters())


def parameters(recipe: Recipe, image_shape: Sequence[int]) -> int:
    """Of all networks that sampling needs: decoder, likelihood and prior, with the fitted one's free parameters."""
    shape = tuple(image_shape)
    with torch.device("meta"):
        model = build_model(recipe, shape)
    stages = {stage.name: module for stage in STAGES if (module := stage.check(recipe, model, shape)) is not None}
    fitted, prior = sum(p.numel() for m in stages.values() for p in m.parameters()), stages.get("fitted_prior")
    if isinstance(prior, Mixture):  # of which a symmetric covariance counts once, and weights sum to one
        d = math.prod(model.latent.fit_space.shape)
        fitted += len(prior.logits) * (d + d * (d + 1) // 2 + 1) - sum(p.numel() for p in prior.parameters())
    elif prior is None:
        fitted += sum(p.numel() for p in model.latent.prior.parameters())
    return fitted + own_parameters(recipe, shape)


def train(recipe: Recipe, images: np.ndarray, indices: np.ndarray, seconds: float, watched: np.ndarray, out: Path,
          kept_back: float = FIT_SECONDS, device: str = "cpu", clock: Callable[[], float] = time.process_time,
          points: int = POINTS, codes: int = CODES) -> dict[str, Any]:
    """Trains for so many seconds of a clock and leaves the model in `out`; returns what it cost and the course it took.

    Args:
        kept_back: seconds of those, for fitting a mixture, which takes what it takes.
        points: of the course.
        codes: that a mixture is fitted to.
    """
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    _, h, w, c = images.shape
    assembly, alone = Assembly(recipe, (c, h, w)), SingleProcess(torch.device(device))
    prior, adversary = STAGES[0].choice(recipe, assembly.model), assembly.adversary
    kept_back = kept_back if prior is not None and prior.startswith("mixture") else 0.0
    held_out, known = (to_batch(images[rows[evenly(len(rows), 500)]], device) for rows in (watched, indices))
    curve, state = [], None
    budget = Budget(minutes=(assembly.split.model * seconds - kept_back) / 60, clock=clock, precision=recipe.precision)
    for state in assembly.training(assembly.stream(images, indices, accelerator=alone), budget, accelerator=alone):
        if state.progress * points >= len(curve) + 1:
            curve.append({"seconds": round(state.seconds, 1), **held_out_figures(state.ema, known, held_out)})
    began = clock()
    model = state.ema.eval()
    spread = to_batch(images[indices], device)
    subset, sampler = spread[evenly(len(spread), 2000)], Sampler(model)
    calibrate_likelihood(model, subset)
    stages = fit_stages(sampler, recipe, Data(spread), lambda stage: StageBudget(
        minutes=max(stage.share(recipe, model) * seconds, 1) / 60, clock=clock, precision=recipe.precision, codes=codes))
    fit_seconds = clock() - began
    save_model(out, sampler, Config(recipe, (c, h, w), axes=latent_axes(model, subset), stages=stages))
    return {"recipe": {k: v for k, v in recipe.to_dict().items() if v != getattr(Recipe(), k)},
            "parameters": parameters(recipe, (c, h, w)),
            "trained_parameters": sum(p.numel() for m in (sampler, adversary) if m is not None for p in m.parameters()),
            "training_seconds": round(state.seconds, 1), "fit_seconds": round(fit_seconds, 1), "steps": state.step,
            "images_seen": state.images, "skipped": state.guard.skipped, "rollbacks": state.rollbacks, "curve": curve}


def figures_of(model: ImageModel, data: str, folder: str, metrics: str, with_labels: bool = False) -> list[dict[str, Any]]:
    """A trained model on the test images of a set, on the model's device."""
    source, indices, test = images_of(data, folder)
    known = indices[:: len(indices) // MEASURED][:MEASURED]

    def labels(at: np.ndarray) -> torch.Tensor | None:
        return torch.from_numpy(source.labels[at]).to(model.device) if with_labels else None

    evaluation = Evaluation(model.sampler, to_batch(source.images[test], model.device), labels(test),
                            train_images=to_batch(source.images[known], model.device), train_labels=labels(known), n=MEASURED)
    figures = [f.to_dict() for f in measure(evaluation, metrics)]
    for figure in figures:
        figure.pop("detail", None)
    return figures


def embedded(x: torch.Tensor, features: str = "efficientnet") -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([get_features(features).embed(chunk) for chunk in x.split(250)]).numpy()
