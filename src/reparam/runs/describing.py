"""`describe`: what the command of that name says of a model's latents, as an object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..downstream.description import Description, describe_latents
from ..errors import UsageError
from ..metrics.factors import read_table
from ..parts.ranges import ROWS
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from .evaluate import measured_rows, own_images
from .folder import Run
from .measuring import Images, images_for, run_of


def describe(of: ImageModel | Run | str | Path, images: Images | None = None, *, table: str | Path | None = None,
             labels: npt.ArrayLike | None = None, dims: int = 16, device: str = "auto",
             report: Reporter | None = None) -> Description:
    """Says what the `dims` most informative latents of a model mean: of a run, named by its folder, by the test or held-out
    images of its own data, or by `images`.

    What is known of the images are `labels` (n,) of an array, the labels and factors of a source, and a `table`, a CSV whose
    first column holds the images' names.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed, images that do not fit the model, or a table without them.
        UsageError: a model without images, or images for a GAN, which cannot encode them.

    Example:
        for latent in reparam.describe("runs/shapes").latents:
            print(latent.name, latent.best and latent.best.column, latent.moves)
    """
    report = report or Silent()
    ROWS.check("dims", dims)
    attributes = read_table(table) if table is not None else None
    run = None if isinstance(of, ImageModel) else run_of(of)
    model = of if isinstance(of, ImageModel) else load(run.folder if run is not None else Path(str(of)), device=device)
    if not model.network.has_encoder:
        if images is not None:
            raise UsageError("a GAN cannot encode images: leave them out, and what its latents change is described")
        return describe_latents(model, table=attributes, dims=dims)
    if images is not None:
        found = images_for(model, images, labels, report)
        rows = np.flatnonzero(found.test) if found.test.any() else None
        return replace(describe_latents(model, found, rows, attributes, dims=dims), kind=f"images of {found.source}")
    if run is None:
        raise UsageError("name images: codes of images tell what latents mean, and nothing here tells what the model's own "
                         "images were")
    found = own_images(run, report, f"reparam describe {run.folder} DATA")
    rows, kind = measured_rows(found)
    made = describe_latents(model, found, rows, attributes, dims=dims)
    return replace(made, kind=f"{kind} images of {Path(run.source).name}")
