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

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.stream import to_batch
from ..errors import ModelFileError, UsageError
from ..functional.neighbours import nearest
from ..pretrained.image_model import ImageModel
from ..text import counted
from .saved import read_fitted, save_fitted
from .statistics import Array, Surprise, code_length, code_scale, rate_and_distortion, residuals, scaled_codes

Images = npt.NDArray[np.uint8]
STATISTICS = ("rate", "distortion", "corrected", "code_distance", "local")
"""KL, nats; −E log p(x | z), nats; −ELBO less the length of the image's lossless code, nats; distance to the fifth nearest
training code; the greatest local residual in units of the usual one."""
NEIGHBOUR = 5
MOST_CODES = 20_000
FEWEST = 40
"""Held-out images that a calibration takes."""
MOST_HELD_OUT = 4_000
"""Held-out images that are looked at, at most."""
CHUNK = 1_000
"""Images that are judged at a time."""
KEPT = "what is typical of a model's images"


@dataclass(frozen=True)
class Oddness:
    """Of n images."""

    score: Array
    """(n,) Σ −log density over the statistics: higher is odder."""
    p_value: Array
    """(n,) The chance that an image like the training images is as odd: (1 + held-out ones as odd) / (1 + held-out)."""
    statistics: Array
    """(n, len(STATISTICS))."""
    where: Tensor
    """(n, H, W): residual around each pixel in units of the usual one there."""

    def found(self, rate: float = 0.1) -> npt.NDArray[np.bool_]:
        """(n,) which images to call odd, so that a share of `rate` of them is expected to be called so by mistake."""
        return benjamini_hochberg(self.p_value, rate)


@dataclass(frozen=True)
class Detector:
    """What is typical of a model's images, from ones that it was not trained on."""

    model: ImageModel
    codes: Tensor
    """(m, d) of training images."""
    surprise: Surprise
    densities: tuple[LogDensity, ...]
    calibration: Array
    """(c,) ascending scores of held-out images that the densities were not made from."""

    @staticmethod
    def fit(model: ImageModel, training: Images, held_out: Images) -> Detector:
        """From training images and held-out ones (n, H, W, C), uint8: one half of these for densities, one to calibrate.

        Raises:
            UsageError: too few held-out images, or a model without an encoder or a density.
        """
        if len(held_out) < FEWEST:
            raise UsageError(counted(len(held_out), "held-out image is", "held-out images are")
                             + f" too few to tell what is odd from; {FEWEST} at least")
        codes = scaled_codes(model, to_batch(training[:MOST_CODES]))
        surprise = Surprise.fit(residuals(model, to_batch(held_out[::2])))
        bare = Detector(model, codes, surprise, (), np.zeros(0))
        densities = tuple(LogDensity.fit(column) for column in bare.measure(held_out[::2])[0].T)
        made = Detector(model, codes, surprise, densities, np.zeros(0))
        return Detector(model, codes, surprise, densities, np.sort(made.score(made.measure(held_out[1::2])[0])))

    def measure(self, images: Images) -> tuple[Array, Tensor]:
        """Statistics (n, k) and maps (n, H, W) of images (n, H, W, C), uint8."""
        x = to_batch(images)
        spent = rate_and_distortion(self.model, x)
        where = self.surprise.map(residuals(self.model, x))
        distance = nearest(scaled_codes(self.model, x), self.codes, k=min(NEIGHBOUR, len(self.codes))).distance[:, -1]
        return np.stack([spent[:, 0], spent[:, 1], spent.sum(1) - code_length(images), distance.numpy(),
                         where.flatten(1).amax(1).double().numpy()], 1), where

    def score(self, statistics: Array) -> Array:
        """(n,) −log density of statistics (n, k), summed."""
        return -sum((density(column) for density, column in zip(self.densities, statistics.T, strict=True)),
                    np.zeros(len(statistics)))

    def judge(self, images: Images) -> Oddness:
        """How odd images (n, H, W, C), uint8, are."""
        pieces = [self.measure(np.array(images[begin : begin + CHUNK])) for begin in range(0, len(images), CHUNK)]
        statistics = np.concatenate([each[0] for each in pieces])
        score, where = self.score(statistics), torch.cat([each[1] for each in pieces])
        as_odd = len(self.calibration) - np.searchsorted(self.calibration, score, "left")
        return Oddness(score, (1 + as_odd) / (1 + len(self.calibration)), statistics, where)

    def percentiles(self, statistics: Array) -> Array:
        """(n, k): the share of held-out images whose statistic is lower, from 0 to 1."""
        return np.stack([np.searchsorted(np.sort(density.points), column) / len(density.points)
                         for density, column in zip(self.densities, statistics.T, strict=True)], 1)

    def save(self, path: str | Path) -> None:
        """Keeps it beside its model.

        Raises:
            ReparamError: the disk is full.
        """
        save_fitted(path, KEPT, self.model, {
            "codes": self.codes, "usual": self.surprise.usual, "calibration": self.calibration,
            "points": np.stack([d.points for d in self.densities]),
            "widths": np.array([d.width for d in self.densities])}, {})

    @staticmethod
    def load(path: str | Path, model: ImageModel, *, again: str) -> Detector:
        """Reads what `save` wrote for this model; `again` is the command that writes it.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: it cannot be read, or was fitted to another model.
        """
        a, _ = read_fitted(path, KEPT, model, dict[str, Any], again=again)
        rows, _ = code_scale(model)
        fits = {"codes": (None, len(rows)), "usual": model.config.image_shape[1:], "calibration": (None,),
                "points": (len(STATISTICS), None), "widths": (len(STATISTICS),)}
        wrong = next((k for k, shape in fits.items() if k not in a or a[k].ndim != len(shape) or not a[k].size
                      or any(s not in (None, n) for s, n in zip(shape, a[k].shape, strict=True))), None)
        if wrong is not None:
            raise ModelFileError(f"{path} does not fit this model: its {wrong!r} is missing or of another shape. Write it "
                                 f"again with: {again}")
        densities = tuple(LogDensity(points, float(width)) for points, width in zip(a["points"], a["widths"], strict=True))
        return Detector(model, torch.from_numpy(a["codes"]), Surprise(torch.from_numpy(a["usual"])), densities,
                        np.sort(a["calibration"]))


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
