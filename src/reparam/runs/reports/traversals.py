"""The rows of a picture of traversals: each latent's information, and the factor that it follows where factors are known."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from ...data.imageset import ImageSet
from ...downstream.meaning import anova
from ...metrics.factors import of_columns
from ...pretrained.image_model import ImageModel
from ...tensors import evenly

ROWS = 8
MOST_IMAGES = 1000
"""Images whose codes are set against their factors, at most."""
LEAST = 0.2
"""A factor that explains a smaller share of a latent's variance is not named."""


class Row(TypedDict):
    """One latent of the picture."""

    nats: float
    factor: str
    """"" where no factor is known, or none explains much."""
    explained: float
    """The share of the latent's variance that lies between levels of the factor, 0 to 1."""


def rows_of(model: ImageModel, images: ImageSet, measured: np.ndarray) -> list[Row]:
    """The latents of `model.traverse`, each with the factor of the images at `measured` that explains most of it."""
    axes = model.config.axes[:ROWS]
    rows: list[Row] = [{"nats": axis.nats, "factor": "", "explained": 0.0} for axis in axes]
    if images.factors is None or not rows:
        return rows
    some = measured[evenly(len(measured), MOST_IMAGES)]
    table = of_columns({name: column[some] for name, column in images.factors.items()})
    if table is None:
        return rows
    codes = model.encode(images.images[some]).reshape(len(some), -1)[:, [axis.index for axis in axes]].astype(np.float64)
    shares = np.stack([_explained(codes, level) for level in table.levels.numpy().T])
    for row, share in zip(rows, shares.T, strict=True):
        if share.max() >= LEAST:
            row.update(factor=table.names[int(share.argmax())], explained=round(float(share.max()), 3))
    return rows


def _explained(z: np.ndarray, level: np.ndarray) -> np.ndarray:
    """ε² of each column of z (n, d) by groups (n,): the share between them, less what chance adds. (Kelley, 1935)"""
    f, between, within = anova(z, level), int(level.max()), len(z) - int(level.max()) - 1
    return np.maximum(between * (f - 1) / (between * f + within), 0)
