"""What latents mean: which columns of a table they go along with, and what they do to an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ncfdtr, ndtr

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
    """Of codes (n, d) with columns of levels (n, c), whole numbers from 0 and −1 where unknown, the strongest first.

    One-way analysis of variance: blind to order, so that words and numbers cut into ranges are treated alike, and a bend
    counts as much as a slope.
    """
    z, table = np.asarray(codes, np.float64), np.asarray(levels, np.int64)
    tested: list[tuple[int, str, float, int, int]] = []
    p_values: list[float] = []
    for name, column in zip(columns, table.T, strict=True):
        known = column >= 0
        level = np.unique(column[known], return_inverse=True)[1]
        n, groups = len(level), int(level.max()) + 1
        f = anova(z[known], level)
        p_values += stats.f.sf(f, groups - 1, n - groups).tolist()
        tested += [(j, name, float(each), groups, n) for j, each in enumerate(f)]
    called = benjamini_hochberg(p_values, FALSE_DISCOVERIES)
    made = [Association(j, name, *explained(f, groups, n), p, bool(c))
            for (j, name, f, groups, n), p, c in zip(tested, p_values, called, strict=True)]
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
        while noncentral_f(f, a, b, high) > quantile:
            high *= 2
        return brentq(lambda nc: noncentral_f(f, a, b, nc) - quantile, 0, high)  # pyright: ignore

    low, high = noncentrality(0.975), noncentrality(0.025)
    return value, (low / (low + n), high / (high + n))


LARGE = 1000.0


def noncentral_f(f: float, a: float, b: float, nc: float) -> float:
    """The distribution function; above a noncentrality of 1000, where series fail, by cube roots that are nearly Gaussian.
    (Severo & Zelen, 1960; Abramowitz & Stegun, 26.6.27)"""
    if nc <= LARGE:
        return float(ncfdtr(a, b, nc, f))
    ratio, spread, inverse = (a * f / (a + nc)) ** (1 / 3), 2 * (a + 2 * nc) / (9 * (a + nc) ** 2), 2 / (9 * b)
    return float(ndtr((ratio * (1 - inverse) - (1 - spread)) / np.sqrt(spread + inverse * ratio**2)))


@dataclass(frozen=True)
class Effect:
    """What a walk along a direction does to an image, from its first step to its last."""

    changed: float
    """Mean range of a pixel's values along the walk, of 1."""
    brightness: float
    """Change of the mean brightness, of 1."""
    size: float
    """Change of the share of pixels that differ from the background."""
    x: float
    """Pixels that the foreground moves to the right."""
    y: float
    """Pixels that it moves down."""
    hue: float
    """Degrees of the colour circle that the foreground's mean colour turns by; 0 in grey images."""
    background_hue: float
    """The same of the background."""
    where: Array
    """(H, W), range of each pixel's values along the walk."""


def effect_of(walk: npt.NDArray[np.uint8]) -> Effect:
    """Of images (steps, H, W) or (steps, H, W, C), uint8, along a direction.

    The background is the plane in x and y that fits the colours of an image's border best, by absolute differences; the
    foreground is what differs from it.
    """
    x = (walk[..., None] if walk.ndim == 3 else walk)[..., :3].astype(np.float64) / 255
    where = (x.max(0) - x.min(0)).mean(-1)
    grey = x.mean(-1)
    behind = np.stack([_background(image) for image in x])
    mass = np.clip(np.abs(x - behind).mean(-1) - 0.1, 0, 0.2) / 0.2
    (x0, y0), (x1, y1) = _centre(mass[0]), _centre(mass[-1])
    return Effect(float(where.mean()), float(grey[-1].mean() - grey[0].mean()), float(mass[-1].mean() - mass[0].mean()),
                  x1 - x0, y1 - y0, _turn([_hue(image, m) for image, m in zip(x, mass, strict=True)]),
                  _turn([_hue(image, np.ones(image.shape[:2])) for image in behind]), where)


def _background(image: Array) -> Array:
    """(H, W, C), by least absolute differences: least squares, weighted anew. (Schlossmacher, 1973)"""
    h, w, _ = image.shape
    rows, columns = np.mgrid[:h, :w] / max(h, w, 2)
    plane = np.stack([np.ones((h, w)), rows, columns], -1)
    edge = np.zeros((h, w), bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    design, colours = plane[edge], image[edge]
    weights = np.ones(len(design))
    fitted = np.zeros((3, image.shape[2]))
    for _ in range(12):
        root = np.sqrt(weights)[:, None]
        fitted = np.linalg.lstsq(root * design, root * colours, rcond=None)[0]
        weights = 1 / (np.abs(colours - design @ fitted).mean(1) + 1e-3)
    return plane @ fitted


def _centre(mass: Array) -> tuple[float, float]:
    """Of mass (H, W), (x, y) in pixels; the image's middle where there is next to none."""
    h, w = mass.shape
    if mass.sum() < 0.5:
        return (w - 1) / 2, (h - 1) / 2
    return (float((mass.sum(0) * np.arange(w)).sum() / mass.sum()), float((mass.sum(1) * np.arange(h)).sum() / mass.sum()))


def _hue(image: Array, weight: Array) -> complex:
    """The mean colour as a point of the colour plane: its angle is the hue."""
    if image.shape[-1] < 3 or weight.sum() < 0.5:
        return 0j
    r, g, b = ((image[..., i] * weight).sum() / weight.sum() for i in range(3))
    return complex(r - (g + b) / 2, np.sqrt(3) / 2 * (g - b))


COLOURED = 0.05
"""How far from grey a colour is that has a hue."""


def _turn(hues: Sequence[complex]) -> float:
    """Degrees from the first to the last hue, on the way of those between; steps that are next to grey are passed over."""
    seen = [h for h in hues if abs(h) > COLOURED]
    return float(sum(np.degrees(np.angle(b / a)) for a, b in pairwise(seen)))


def in_words(effect: Effect) -> str:
    """What is moved, in a line: '3.1 px right, 12 % of the picture larger'."""
    far = max(0.5, 0.02 * max(effect.where.shape))
    told = ((effect.x, far, f"{abs(effect.x):.1f} px", ("left", "right")),
            (effect.y, far, f"{abs(effect.y):.1f} px", ("up", "down")),
            (effect.size, 0.02, f"{abs(effect.size):.0%} of the picture", ("smaller", "larger")),
            (effect.brightness, 0.03, f"{abs(effect.brightness):.0%}", ("darker", "lighter")))
    said = [f"{amount} {way[value > 0]}" for value, least, amount, way in told if abs(value) >= least]
    said += [f"{whose} turns {value:+.0f}°" for value, whose in
             ((effect.hue, "hue"), (effect.background_hue, "background's hue")) if abs(value) >= 15]
    if said:
        return ", ".join(said)
    return "hardly anything" if effect.changed < 0.01 else f"form, {place_of(effect.where)}"


def place_of(where: Array) -> str:
    """Where most of a map (H, W) lies, by thirds of its rows and columns."""
    total = max(where.sum(), 1e-300)
    rows, columns = ([part.sum() / total for part in np.array_split(where.sum(axis), 3)] for axis in (1, 0))
    named = [names[int(np.argmax(shares))] for shares, names in
             ((rows, ("top", "middle", "bottom")), (columns, ("left", "middle", "right"))) if max(shares) >= 0.5]
    if named == ["middle", "middle"] or named == ["middle"]:
        return "mostly in the middle"
    return f"mostly at the {' '.join(n for n in named if n != 'middle')}" if named else "all over the picture"
