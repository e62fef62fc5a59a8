"""A run's folder: its paths, and what stands in its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.arrays import from_arrays
from ..data.imageset import ImageSet
from ..data.open import open_images
from ..data.options import DataOptions
from ..errors import DataError, ModelFileError, UsageError
from ..files.writing import write_json
from ..parts.recipe import Recipe
from ..progress import Reporter
from .records import read_run_file

ARRAY = "array"
"""The source of images that were held in memory."""
STATE = Path("state") / "training.safetensors"
"""What continues training, inside a run's folder."""


@dataclass
class Run:
    """A run's folder, and what stands in its `run.json`."""

    folder: Path
    source: str
    options: DataOptions
    recipe: Recipe
    status: str = "started"
    fingerprint: str = ""
    threads: int = 0
    precision: str = ""
    compiled: bool = False
    """Whether its steps are compiled; as with threads and precision, as a run began, so it goes on."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """Sizes, times, versions and what training left behind."""

    @property
    def state_file(self) -> Path:
        return self.folder / STATE

    @property
    def watched_file(self) -> Path:
        """A few held-out images, (n, H, W, C) uint8, on which one sees how training goes."""
        return self.folder / "state" / "held_out.npy"

    def save(self) -> None:
        write_json(self.folder / "run.json", {
            "version": 1, "status": self.status, "data": self.source, "options": vars(self.options),
            "recipe": self.recipe.to_dict(), "fingerprint": self.fingerprint, "threads": self.threads,
            "precision": self.precision, "compiled": self.compiled, "facts": self.facts})

    @staticmethod
    def read(folder: str | Path) -> Run:
        """Raises ModelFileError when the folder holds no run, or one that cannot be read."""
        read = read_run_file(folder)
        return Run(Path(folder), read["data"], DataOptions(**read["options"]), read["recipe"], read["status"],
                   read["fingerprint"], read["threads"], read["precision"],
                   read.get("compiled", read["recipe"].compile == "on"), dict(read["facts"]))

    def needs(self, *names: str) -> None:
        """Raises ModelFileError where the run's facts lack one of these, which every run has that got so far."""
        missing = next((name for name in names if name not in self.facts), None)
        if missing is not None:
            raise ModelFileError(f"{self.folder / 'run.json'} does not say {missing!r} of its run. Go on with: reparam "
                                 f"train --resume {self.folder}")


def held_in_memory(data: npt.NDArray[np.generic], labels: npt.ArrayLike | None, options: DataOptions) -> ImageSet:
    return from_arrays(data, labels, source=ARRAY, image_size=options.image_size, value_range=options.value_range,
                       largest=options.largest)


def images_of(run: Run, data: npt.NDArray[np.generic] | None, labels: npt.ArrayLike | None, report: Reporter) -> ImageSet:
    """The images that a run was trained on, read again; `data` is the array, of a run that was trained on one.

    Raises:
        DataError: they are gone, or are others than the run began with.
        UsageError: an array is missing, or is given where there is no place for it.
    """
    if run.source == ARRAY and data is None:
        raise UsageError(f"the run in {run.folder} was trained on an array in memory: give it again, as data=array")
    if run.source != ARRAY and data is not None:
        raise UsageError(f"the run in {run.folder} has data of its own, {run.source}: leave the array out")
    images = open_data(run.source, run.options, report) if data is None else held_in_memory(data, labels, run.options)
    if run.fingerprint and images.fingerprint != run.fingerprint:
        what = "these are other images, or other labels, than" if data is not None else f"{run.source} changed since"
        raise DataError(f"{what} this run began{' with' * (data is not None)}; start a new run, or bring the data back")
    return images


def open_data(source: str, options: DataOptions, report: Reporter) -> ImageSet:
    """Opens images as a run's options say."""
    try:
        return open_images(source, **vars(options),
                           progress=lambda done, total: report.count("reading images", done, total))
    except (OSError, RuntimeError) as e:  # a path that no system takes, or the home of nobody
        raise DataError(f"{source} cannot be opened: {e}") from e
