"""The metric over a model's codes, measured on its own images the first time it is asked for."""

from __future__ import annotations

from pathlib import Path

from ..downstream.geometry import FILE, NearImages, fit_near_images, read_near_images, save_near_images
from ..errors import UsageError
from ..pretrained.image_model import ImageModel
from ..progress import Reporter, Silent
from ..tensors import evenly
from .evaluate import own_images
from .measuring import run_of

MOST_IMAGES = 20_000
"""Training images that centroids are chosen from."""


def near_images(folder: str | Path, model: ImageModel, report: Reporter | None = None) -> NearImages:
    """The metric that is kept beside a run's model, or that of the run's own training images, which is kept then.

    Raises:
        DataError: the run's own data are gone or changed.
        UsageError: a model without its run, or one whose codes have no such metric.
    """
    folder, report = Path(folder), report or Silent()
    try:
        return read_near_images(folder, model)
    except FileNotFoundError:
        run = run_of(folder)
    if run is None:
        raise UsageError(f"{folder} holds a model without its run, and no {FILE}: where the codes of its images lie is not "
                         "known. Leave out --metric codes")
    own = own_images(run, report, "or leave out --metric codes")
    training = own.split()[0]
    report.say("measuring where the codes of the model's own images lie")
    metric = fit_near_images(model, own.images[training[evenly(len(training), MOST_IMAGES)]])
    save_near_images(folder, model, metric)
    return metric
