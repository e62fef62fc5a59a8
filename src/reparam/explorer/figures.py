"""Figures of each image that take long: computed piece by piece when they are first looked at, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.stream import to_batch
from ..downstream.anomaly import Detector
from ..errors import ModelFileError
from ..runs.anomalies import FILE
from .explored import Explored

ERROR, WORSE = "error", "worse"
"""The error of an image's reconstruction, and by how much it is greater in the run beside it."""


@dataclass(frozen=True)
class FigureOf:
    """A figure of images, as a column."""

    name: str
    title: str
    measure: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
    """(m,) of the points at m rows."""


def figures_of(run: Explored) -> dict[str, FigureOf]:
    """Those that this model has, by name."""
    points, likelihood = run.points, run.likelihood
    if points is None or likelihood is None or not len(run.codes):
        return {}

    def error(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return errors(points.pixels(rows), run.decoded(run.codes[rows], detail=False))

    found = [FigureOf(ERROR, "error of the reconstruction, levels of 255", error)]
    if likelihood.has_density:
        def bound(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            return run.model.score_pixels(to_batch(points.pixels(rows))).numpy()

        found.append(FigureOf("elbo", "lower bound of log p(x), nats", bound))
    detector = _detector(run)
    if detector is not None:
        def percentile(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            n = len(detector.calibration)  # p is (1 + those that are as odd) / (1 + n)
            return (100 / n * (1 + n) * (1 - detector.judge(points.pixels(rows)).p_value)).astype(np.float32)

        found.append(FigureOf("anomaly", "anomaly percentile: of 100 held-out images, so many are less odd", percentile))
    return {each.name: each for each in found}


def titles_of(run: Explored) -> dict[str, str]:
    """What figures of images there are, and their titles."""
    found = {each.name: each.title for each in figures_of(run).values()}
    if run.other is not None and ERROR in found and ERROR in figures_of(run.other):
        found[WORSE] = f"error of {run.other.name} less that of {run.name}, levels of 255"
    return found


def values_of(run: Explored, name: str) -> Iterator[npt.NDArray[np.float32] | None]:
    """None after each piece of the work, and a figure of all n points at last, (n,)."""
    if name != WORSE or run.other is None:
        yield from measured(run, figures_of(run)[name])
        return
    both: list[npt.NDArray[np.float32]] = []
    for each in (run.other, run):
        for values in measured(each, figures_of(each)[ERROR]):
            if values is None:
                yield None
            else:
                both.append(values)
    yield both[0] - both[1]


def errors(images: npt.NDArray[np.uint8], rebuilt: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n,): root mean square difference of images (n, H, W, C), in levels of 255."""
    apart = images.astype(np.float32) - rebuilt.astype(np.float32)
    return np.sqrt((apart**2).mean((1, 2, 3)))


def measured(run: Explored, figure: FigureOf) -> Iterator[npt.NDArray[np.float32] | None]:
    """None after each piece, and (n,) of all points at last."""
    kept, n = run.kept, len(run.codes)
    if kept is None:
        return
    values = kept.arrays.get(figure.name)
    if values is None or values.shape != (n,):
        values = np.empty(n, np.float32)
        for begin in range(0, n, run.piece):
            rows = np.arange(begin, min(begin + run.piece, n))
            values[rows] = figure.measure(rows)
            yield None
        kept.keep(figure.name, values)
    yield values


def _detector(run: Explored) -> Detector | None:
    """What is typical of the model's images, where `reparam anomalies` has measured it."""
    try:
        return Detector.load(run.folder / FILE, run.model, again="reparam anomalies RUN DATA")
    except (FileNotFoundError, ModelFileError):
        return None
