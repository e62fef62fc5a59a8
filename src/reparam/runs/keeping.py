"""Models in Python beyond runs: saved from a loop of one's own, and given another prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..data.arrays import from_arrays
from ..data.stream import binarized, to_batch
from ..errors import ModelFileError, UsageError
from ..models.calibration import calibrate_likelihood
from ..models.codes import latent_axes
from ..models.sampler import FITTED_PRIOR, Sampler
from ..models.vae import Model
from ..parts.recipe import Recipe
from ..pretrained.config import Config
from ..pretrained.files import save_model
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from ..trainer.stages.base import Data, StageBudget
from ..trainer.stages.sequence import check_stages, fit_anew
from .folder import ARRAY, Run
from .measuring import Images, images_for
from .refit import refit


def save(model: Model | ImageModel, folder: str | Path, *, recipe: Recipe | None = None,
         images: npt.NDArray[np.generic] | None = None) -> ImageModel:
    """Writes a model that `load` and every command that uses one take: `config.json` and `model.safetensors`.

    A network of `build_model` remembers its recipe; of another one it is the `recipe` that builds the same. With some of the
    training `images`, the scale of the likelihood is set by them and the latents are sorted by what they tell of an image,
    which `traverse` shows. Returns what `load` would.

    Raises:
        UsageError: a folder that holds a run, or a network whose recipe is not known or makes another one.

    Example:
        model = reparam.build_model(recipe, (1, 28, 28))
        task = reparam.ModelTask(model, reparam.build_objective(recipe))
        for state in reparam.training(task, batches, reparam.Budget(steps=1000)): ...
        reparam.save(state.ema, "models/mine", images=x[:2000])
    """
    folder = Path(folder)
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} holds a run, whose model is its own: name another folder")
    if isinstance(model, Model):
        built_from = recipe or model.recipe
        if built_from is None or model.image_shape is None:
            raise UsageError("nothing says how this network is built: make it with build_model(recipe, image_shape)")
        model = ImageModel(Sampler(model), Config(built_from, model.image_shape), next(model.parameters()).device)
    if images is not None:
        x = to_batch(from_arrays(images, source=ARRAY, like=model.config.image_shape).images, model.device)
        x = binarized(x) if model.config.recipe.binarize else x
        with torch.no_grad():
            calibrate_likelihood(model.network, x)
            model.config = replace(model.config, axes=latent_axes(model.network, x))
    save_model(folder, model.sampler, model.config)
    return load(folder, device=str(model.device))


def fit_prior(of: Run | ImageModel | str | Path, prior: str = "flow_matching", data: Images | None = None, *,
              labels: npt.ArrayLike | None = None, resampler: str | None = None, minutes: float | None = None,
              steps: int | None = None, device: str = "auto", report: Reporter | None = None) -> ImageModel:
    """Fits a prior to the codes of a model's images, in place of the one that it carries; encoder and decoder stay.

    Of a run, the images are its own (an array that it was trained on is given again as `data`), and its figures, pictures
    and report are made anew. A model without its run takes `data`; in a folder it is saved there again. What learns step by
    step gets two minutes, unless `minutes` or `steps` say otherwise.

    Raises:
        ModelFileError: no model there.
        DataError: the data are gone, changed, or do not fit the model.
        UsageError: a GAN, no images, or a prior that cannot be fitted to the model's codes.
    """
    report, asked = report or Silent(), Recipe(minutes=minutes, steps=steps)
    if not isinstance(of, ImageModel):
        folder = of.folder if isinstance(of, Run) else Path(of)
        if (folder / "run.json").exists():
            if data is not None and not isinstance(data, np.ndarray):
                raise UsageError(f"the run in {folder} has images of its own, to which its prior is fitted: leave "
                                 "the data out")
            refit(folder, prior, resampler=resampler, minutes=minutes, steps=steps, data=data, labels=labels, device=device,
                  report=report)
            return load(folder, device=device)
        if not (folder / "config.json").exists():
            raise ModelFileError(f"no model in {folder}: it has no config.json")
        return save(fit_prior(load(folder, device=device), prior, data, labels=labels, resampler=resampler, minutes=minutes,
                              steps=steps, report=report), folder)
    if data is None:
        raise UsageError("name images to whose codes the prior is fitted: without its run.json nothing tells what the model "
                         "was trained on")
    recipe = of.config.recipe.but(fitted_prior=prior, resampler=resampler or of.config.recipe.resampler)
    check_stages(recipe, of.vae, of.config.image_shape)
    found = images_for(of, data, labels, report)
    x = to_batch(found.images[~found.test], of.device)
    y = torch.from_numpy(found.labels[~found.test]).to(of.device) if found.labels is not None else None
    budget = StageBudget(asked.steps, asked.minutes if minutes or steps else 2.0)
    train_images = Data(binarized(x) if recipe.binarize else x, y)
    stages = fit_anew(FITTED_PRIOR, of.sampler, of.config.stages, recipe, train_images, lambda _: budget)
    return ImageModel(of.sampler, replace(of.config, recipe=recipe, stages=stages), of.device)
