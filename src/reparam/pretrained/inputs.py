"""What a user names beside a model (image files, a folder, an archive, arrays), read as the model's training images were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.archives import Skipped
from ..data.imageset import ImageSet
from ..data.open import read_like, read_photo
from ..progress import Reporter, Silent
from .config import Config

TOLD = 5
"""Files left out that are told by name."""
WORTH_COUNTING = 1000
"""Images; fewer are read before anybody asks."""


def read_inputs(config: Config, sources: Sequence[str | Path], report: Reporter | None = None) -> ImageSet:
    """Images for a model of this `config`: one folder, archive, .npy, .npz or bundled name, or any number of image files.

    One image is enough. They get the model's size and channels, background and value range. `images` are (n, H, W, C)
    uint8; `names` say which file, or row of an array, each of them is; `labels` number the `classes` of this source, which
    need not be the model's; `skipped` are the files left out, which are told on `report` too.

    Raises:
        DataError: a file is missing, nothing can be read, or the channels do not fit the model.
    """
    report = report or Silent()

    def progress(done: int, total: int) -> None:
        if total >= WORTH_COUNTING:
            report.count("reading images", done, total)

    background, bounds = _as_trained(config)
    found = read_like(sources, config.image_shape, background=background, value_range=bounds, progress=progress)
    tell_skipped(found.skipped, report)
    if found.about_colour:
        report.say(found.about_colour)
    return found


def read_input(config: Config, data: bytes) -> npt.NDArray[np.uint8]:
    """The bytes of one image file as an image (H, W, C) of a model of this `config`.

    Raises:
        DataError: it cannot be read, or its channels do not fit the model.
    """
    background, bounds = _as_trained(config)
    return read_photo(data, config.image_shape, background=background, value_range=bounds)


def _as_trained(config: Config) -> tuple[str, tuple[float, float] | None]:
    """The background and the range of values that the model's images were read with."""
    bounds = config.data.get("value_range")
    return config.data.get("background", "white"), (float(bounds[0]), float(bounds[1])) if bounds else None


def tell_skipped(skipped: Sequence[Skipped], report: Reporter) -> None:
    """Says which files were left out, and why."""
    for each in skipped[:TOLD]:
        report.say(f"left out {each.name}: {each.reason}")
    if len(skipped) > TOLD:
        report.say(f"left out {len(skipped) - TOLD} more files")
