"""Images that a page shows as points of a map: their codes, their places, what is known of them, and small pictures."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..downstream.maps import Known, component_titles, principal_map
from ..pretrained.image_model import ImageModel
from ..pretrained.pictures import sprite, thumbnails
from .packing import packed_array

MOST, MOST_BYTES = 5_000, 4_000_000
"""Points of a page, and bytes of all their codes."""
SIDES, SHEET_BYTES, QUALITY = (64, 48, 32), 4_500_000, 75
"""Pixels of a small picture's longer side, the first with which all take no more bytes, and how they are compressed."""
LEVELS = 65_535
"""Of the numbers of a code, between the least and the greatest of each."""


@dataclass(frozen=True)
class Points:
    """Images of a map."""

    images: npt.NDArray[np.uint8]
    """(n, H, W, C)."""
    codes: npt.NDArray[np.float32]
    """(n, d)."""
    known: Known | None = None
    """What colours them."""


def most_points(model: ImageModel) -> int:
    """How many points a page of a model can hold: codes of many numbers leave room for fewer."""
    return max(3, min(MOST, MOST_BYTES // (2 * math.prod(model.latent_shape))))


def map_of(model: ImageModel, points: Points) -> dict[str, Any]:
    """The map as the page reads it: the plane of the codes' two leading principal components, as `reparam explore` shows it.

    Raises:
        UsageError: too few images, codes of one number, or all of one code.
    """
    plane, codes, known = principal_map(points.codes), points.codes, points.known
    centre, axes = plane.plane
    low, high = codes.min(0), codes.max(0)
    levels = np.rint((codes - low) / np.maximum(high - low, 1e-30) * LEVELS)
    column = [] if known is None else [
        {"name": known.name, "kind": "class", "values": list(known.classes)} if known.classes else
        {"name": known.name, "kind": "number"}]
    return {"titles": component_titles(plane, codes), "exact": model.network.latent.space.kind == "real",
            "trustworthiness": plane.trustworthiness if math.isfinite(plane.trustworthiness) else None, "columns": column,
            "values": packed_array([] if known is None else np.where(known.values < 0, np.nan, known.values)
                                   if known.classes else known.values),
            "xy": packed_array(plane.xy), "centre": packed_array(centre), "axes": packed_array(axes),
            "codes": packed_array(levels, "<u2"), "low": packed_array(low), "high": packed_array(high),
            "sheet": sheet_of(points.images)}


def sheet_of(images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Small pictures of images (n, H, W, C) on one sheet, a lossy WebP."""
    for side in SIDES[:-1]:
        sheet = _sheet(images, side)
        if len(sheet["data"]) <= SHEET_BYTES:
            return sheet
    return _sheet(images, SIDES[-1])


def _sheet(images: npt.NDArray[np.uint8], side: int) -> dict[str, Any]:
    small, written = thumbnails(images, side), io.BytesIO()
    sprite(small).save(written, "WEBP", quality=QUALITY)
    return {"data": base64.b64encode(written.getvalue()).decode(), "columns": math.ceil(len(images) ** 0.5),
            "side": list(small.shape[1:3])}
