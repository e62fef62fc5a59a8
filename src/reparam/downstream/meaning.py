"""What latents mean: which columns of a table they go along with, and what they do to an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from .anomaly import benjamini_hochberg

Array = npt.NDArray[Any]
FALSE_DISCOVERIES = 0.05
"""Expected share of mistakes among the associations that are called so."""


@dataclass(frozen=True)
class Association:
    """Of one latent dimension with one column."""

    dimension: int
    column: str
    explained: float
    """η²: the share of the dimension's variance that lies between the levels of the column, less what chance adds."""
    interval: tuple[float, float]
    """95 %, from the noncentral F distribution."""
    p_value: float
    found: bool
    """Whether it is one, over all dimensions and columns, at a false discovery rate of 5 %."""


def associations(codes: npt.ArrayLike, levels: npt.ArrayLike, columns: Sequence[str]) -> list[Association]:
    """Of codes (n, d) with columns of levels (n, c), whole numbers, the strongest first.

    One-way analysis of variance: blind to order, so that words and numbers cut into ranges are treated alike, and a bend
    counts as much as a slope.
    """
    z, table = np.asarray(codes, np.float64), np.asarray(levels, np.int64)
    n, d = z.shape
    found: list[tuple[int, str, float, tuple[float, float], float]] = []
    for name, column in zip(columns, table.T, strict=True):
        level = np.unique(column, return_inverse=True)[1]
        groups = int(level.max()) + 1
        f = anova(z, level)
        p = stats.f.sf(f, groups - 1, n - groups)
        for j in range(d):
            found.append((j, name, *explained(float(f[j]), groups, n), float(p[j])))
    called = benjamini_hochberg([each[-1] for each in found], FALSE_DISCOVERIES)
    made = [Association(*each, bool(c)) for each, c in zip(found, called, strict=True)]
    return sorted(made, key=lambda a: -a.explained)


def anova(z: Array, level: Array) -> Array:
    """The F statistic of each column of z (n, d) over groups (n,)."""
    n, groups = len(z), int(level.max()) + 1
    counts = np.bincount(level)
    means = np.stack([np.bincount(level, each) for each in z.T], 1) / counts[:, None]
    between = (counts[:, None] * (means - z.mean(0)) ** 2).sum(0) / (groups - 1)
    within = np.maximum(((z - means[level]) ** 2).sum(0) / (n - groups), 1e-300)
    return between / within


def explained(f: float, groups: int, n: int) -> tuple[float, tuple[float, float]]:
    """η² from an F statistic, unbiased for the null (ε²: Kelley, 1935), and its 95 % interval (Steiger, 2004,
    doi:10.1037/1082-989X.9.2.164)."""
    a, b = groups - 1, n - groups
    value = max(a * (f - 1) / (a * f + b), 0.0)

    def noncentrality(quantile: float) -> float:
        if stats.f.cdf(f, a, b) < quantile:
            return 0.0
        high = 10.0 + 4 * a * f
        while stats.ncf.cdf(f, a, b, high) > quantile:
            high *= 2
        return brentq(lambda nc: stats.ncf.cdf(f, a, b, max(nc, 1e-12)) - quantile, 0, high)  # pyright: ignore

    low, high = noncentrality(0.975), noncentrality(0.025)
    return value, (low / (low + n), high / (high + n))


@dataclass(frozen=True)
class Effect:
    """What a walk along a direction does to an image, from its first step to its last."""

    changed: float
    """Mean absolute change of a pixel value, of 1."""
    brightness: float
    """Change of the mean brightness, of 1."""
    size: float
    """Change of the share of pixels that differ from the background."""
    x: float
    """Pixels that the foreground moves to the right."""
    y: float
    """Pixels that it moves down."""
    hue: float
    """Degrees of the colour circle, from −180 to 180; 0 in grey images."""
    where: Array
    """(H, W), absolute change of each pixel."""


def effect_of(walk: npt.NDArray[np.uint8]) -> Effect:
    """Of images (steps, H, W) or (steps, H, W, C), uint8, along a direction."""
    x = (walk[..., None] if walk.ndim == 3 else walk)[..., :3].astype(np.float64) / 255
    change = np.abs(x[-1] - x[0]).mean(-1)
    grey = x.mean(-1)
    first, last = _foreground(x[0]), _foreground(x[-1])
    (x0, y0), (x1, y1) = _centre(first), _centre(last)
    return Effect(float(change.mean()), float(grey[-1].mean() - grey[0].mean()), float(last.mean() - first.mean()),
                  x1 - x0, y1 - y0, _turn(_hue(x[0]), _hue(x[-1])), change)


def _foreground(image: Array) -> Array:
    """How far each pixel is from the colour of the border, of 1, (H, W); near ones count as background."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    distance = np.abs(image - np.median(border, 0)).mean(-1)
    return np.clip(distance - 0.1, 0, 0.2) / 0.2


def _centre(mass: Array) -> tuple[float, float]:
    total = max(mass.sum(), 1e-9)
    return (float((mass.sum(0) * np.arange(mass.shape[1])).sum() / total),
            float((mass.sum(1) * np.arange(mass.shape[0])).sum() / total))


def _hue(image: Array) -> complex:
    """The mean colour as a point of the colour plane: its angle is the hue."""
    if image.shape[-1] < 3:
        return 0j
    r, g, b = (image[..., i] for i in range(3))
    return complex((r - (g + b) / 2).mean(), (np.sqrt(3) / 2 * (g - b)).mean())


def _turn(a: complex, b: complex) -> float:
    """Degrees from one hue to another; 0 where either has next to none."""
    return float(np.degrees(np.angle(b / a))) if min(abs(a), abs(b)) > 0.02 else 0.0
