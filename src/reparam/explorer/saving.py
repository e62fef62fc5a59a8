"""Files of what was found: pictures, animations, arrays and tables, as the commands write them, but as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..errors import UsageError
from ..files.tables import write_table
from ..pretrained.outputs import ANIMATED, Output, save_codes, save_images, there_and_back

KINDS = {"png": "image/png", "gif": "image/gif", "webp": "image/webp", "mp4": "video/mp4", "npy": "application/octet-stream",
         "csv": "text/csv"}
"""Endings of files, and their types."""
MOVING = ("gif", "webp", "mp4")


@dataclass(frozen=True)
class Chosen:
    """What is to be saved."""

    codes: npt.NDArray[np.float32] | None
    """(n, d)."""
    images: Callable[[], npt.NDArray[np.uint8]]
    """(n, H, W, C)."""
    found: ImageSet | None
    """Where they are images of the data."""


def file_of(kind: str, chosen: Chosen) -> tuple[str, str, bytes]:
    """Name, type and bytes of a file.

    A .csv has the names, labels and codes; an animation goes there and back; all others hold the images.

    Raises:
        UsageError: nothing to write, or a program that is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"reparam.{kind}"
        if kind == "csv":
            _write_table(path, chosen)
        else:
            to = Output.of(str(path), ANIMATED)
            images = chosen.images()
            if kind in MOVING and len(images) < 2:
                raise UsageError("an animation takes two images at least")
            save_images(there_and_back(images) if kind in MOVING else images, to)
        return path.name, KINDS[kind], path.read_bytes()


def _write_table(path: Path, chosen: Chosen) -> None:
    if chosen.found is not None and chosen.codes is not None:
        save_codes(chosen.codes, chosen.found, Output(path, ".csv"))
    elif chosen.found is not None:
        write_table(path, {"name": chosen.found.names})
    elif chosen.codes is not None:
        write_table(path, {"z": chosen.codes})
