"""Maps: codes in the plane. Exact planes on which every point can be decoded, or neighbourhoods by UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..text import counted
from .directions import principal_directions

Array = npt.NDArray[Any]
MOST_JUDGED = 2_000
"""Points that the trustworthiness is measured on."""


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


def principal_map(codes: npt.ArrayLike) -> Map:
    """Codes (n, d) along their two leading principal components, in standard deviations of the first."""
    z = np.asarray(codes, np.float64)
    vectors, _ = principal_directions(z, 2)
    if len(vectors) < 2:
        raise UsageError("a map takes codes of at least two dimensions")
    unit = vectors[0] / max(np.linalg.norm(vectors[0]), 1e-300)
    across = vectors[1] / max(np.linalg.norm(vectors[1]), 1e-300)
    scale = max(np.linalg.norm(vectors[0]), 1e-300)
    axes = np.stack([unit, across]) * scale
    xy = (z - z.mean(0)) @ axes.T / scale**2
    return Map(xy, "principal components", trust(z, xy), z.mean(0), axes)


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


def neighbour_map(codes: npt.ArrayLike, *, neighbours: int = 15, seed: int = 0) -> Map:
    """Codes (n, d) by UMAP, which keeps neighbourhoods and no distances. (McInnes et al., 2018, arXiv:1802.03426)

    Raises:
        UsageError: the package umap-learn is missing, or fewer codes than neighbours.
    """
    try:
        umap = import_module("umap")
    except ImportError:
        raise UsageError('this map is made by UMAP: pip install "reparam[map]", or take the principal components') from None
    z = np.asarray(codes, np.float64)
    if len(z) <= neighbours:
        raise UsageError(counted(len(z), "code is", "codes are")
                         + f" too few for UMAP, which looks at {neighbours} neighbours of each")
    xy = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(z)
    return Map(np.asarray(xy, np.float64), "UMAP", trust(z, np.asarray(xy)))


def trust(codes: Array, xy: Array, neighbours: int = 5) -> float:
    """Trustworthiness of a map, on evenly spaced points where there are many; NaN for fewer than a dozen."""
    from sklearn.manifold import trustworthiness

    rows = np.linspace(0, len(codes) - 1, min(len(codes), MOST_JUDGED)).astype(int)
    if len(rows) < 2 * neighbours + 2:
        return float("nan")
    return float(trustworthiness(codes[rows], xy[rows], n_neighbors=neighbours))
