"""Another prior for a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError
from ..models.sampler import FITTED_PRIOR
from ..parts.recipe import Recipe
from ..pretrained.image_model import load
from ..progress import Attempts, Reporter, Silent
from ..trainer.autotune import sharing
from ..trainer.stages.base import Stage, StageBudget
from ..trainer.stages.sequence import check_stages, fit_anew
from .choosing import Trained, sampling_of
from .finish import conclude, config_of, reported, train_images
from .folder import Run, images_of


def refit(folder: str | Path, prior: str, *, resampler: str | None = None, minutes: float | None = None,
          steps: int | None = None, data: npt.NDArray[np.generic] | None = None, labels: npt.ArrayLike | None = None,
          device: str = "auto", report: Reporter | None = None) -> Run:
    """Fits a prior to the codes of a trained run's model, in place of the one that it carries, and completes the folder
    anew. The priors mixture and riemannian need no `minutes` or `steps`; what learns step by step gets two minutes by
    default. A resampler learns anew with its prior: the one that is named, or by default that of the recipe.

    Raises:
        ModelFileError: no finished run there.
        DataError: its data are gone or changed.
        UsageError: a GAN, or a prior that cannot be fitted to the model's codes.
    """
    report, asked = report or Silent(), Recipe(minutes=minutes, steps=steps)  # numbers are told before anything is read
    run, model = Run.read(folder), load(folder, device=device)
    if "outcome" not in run.facts:
        raise ModelFileError(f"{folder} has not been trained to an end; go on with: reparam train --resume {folder}")
    run.needs("training", "notes", "parameters")
    run.recipe = run.recipe.but(fitted_prior=prior, resampler=resampler or run.recipe.resampler)
    check_stages(run.recipe, model.vae, model.config.image_shape)  # refused before images are read
    images = images_of(run, data, labels, report)
    precision = (run.precision or "float32") if model.device.type != "cpu" else "float32"  # another machine may not have it
    each = StageBudget(asked.steps, asked.minutes if minutes or steps else 2.0, precision=precision)

    def budget(stage: Stage) -> StageBudget:
        return reported(each, stage.doing, told, [])

    with sharing(report) as told:
        stages = fit_anew(FITTED_PRIOR, model.sampler, model.config.stages, run.recipe,
                          train_images(run, images, model.device), budget)
        ended, run.status = run.status, "fitting"
        run.save()  # should what follows be cut short, to resume the run is to complete it
        attempt = Attempts(told)
        sampling = sampling_of(run, images, model.sampler, Trained.of(run), attempt)
        conclude(run, images, model.sampler, config_of(run, images, model.config.axes, stages, sampling), attempt)
    run.status = ended
    run.save()
    return run
