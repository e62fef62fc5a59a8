"""`map`: what the command of that name makes of a model's codes, as an object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..data.stream import to_batch
from ..downstream.maps import FEWEST, Known, Map, as_known, principal_map
from ..downstream.neighbourhoods import check_package, neighbour_map
from ..downstream.statistics import code_scale
from ..errors import UsageError, nearest
from ..metrics.factors import known_column, read_table
from ..parts.ranges import SOME_IMAGES
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from ..tensors import evenly
from ..text import counted
from .evaluate import measured_rows, own_images
from .folder import Run
from .measuring import Images, images_for, run_of

METHODS = {"pca": principal_map, "pacmap": neighbour_map}
MOST = 5_000
"""Images, evenly spaced among more."""
LABEL = "label"


@dataclass(frozen=True)
class Mapped:
    """Images in the plane, by their codes."""

    images: ImageSet
    rows: npt.NDArray[np.int64]
    """(n,) those of the images that are mapped."""
    codes: npt.NDArray[np.float32]
    """(n, d) posterior means, flattened."""
    map: Map
    known: Known | None
    """What colours the points."""
    notes: tuple[str, ...] = ()
    """What is to be said of it, in sentences."""

    @property
    def names(self) -> list[str]:
        """(n,)"""
        return [self.images.names[i] for i in self.rows]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """(n, H, W, C)"""
        return self.images.images[self.rows]


def map_codes(of: ImageModel | Run | str | Path, images: Images | None = None, *, table: str | Path | None = None,
              column: str | None = None, labels: npt.ArrayLike | None = None, method: str = "pca", n: int = MOST,
              device: str = "auto", report: Reporter | None = None) -> Mapped:
    """Lays images out in the plane, near ones where their codes are near: of a run, named by its folder, the test or
    held-out images of its own data, or `images`; `n` of them at most.

    Distances are between codes whose dimensions are weighted by their information. `method` is "pca", the two leading
    principal components, or "pacmap", which keeps neighbourhoods and no distances. Points are coloured by their label, or by
    a `column` of a `table` or of the source.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed, images that do not fit the model, or a table without them.
        UsageError: a GAN, which cannot encode images, too few images, a column or method that there is not, or a package
            that is missing.

    Example:
        found = reparam.map_codes("runs/photos", "photos/", method="pacmap")
        found.map.xy, found.names, found.map.trustworthiness
    """
    report = report or Silent()
    SOME_IMAGES.check("n", n)
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}; got {method!r}{nearest(method, METHODS)}")
    if method == "pacmap":
        check_package()  # which tells that it is missing before anything is read
    if table is not None and column is None:
        raise UsageError("a table has columns: say which one colours the map, such as --column hair")
    read = read_table(table) if table is not None else None
    run = None if isinstance(of, ImageModel) else run_of(of)
    model = of if isinstance(of, ImageModel) else load(run.folder if run is not None else Path(str(of)), device=device)
    _ = model.vae  # which tells a GAN
    found, rows = _images(model, run, images, labels, report)
    rows = rows[evenly(len(rows), min(n, len(rows)))]
    if len(rows) < FEWEST:
        raise UsageError(f"a map takes at least {FEWEST} images; got {len(rows)}")
    known = _known(found, rows, known_column(read, column, [found.names[i] for i in rows])
                   if read is not None and column is not None else None, column)
    report.say("encoding images")
    codes = model.encode_pixels(to_batch(found.images[rows])).flatten(1).numpy()
    dims, scale = code_scale(model)
    report.say("laying out the map")
    made = METHODS[method](codes[:, dims] * scale if len(dims) > 1 else codes)
    return Mapped(found, rows, codes, made, known, tuple(_notes(known, len(rows))))


def _images(model: ImageModel, run: Run | None, images: Images | None, labels: npt.ArrayLike | None, report: Reporter
            ) -> tuple[ImageSet, npt.NDArray[np.int64]]:
    if images is not None:
        found = images_for(model, images, labels, report)
        return found, np.arange(len(found.images))
    if run is None:
        raise UsageError("name images to map: nothing here tells what the model's own images were")
    own = own_images(run, report, f"reparam map {run.folder} DATA")
    return own, measured_rows(own)[0]


def _known(found: ImageSet, rows: npt.NDArray[Any], cells: list[str] | None, column: str | None) -> Known | None:
    """What colours the points: cells of a table, a factor of the source, or labels."""
    factors = found.factors or {}
    if cells is not None and column is not None:
        return as_known(column, cells)
    if column is not None and column != LABEL:
        if column not in factors:
            raise UsageError(f"nothing is known of these images by the name {column!r}{nearest(column, factors)}: "
                             + (f"there are {', '.join(factors)}" if factors else "name the --table that has this column"))
        return as_known(column, [_written(v) for v in factors[column][rows].tolist()])
    if found.labels is None:
        return None
    classes = found.classes or tuple(map(str, range(int(found.labels.max()) + 1)))
    return as_known(LABEL, [classes[i] if i >= 0 else "" for i in found.labels[rows].tolist()], classes)


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else ""
    return str(value)


def _notes(known: Known | None, n: int) -> list[str]:
    if known is None:
        return ["nothing is known of these images that could colour the map: labels are sub-folders, or a --column of a "
                "--table"]
    notes: list[str] = []
    if known.classes and len(set(known.cells) - {""}) > max((n - known.unknown) // 2, 1):
        notes.append(f"hardly any two images share a value of {known.name}, so that the colours say little")
    if known.unknown:
        notes.append(f"{counted(known.unknown, 'image')} of {n:,} without a {known.name} "
                f"{'is' if known.unknown == 1 else 'are'} grey")
    return notes
