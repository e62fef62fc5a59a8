"""The odd ones out: how unlike its training images a model finds an image.

A likelihood alone misleads: models of clothes find digits likelier than clothes, for digits are simpler (Nalisnick et al.,
2019, arXiv:1810.09136). What is typical has typical values of *every* statistic, neither high nor low. So several are
measured, the density of each among held-out images is estimated, and an image's score is the sum of their −log densities
(DoSE: Morningstar et al., 2021, arXiv:2006.09273). One of the statistics is −log p(x) less the length of the image's own
lossless code, which takes simplicity out of the likelihood (Serrà et al., 2020, arXiv:1909.11480).

Scores are calibrated on other held-out images: a p-value is the share of them that are as odd, and controls false
discoveries over a folder (Bates et al., 2023, arXiv:2104.08279; Benjamini & Hochberg, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ModelFileError, UsageError
from ..pretrained.image_model import ImageModel
from ..tensors import evenly
from ..text import counted
from .measures import DEFAULT, STATISTICS, Images, Reference, measured
from .saved import read_fitted, save_fitted
from .statistics import Array, Surprise, code_scale

FEWEST = 40
"""Held-out images that a calibration takes."""
KEPT = "what is typical of a model's images"
Report = Callable[[int, int], None]
"""Told how many images are done, of how many."""


@dataclass(frozen=True)
class Oddness:
    """Of n images, by k statistics."""

    names: tuple[str, ...]
    """Of the statistics."""
    statistics: Array
    """(n, k)."""
    surprisal: Array
    """(n, k) −log density of each, among held-out images."""
    p_value: Array
    """(n,) The chance that an image like the training images is as odd: (1 + held-out ones as odd) / (1 + held-out)."""
    p_values: Array
    """(n, k) The same by each statistic alone."""
    percentiles: Array
    """(n, k) The share of held-out images whose statistic is lower, from 0 to 1."""
    where: Tensor
    """(n, H, W): residual around each pixel in units of the usual one there."""

    @property
    def score(self) -> Array:
        """(n,) The sum of −log densities: higher is odder."""
        return self.surprisal.sum(1)

    def found(self, rate: float = 0.1) -> npt.NDArray[np.bool_]:
        """(n,) which images to call odd, so that a share of `rate` of them is expected to be called so by mistake."""
        return benjamini_hochberg(self.p_value, rate)


@dataclass(frozen=True)
class Detector:
    """What is typical of a model's images, from ones that it was not trained on."""

    reference: Reference
    names: tuple[str, ...]
    """Of the statistics that were measured."""
    fitted: Array
    """(a, len(names)) Statistics of half of the held-out images, which densities are made of."""
    calibration: Array
    """(c, len(names)) Statistics of the other half, which percentiles and p-values are told by."""

    @staticmethod
    def fit(model: ImageModel, training: Images, held_out: Images, names: Sequence[str] = DEFAULT,
            report: Report | None = None) -> Detector:
        """From training images and held-out ones (n, H, W, C), uint8.

        Raises:
            UsageError: too few held-out images, a model without an encoder or a density, or a statistic that it has not.
        """
        if len(held_out) < FEWEST:
            raise UsageError(counted(len(held_out), "held-out image is", "held-out images are")
                             + f" too few to tell what is odd from; {FEWEST} at least: train on more images")
        held_out = held_out[evenly(len(held_out), min(STATISTICS[name].most for name in names))]
        reference = Reference.fit(model, training, held_out[::2], names)
        statistics, _ = measured(reference, names, np.concatenate([held_out[::2], held_out[1::2]]), report)
        half = len(held_out[::2])
        return Detector(reference, tuple(names), statistics[:half], statistics[half:])

    def judge(self, images: Images, names: Sequence[str] | None = None, report: Report | None = None) -> Oddness:
        """How odd images (n, H, W, C), uint8, are, by all statistics or those of these names."""
        names = self.names if names is None else names
        return self.by(names, *measured(self.reference, names, images, report))

    def by(self, names: Sequence[str], statistics: Array, where: Tensor) -> Oddness:
        """How odd images of these statistics (n, names) are."""
        columns = [self.names.index(name) for name in names]
        usual = self.calibration[:, columns]
        densities = [LogDensity.fit(self.fitted[:, i]) for i in columns]
        surprisal, of_usual = _surprisal(densities, statistics), _surprisal(densities, usual)
        return Oddness(
            tuple(names), statistics, surprisal, p_values(surprisal.sum(1), of_usual.sum(1)),
            np.stack([p_values(*pair) for pair in zip(surprisal.T, of_usual.T, strict=True)], 1),
            np.stack([_share_below(*pair) for pair in zip(statistics.T, usual.T, strict=True)], 1), where)

    def save(self, path: str | Path) -> None:
        """Keeps it beside its model.

        Raises:
            ReparamError: the disk is full.
        """
        r = self.reference
        save_fitted(path, KEPT, r.model, {
            "codes": r.codes, "usual": r.surprise.usual, "fitted": self.fitted, "calibration": self.calibration,
            **({} if r.features is None else {"features": r.features.half()}),
            **({} if r.bound is None else {"bound": np.array([r.bound])})}, list(self.names))

    @staticmethod
    def load(path: str | Path, model: ImageModel, *, again: str) -> Detector:
        """Reads what `save` wrote for this model; `again` is the command that writes it.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: it cannot be read, or was fitted to another model.
        """
        a, facts = read_fitted(path, KEPT, model, list[str], again=again)
        names = tuple(name for name in facts if name in STATISTICS)
        rows, _ = code_scale(model)
        fits: dict[str, tuple[int | None, ...]] = {
            "codes": (None, len(rows)), "usual": model.config.image_shape[1:], "fitted": (None, len(facts)),
            "calibration": (None, len(names)), **({"bound": (1,)} if "typicality" in names else {}),
            **({"features": (None, None)} if "features" in names else {})}
        wrong = next((k for k, shape in fits.items() if k not in a or a[k].ndim != len(shape) or not a[k].size
                      or any(s not in (None, n) for s, n in zip(shape, a[k].shape, strict=True))), None)
        if wrong is not None:
            raise ModelFileError(f"{path} does not fit this model: its {wrong!r} is missing or of another shape. Write it "
                                 f"again with: {again}")
        reference = Reference(model, torch.from_numpy(a["codes"]), Surprise(torch.from_numpy(a["usual"])),
                              float(a["bound"][0]) if "bound" in fits else None,
                              torch.from_numpy(a["features"]).float() if "features" in fits else None)
        return Detector(reference, names, a["fitted"], a["calibration"])


def _surprisal(densities: Sequence[LogDensity], statistics: Array) -> Array:
    """(n, k) −log density of statistics (n, k), each by its own."""
    return np.stack([-density(column) for density, column in zip(densities, statistics.T, strict=True)], 1)


def p_values(scores: Array, calibration: Array) -> Array:
    """(n,) (1 + as high scores in the calibration) / (1 + those there are).

    Of scores that come from one law with the calibration's, at most a share a has a p-value up to a, over draws of both.
    (Vovk et al., 2005; Bates et al., 2023, arXiv:2104.08279)
    """
    n = len(calibration)
    return (1 + n - np.searchsorted(np.sort(calibration), scores, "left")) / (1 + n)


def _share_below(values: Array, among: Array) -> Array:
    return np.searchsorted(np.sort(among), values, "left") / len(among)


@dataclass(frozen=True)
class LogDensity:
    """A kernel estimate of a density of numbers, with tails that fall no faster than a Gaussian's."""

    points: Array
    width: float

    @staticmethod
    def fit(values: Array) -> LogDensity:
        """With Silverman's width, from the quartiles where these are nearer than the deviation says."""
        low, high = np.quantile(values, (0.25, 0.75))
        spread = min(float(values.std()), float(high - low) / 1.349) or float(values.std()) or 1.0
        return LogDensity(values, 0.9 * spread * len(values) ** -0.2)

    def __call__(self, values: Array) -> Array:
        """(n,) log densities."""
        z = (values[:, None] - self.points) / self.width
        return np.logaddexp.reduce(-0.5 * z * z, 1) - np.log(len(self.points) * self.width * np.sqrt(2 * np.pi))


def benjamini_hochberg(p_values: npt.ArrayLike, rate: float) -> npt.NDArray[np.bool_]:
    """Which hypotheses to reject so that a share of at most `rate` of the rejected ones is expected to be true."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    under = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    chosen = np.zeros(len(p), bool)
    if len(under):
        chosen[order[: under[-1] + 1]] = True
    return chosen
