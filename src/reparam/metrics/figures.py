"""A measured figure: a number with its unit, sample size and interval, never one without the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ..functional.intervals import wilson

PROTOCOL = 3
"""Version of how figures are measured; it changes whenever one of them would. Figures of unlike protocols, networks or
numbers of images are not set side by side. What protocol 3 fixes:

    images     the model's test images, or those held out where there are none; for sets of samples evenly spaced ones,
               10,000 at most (`Evaluation.n`), and as many training images evenly spaced
    samples    as many as real images, from the model's default prior at temperature 1, seed 1234; the mean of p(x | z)
               clipped to [0, 1] and rounded to 256 levels, as a saved picture is; so are reconstructions when embedded
    reconstructions  each from one draw of the posterior of its image, seed 1234; `psnr of posterior means` from the mean
    bernoulli  of grey images a cross-entropy, and no bits/dim
    features   'efficientnet', which resizes as each figure says; another network is another name in the figure
    fd         maximum-likelihood means, covariances over n − 1; fd_inf: 12 sizes from n/4 to n, evenly in 1/n, of
               four images for each feature at least
    kd         100 subsets of 1000, or of half the images when there are fewer than 2000; cubic kernel, offset 1, scale 1/D
    prdc       k = 5
    vendi      cosine of the features
    intervals  1.96 standard errors by the infinitesimal jackknife, without what pairs of images add to it; of kd by the
               variance of a U-statistic; Wilson's of shares; of prdc, memorisation and duplicates from 24 random halves
               of both sets; of AUCs on the scale of log-odds
    duplicates the 1 % quantile of real images' nearest distances, these given as little detail as samples have
    sharpness  spatial frequencies above half of Nyquist's
    class_balance  `class_balance.classifier`: its layers, 400 steps of 128, its seed; what chance adds to the distance
               is taken off
    prior_auc  `two_sample.told_apart`: classifiers of 48 images and 8 draws of each, 24 of them, 2,400 draws of the prior
    factors    posterior means; 20 levels at most of a number; training on the first half for DCI
"""
Better = Literal["higher", "lower"] | None
ENOUGH = 2048
"""Fewer images or samples than this, and a figure of a set of samples says so first."""


@dataclass(frozen=True)
class Figure:
    """One result of an evaluation."""

    name: str
    value: float
    unit: str
    n: int
    """Images that it was measured on; of a set of samples, the fewer of both."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval over images."""
    note: str = ""
    detail: tuple[float, ...] | None = None
    """Values behind the figure, such as the KL of each latent."""
    features: str = ""
    """Network that images were compared by."""
    resize: str = ""
    """How images were brought to its size."""
    warning: str = ""
    """Why not to trust the value, to be read before it."""
    better: Better = None
    """Which way is better; None where neither is, or where the best is a value in between."""
    undirected: str = ""
    """Why neither way is better."""
    null: float | None = None
    """The value where nothing is wrong, such as of fresh real images in place of samples; None where there is none."""
    total: int | None = None
    """Of how many the value counts, such as all latents of those that are active."""
    is_density: bool = False
    """Whether it is of a density of pixels rather than of a probability, so that it depends on the likelihood's scale."""

    @property
    def beside(self) -> tuple[str, ...]:
        """What has to be read with the value: the warning first, then by what it was measured, then the note."""
        by = f"features: {self.features}, resize: {self.resize}" if self.features else ""
        return tuple(text for text in (self.warning, by, self.note) if text)

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if v is not None and v is not False and v != ""}

    def __str__(self) -> str:
        first = f"WARNING: {self.warning}: " if self.warning else ""
        spread = f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""
        by = f", {self.features}, {self.resize}" if self.features else ""
        return f"{first}{self.name} {self.value:.4g}{spread} {self.unit} (n = {self.n:,}){by}"


def mean_figure(name: str, values: Tensor | np.ndarray, unit: str, note: str = "", *, share: bool | None = None) -> Figure:
    """The mean over images with its interval, ±1.96 standard errors, which is what the bootstrap over images tends to.

    Of shares, whose values are all 0 or 1 unless `share` is False, it is Wilson's interval, which has a width where none or
    all of few images are. (Wilson, 1927, doi:10.1080/01621459.1927.10502953)
    """
    v = np.asarray(values, dtype=np.float64)
    n, mean = len(v), float(v.mean())
    half = 1.96 * float(v.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    interval = (mean - half, mean + half) if n > 1 else None  # one image has no spread
    if share is not False and np.isin(v, (0, 1)).all():
        interval = wilson(mean, n)
    return Figure(name, mean, unit, n, interval, note)


def small_sample_warning(n: int, what: str = "images and as many samples") -> str:
    """The warning of a figure over sets, when they are small."""
    return f"only {n:,} {what}, of at least {ENOUGH:,} wanted" if n < ENOUGH else ""
