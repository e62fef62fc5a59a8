"""The table of a map, for other programs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...files.tables import write_table
from ...pretrained.pictures import thumbnails
from ..mapping import LABEL, Mapped

SIDE = 64
"""Pixels of a thumbnail at most."""


def write_map_table(found: Mapped, path: Path) -> None:
    """A row for each image: its name, what is known of it, its place x and y, its code, and itself as a PNG file.

    A .csv has a column for each number of the code and no images.

    Raises:
        ReparamError: it cannot be written.
    """
    known = {} if found.known is None else {_column(found.known.name): [cell or None for cell in found.known.cells]}
    write_table(path, {"name": found.names, **known, "x": found.map.xy[:, 0], "y": found.map.xy[:, 1], "code": found.codes,
                       "thumbnail": [_png(image) for image in thumbnails(found.pixels, SIDE)]})


def _column(name: str) -> str:
    """Of what is known, where a column of that name stands there already."""
    return f"{name} of table" if name in ("name", "x", "y", "code", "thumbnail") else name if name else LABEL


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG")
    return written.getvalue()
