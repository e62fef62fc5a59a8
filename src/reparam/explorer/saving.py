"""Files of what was found: pictures, animations, arrays and tables, as the commands write them, but as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..errors import UsageError
from ..files.tables import write_table
from ..pretrained.outputs import ANIMATED, FOLDER, Output, save_codes, save_images, there_and_back

KINDS = {"png": "image/png", "strip": "image/png", "zip": "application/zip", "gif": "image/gif", "webp": "image/webp",
         "mp4": "video/mp4", "npy": "application/octet-stream", "csv": "text/csv"}
"""What can be saved, and the types of the files."""
MOVING = ("gif", "webp", "mp4")


@dataclass(frozen=True)
class Chosen:
    """What is to be saved."""

    codes: npt.NDArray[np.float32] | None
    """(n, *latent)."""
    images: Callable[[], npt.NDArray[np.uint8]]
    """(n, H, W, C)."""
    found: ImageSet | None
    """Where they are images of the data."""


def file_of(kind: str, chosen: Chosen) -> tuple[str, str, bytes]:
    """Name, type and bytes of a file.

    A png is one image at its own size or a sheet of several, a strip has all in one row, a zip holds a file of each; an npy
    has the codes (n, *latent), a csv names, labels and codes; an animation goes there and back.

    Raises:
        UsageError: nothing to write, or a program that is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"reparam.{'png' if kind == 'strip' else kind}"
        if kind in ("csv", "npy"):
            _write_codes(path, chosen)
        else:
            _write_images(kind, path, chosen.images())
        return path.name, KINDS[kind], path.read_bytes()


def _write_images(kind: str, path: Path, images: npt.NDArray[np.uint8]) -> None:
    if kind == "zip" or (kind == "png" and len(images) == 1):
        folder = path.parent / "images"
        save_images(images, Output(folder, FOLDER))
        files = sorted(folder.iterdir())
        if kind == "png":
            files[0].replace(path)
            return
        with ZipFile(path, "w") as packed:  # of files that are compressed already
            for file in files:
                packed.write(file, file.name)
        return
    if kind in MOVING and len(images) < 2:
        raise UsageError("an animation takes two images at least")
    to = Output.of(str(path), ANIMATED)
    save_images(there_and_back(images) if kind in MOVING else images, to, columns=len(images) if kind == "strip" else None)


def _write_codes(path: Path, chosen: Chosen) -> None:
    if path.suffix == ".npy":
        if chosen.codes is None:
            raise UsageError("this model has no encoder, which would tell the codes of images")
        np.save(path, chosen.codes)
    elif chosen.found is not None and chosen.codes is not None:
        save_codes(chosen.codes, chosen.found, Output(path, ".csv"))
    elif chosen.found is not None:
        write_table(path, {"name": chosen.found.names})
    elif chosen.codes is not None:
        write_table(path, {"z": chosen.codes.reshape(len(chosen.codes), -1)})
