"""`evaluate`: what the command of that name does, and the same for models and images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.arrays import from_arrays
from ..data.imageset import ImageSet
from ..errors import ModelFileError, UsageError
from ..pretrained.image_model import ImageModel, load
from ..pretrained.inputs import read_inputs
from ..progress import Reporter, Silent
from .comparison.compare import Request
from .comparison.compare import compare as side_by_side
from .evaluate import MOST_SAMPLES, Evaluated, Options, measure_on, measure_on_own
from .evaluations import OWN, file_of
from .finish import keep_figures
from .folder import ARRAY, Run
from .reports.comparison_page import comparison_dict, write_comparison

Images = str | Path | Sequence[str | Path] | npt.NDArray[np.generic]
"""One source of images as for training, a list of image files, or an array (n, H, W), (n, H, W, C) or (n, C, H, W)."""


def evaluate(of: ImageModel | Run | str | Path, data: Images | None = None, *, metrics: str | None = None,
             features: str | None = None, factors: str | None = None, n: int = MOST_SAMPLES,
             labels: npt.ArrayLike | None = None, device: str = "auto", report: Reporter | None = None) -> Evaluated:
    """Measures a model: of a run, named by its folder, on the test or held-out images of its own data, or on `data`.

    `metrics` are names separated by commas, `"fd, prdc, iw_nll(500)"`; by default all that apply. `features` is the network
    that compares sets of images, `factors` a table of what they were drawn from, `labels` (n,) the classes of an array of
    images. Figures of a run stay in its folder, and its report and model card are written again with them; an `ImageModel`,
    as `load` returns it, is measured and nothing is written.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed, or images that do not fit the model.
        UsageError: a metric that this model or these images do not allow, wrong options, or a model without images.

    Example:
        found = reparam.evaluate("runs/digits", metrics="elbo, psnr")
        found["psnr"].value, found["psnr"].interval
    """
    report, options = report or Silent(), Options(features, factors, n)
    options.check()
    run = None if isinstance(of, ImageModel) else run_of(of)
    if run is None and data is None:
        raise UsageError("name images to measure the model on: without its run.json nothing tells what its own data were"
                         if not isinstance(of, ImageModel) else "a model in memory has no data of its own: give images")
    model = of if isinstance(of, ImageModel) else load(run.folder if run is not None else Path(str(of)), device=device)
    if run is not None and data is None:
        found = measure_on_own(run, model, metrics, report, options)
    else:
        facts = run.facts.get("outcome") if run is not None else None
        found = measure_on(model, images_for(model, data, labels, report), metrics, report, options, facts=facts)
    return found if run is None else keep(run, model, found, report)


def keep(run: Run, model: ImageModel, found: Evaluated, report: Reporter) -> Evaluated:
    """What was found, kept in the run's folder."""
    keep_figures(run, model.config, found, report)
    path = run.folder / OWN if found.own else file_of(run.folder, found.source, found.fingerprint)
    return replace(found, kept=path)


def images_for(model: ImageModel, data: Images | None, labels: npt.ArrayLike | None, report: Reporter) -> ImageSet:
    """Images as a model takes them, from whatever `data` is."""
    if isinstance(data, np.ndarray):
        bounds = model.config.data.get("value_range")
        return from_arrays(data, labels, source=ARRAY, value_range=tuple(bounds) if bounds else None,
                           like=model.config.image_shape)
    if labels is not None:
        raise UsageError("labels are given with an array of images; files and folders have their own")
    return read_inputs(model.config, [data] if isinstance(data, str | Path) else list(data or ()), report)


def run_of(of: Run | str | Path) -> Run | None:
    """The run in a folder; None of a folder that holds a model alone."""
    if isinstance(of, Run):
        return of
    folder = Path(of)
    try:
        return Run.read(folder)
    except ModelFileError:
        if (folder / "config.json").exists() and not (folder / "run.json").exists():
            return None
        raise


def compare(folders: Sequence[str | Path], *, metrics: str | None = None, features: str | None = None,
            n: int | None = None, again: bool = False, out: str | Path | None = None, device: str = "auto",
            report: Reporter | None = None) -> dict[str, Any]:
    """Sets runs side by side as the command `compare` does, and returns what its `--json` prints; with `out`, the page is
    written there.

    Raises:
        UsageError: fewer than two models, runs of other data, or figures that were not measured alike.
    """
    found = side_by_side(folders, Request(metrics, features, n, again), device=device, report=report)
    return comparison_dict(found) if out is None else write_comparison(found, out, device=device, report=report)
