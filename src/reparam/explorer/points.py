"""The images that a model is looked at with: what is known of each, and their codes, which are kept beside the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..data.stream import to_batch
from ..downstream.maps import Known, as_known
from ..downstream.saved import read_fitted, save_fitted
from ..errors import DataError, ModelFileError, ReparamError
from ..metrics.factors import Table, rows_for, unknown_name
from ..pretrained.image_model import ImageModel
from ..progress import Reporter
from ..tensors import evenly

Array = npt.NDArray[Any]
FILE, WHAT = "explorer.safetensors", "codes and figures of a run's images"
SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Points:
    """Some of the images of a source, all of them or evenly spaced ones."""

    images: ImageSet
    rows: npt.NDArray[np.int64]
    """(n,) those of the images that are looked at."""
    known: dict[str, Known]
    """What is said of each of the n images, by name: labels, the parts of the data, factors of the source, columns of a
    table."""

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, rows: Array) -> npt.NDArray[np.uint8]:
        """The images (m, H, W, C) at some of the n rows."""
        return np.asarray(self.images.images[self.rows[rows]])

    def subset(self, rows: Array) -> ImageSet:
        """The images at some of the n rows."""
        at, own = self.rows[rows], self.images
        return replace(own, images=own.images[at], labels=None if own.labels is None else own.labels[at],
                       digests=own.digests[at], groups=own.groups[at], validation=own.validation[at], test=own.test[at],
                       names=tuple(own.names[i] for i in at), factors=None)

    def names(self, rows: Array) -> list[str]:
        return [self.images.names[i] for i in self.rows[rows]]


def points_of(images: ImageSet, table: Table | None, most: int) -> Points:
    """At most so many of some images, with what is known of them.

    Raises:
        DataError: the table names none of the images.
    """
    rows = evenly(len(images), most)
    known: dict[str, Known] = {}
    if images.labels is not None:
        classes = images.classes or tuple(map(str, range(int(images.labels.max()) + 1)))
        cells = np.array([*classes, ""], object)[images.labels[rows]]  # −1 is the last
        known["label"] = as_known("label", cells.tolist(), classes)
    part = np.full(len(images), "", object)
    for name, of_part in zip(SPLITS, images.split(), strict=True):
        part[of_part] = name
    known["part"] = as_known("part", part[rows].tolist(), SPLITS)
    for name, column in (images.factors or {}).items():
        known[name] = as_known(name, [f"{v:.6g}" if isinstance(v, float) else str(v) for v in column[rows].tolist()])
    if table is not None:
        names = [images.names[i] for i in rows]
        found = rows_for(table, names)
        if not any(found):
            raise unknown_name(table, names[0])
        for k, name in enumerate(table.names):
            known[name] = as_known(name, ["" if row is None else row[k] for row in found])
    return Points(images, rows, known)


class Facts(TypedDict):
    """What stands beside the arrays of a file of codes and figures."""

    fingerprint: str
    """Of the images."""
    images: int


@dataclass
class Kept:
    """Arrays of n rows that were computed for a model and some images, in a file beside the model."""

    path: Path
    model: ImageModel
    points: Points
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])

    @staticmethod
    def open(folder: Path, model: ImageModel, points: Points) -> Kept:
        """What was kept for these images; nothing where it is of other images, or of the model as it was before."""
        kept = Kept(folder / FILE, model, points)
        try:
            arrays, facts = read_fitted(kept.path, WHAT, model, Facts, again="reparam explore RUN")
        except (FileNotFoundError, ModelFileError):
            return kept
        if facts == kept.facts and all(len(array) == len(points) for array in arrays.values()):
            kept.arrays = arrays
        return kept

    @property
    def facts(self) -> Facts:
        return Facts(fingerprint=self.points.images.fingerprint, images=len(self.points))

    def keep(self, name: str, array: Array) -> None:
        """Keeps one more array; in memory alone where not all of it is finite, or the folder cannot be written to."""
        self.arrays[name] = array
        finite = {name: array for name, array in self.arrays.items() if np.isfinite(array).all()}
        try:
            save_fitted(self.path, WHAT, self.model, finite, self.facts)
        except ReparamError:
            return


def codes_of_points(kept: Kept, report: Reporter) -> npt.NDArray[np.float32]:
    """Codes (n, d), encoded the first time."""
    d = int(np.prod(kept.model.latent_shape))
    found = kept.arrays.get("codes")
    if found is None or found.shape[1:] != (d,):
        n = len(kept.points)
        found = np.empty((n, d), np.float32)
        size = kept.model.at_once
        for begin in range(0, n, size):
            rows = np.arange(begin, min(begin + size, n))
            found[rows] = kept.model.encode_pixels(to_batch(kept.points.pixels(rows))).flatten(1).numpy()
            report.count("encoding images", int(rows[-1]) + 1, n)
        if not np.isfinite(found).all():
            raise DataError("codes of some of these images are not finite: train the model again with a lower learning rate")
        kept.keep("codes", found)
    return found


def classes_of(known: Sequence[Known]) -> list[dict[str, Any]]:
    """What the page is told of columns."""
    return [{"name": each.name, "title": each.name, "kind": "class", "values": list(each.classes)} if each.classes else
            {"name": each.name, "title": each.name, "kind": "number"} for each in known]
