"""Maps: codes in the plane. Exact planes on which every point can be decoded; what colours the points, and which images
stand for their surroundings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .directions import principal_directions

Array = npt.NDArray[Any]
MOST_JUDGED = 2_000
"""Points that the trustworthiness is measured on."""
FEWEST = 3
"""Images of a map."""
MOST_CLASSES = 20
"""With a colour of their own: numbers of more values are coloured by size, rarer classes share one colour."""
OTHERS = "others"


@dataclass(frozen=True)
class Map:
    """Codes in the plane."""

    xy: Array
    """(n, 2)."""
    method: str
    trustworthiness: float
    """From 0 to 1: how far the neighbours in the plane are neighbours in the latent space. (Venna & Kaski, 2001)"""
    centre: Array | None = None
    """(d,), and `axes`, (2, d): the plane, where there is one: the code at (a, b) is centre + a · axes[0] + b · axes[1]."""
    axes: Array | None = None

    @property
    def plane(self) -> tuple[Array, Array]:
        """Centre and axes.

        Raises:
            TypeError: a map that is no plane.
        """
        if self.centre is None or self.axes is None:
            raise TypeError(f"a map by {self.method} is no plane")
        return self.centre, self.axes


def principal_map(codes: npt.ArrayLike) -> Map:
    """Codes (n, d) along their two leading principal components, in standard deviations of the first."""
    z = _enough(codes)
    vectors, _ = principal_directions(z, 2)
    if len(vectors) < 2:
        raise UsageError("a map takes codes of at least two dimensions")
    if not vectors.any():
        raise UsageError("all of these images have the same code, which makes no map: the images are one and the same, or "
                         "the model does not use its latents")
    unit = vectors[0] / max(np.linalg.norm(vectors[0]), 1e-300)
    across = vectors[1] / max(np.linalg.norm(vectors[1]), 1e-300)
    scale = max(np.linalg.norm(vectors[0]), 1e-300)
    axes = np.stack([unit, across]) * scale
    xy = (z - z.mean(0)) @ axes.T / scale**2
    return Map(xy, "principal components", trust(z, xy), z.mean(0), axes)


def component_titles(plane: Map, codes: npt.ArrayLike) -> list[str]:
    """What the directions of a plane of principal components are called: by their share of the variance of codes (n, d)."""
    total = float(np.asarray(codes).var(0, dtype=np.float64).sum()) or 1.0
    scale = 1.0 if plane.axes is None else float((plane.axes[0] ** 2).sum())
    return [f"component {i + 1}, {share:.0%} of the variance" for i, share in enumerate(plane.xy.var(0) * scale / total)]


def plane_map(codes: npt.ArrayLike, i: int, j: int) -> Map:
    """Codes (n, d) by two of their dimensions; the others stay at their mean."""
    z = np.asarray(codes, np.float64)
    d = z.shape[1]
    if not (0 <= i < d and 0 <= j < d and i != j):
        raise UsageError(f"latents {i} and {j}: give two different numbers from 0 to {d - 1}")
    centre, axes = z.mean(0), np.zeros((2, d))
    centre[[i, j]] = 0
    axes[0, i] = axes[1, j] = 1
    return Map(z[:, [i, j]], f"latents {i} and {j}", trust(z, z[:, [i, j]]), centre, axes)


def _enough(codes: npt.ArrayLike) -> Array:
    z = np.asarray(codes, np.float64)
    if len(z) < FEWEST:
        raise UsageError(f"a map takes at least {FEWEST} images; got {len(z)}")
    return z


def trust(codes: Array, xy: Array, neighbours: int = 5) -> float:
    """Trustworthiness of a map, on evenly spaced points where there are many; NaN for fewer than a dozen."""
    from sklearn.manifold import trustworthiness

    rows = np.linspace(0, len(codes) - 1, min(len(codes), MOST_JUDGED)).astype(int)
    if len(rows) < 2 * neighbours + 2:
        return float("nan")
    return float(trustworthiness(codes[rows], xy[rows], n_neighbors=neighbours))


@dataclass(frozen=True)
class Known:
    """What is known of each image of a map: a class, or a number."""

    name: str
    cells: tuple[str, ...]
    """(n,) as written; "" where nothing is known."""
    classes: tuple[str, ...]
    """Those with a colour of their own, in their order; () of numbers."""
    values: Array
    """(n,): the class's place, −1 for none; or the number, NaN for none."""

    @property
    def unknown(self) -> int:
        """Images of which nothing is known."""
        return sum(not cell for cell in self.cells)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest number."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))


def as_known(name: str, cells: Sequence[str], order: Sequence[str] = ()) -> Known:
    """Cells (n,) as classes, in the `order` that they have; or as numbers where they have more than 20 values."""
    counts = Counter(cell for cell in cells if cell)
    words = sorted(counts)
    numbers = [_number(word) for word in words]
    numeric = all(v is not None for v in numbers)
    if numeric and len(words) > MOST_CLASSES:
        return Known(name, tuple(cells), (), np.array([_number(cell) if cell else np.nan for cell in cells], np.float64))
    if order:
        words = [word for word in order if word in set(words)]
    elif numeric:
        words.sort(key=lambda word: float(word))
    if len(words) > MOST_CLASSES:
        common = {word for word, _ in counts.most_common(MOST_CLASSES - 1)}
        words = [*(word for word in words if word in common), OTHERS]
    place = {word: i for i, word in enumerate(words)}
    last = len(words) - 1
    places = np.array([place.get(cell, last) if cell else -1 for cell in cells], np.int64)
    return Known(name, tuple(cells), tuple(words), places)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def landmarks(xy: Array, spacing: float) -> npt.NDArray[np.int64]:
    """Rows of points (n, 2) that stand for their surroundings: of every square of the plane the point nearest to the mean of
    the points in it, those of full squares first; none is nearer to another than `spacing` both across and down."""
    square = np.floor(xy / spacing).astype(np.int64)
    _, of, counts = np.unique(square, axis=0, return_inverse=True, return_counts=True)
    of = of.reshape(-1)
    means = np.stack([np.bincount(of, xy[:, k]) for k in (0, 1)], 1) / counts[:, None]
    away = ((xy - means[of]) ** 2).sum(1)
    order = np.lexsort((away, of))
    nearest = order[np.unique(of[order], return_index=True)[1]]
    chosen: list[int] = []
    for row in nearest[np.argsort(-counts, kind="stable")]:
        if not chosen or (np.abs(xy[chosen] - xy[row]).max(1) >= spacing).all():
            chosen.append(int(row))
    return np.array(chosen, np.int64)
