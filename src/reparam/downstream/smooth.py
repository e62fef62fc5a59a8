"""Classifiers that take near codes for the same class: least squares on radial functions, and labels that spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .search import Index

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
LANDMARKS = 2_000
"""Labelled codes that radial functions stand on, where there are more."""
NEAREST = 10
"""Codes that a code is joined with."""
LEAST = 1e-6
"""Share of a class that every code is left with."""
CHUNK = 4_096


@dataclass(frozen=True)
class Radial:
    """Least squares of the classes on k(a, b) = e^(−|a − b| / w) (`laplace`) or e^(−|a − b|² / 2w²) (`gauss`), w in units of
    the median distance, with a ridge: the mean of a Gaussian process. (Rasmussen & Williams, 2006, section 6.5)"""

    shape: str
    width: float
    ridge: float

    def held_out(self, z: Array, y: Integers, seed: int) -> Array:
        """Scores (n, k) of each code by what the others teach, in closed form. (Rasmussen & Williams, 2006, Eq. 5.12)"""
        from scipy.linalg import inv

        target = np.eye(y.max() + 1)[y]
        inverse = inv(radial(z, z, self._functions(z, seed)) + self.ridge * np.eye(len(z)), overwrite_a=True)
        return target - inverse @ (target - target.mean(0)) / np.diag(inverse)[:, None]

    def learn(self, z: Array, y: Integers, seed: int) -> dict[str, Array]:
        """By all codes; of more than `LANDMARKS`, functions stand on some of them. (Silverman, 1985)"""
        from scipy.linalg import solve

        target, functions = np.eye(y.max() + 1)[y], self._functions(z, seed)
        bias = target.mean(0)
        if len(z) <= LANDMARKS:
            places = z
            left, right = radial(z, z, functions) + self.ridge * np.eye(len(z)), target - bias
        else:
            places = z[np.random.default_rng(seed).permutation(len(z))[:LANDMARKS]]
            own = radial(places, places, functions)
            left, right = self.ridge * (own + 1e-6 * np.eye(len(places))), np.zeros((len(places), len(bias)))
            for i in range(0, len(z), CHUNK):
                some = radial(places, z[i : i + CHUNK], functions)
                left, right = left + some @ some.T, right + some @ (target[i : i + CHUNK] - bias)
        return {**functions, "landmarks": places, "bias": bias, "weight": solve(left, right, assume_a="pos")}

    def _functions(self, z: Array, seed: int) -> dict[str, Array]:
        from scipy.spatial.distance import pdist

        few = np.random.default_rng(seed).permutation(len(z))[:500]
        median = max(float(np.median(pdist(z[few]))), 1e-6)
        return {"laplace": np.array(float(self.shape == "laplace")), "width": np.array(self.width * median)}


def radial(a: Array, b: Array, functions: Mapping[str, Array]) -> Array:
    """(n, m): k of each of `a` with each of `b`."""
    squares = np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0) / functions["width"] ** 2
    return np.exp(-np.sqrt(squares) if functions["laplace"] else -squares / 2)


def radial_scores(x: Array, a: Mapping[str, Array]) -> Array:
    return radial(x, a["landmarks"], a) @ a["weight"] + a["bias"]


@dataclass(frozen=True)
class Spread:
    """Labels that spread over a graph of the nearest codes, labelled or not: F = (I − αS)⁻¹ Y (Zhou et al., 2004, "Learning
    with local and global consistency"), with edges scaled by local distances (Zelnik-Manor & Perona, 2004) and as much of
    each class as among the labels (Zhu et al., 2003, section 4)."""

    alpha: float

    def held_out(self, graph: Graph, y: Integers, folds: Any) -> Array:
        """Scores (n, k) of the labelled codes, the first n of the graph, each with its fold's labels hidden."""
        found = np.zeros((len(y), y.max() + 1))
        for shown, hidden in folds.split(y, y):
            found[hidden] = self.shares(graph, y, shown)[hidden]
        return np.log(found)

    def shares(self, graph: Graph, y: Integers, shown: Integers) -> Array:
        """(codes, k) of each class in each code, by the labels at `shown`; rows add up to 1."""
        from scipy.sparse import identity
        from scipy.sparse.linalg import cg

        start = np.zeros((len(graph.codes), y.max() + 1))
        start[shown, y[shown]] = 1
        system = identity(len(start)) - self.alpha * graph.weights
        spread = np.stack([np.maximum(cg(system, column, rtol=1e-4)[0], 0) for column in start.T], 1)
        spread *= start.sum(0) / np.maximum(spread.sum(0), LEAST)
        spread += LEAST * np.maximum(spread.sum(1, keepdims=True), 1 / len(start))
        return spread / spread.sum(1, keepdims=True)

    def learn(self, graph: Graph, y: Integers) -> dict[str, Array]:
        """What other codes are told by: all codes with their shares."""
        return {"codes": graph.codes.astype(np.float32), "radius": graph.radius,
                "shares": self.shares(graph, y, np.arange(len(y)))}


@dataclass(frozen=True)
class Graph:
    """Codes, each joined with its nearest: weights e^(−d² / r_a r_b), r the distance to the farthest of these."""

    codes: Array
    radius: Array
    weights: Any
    """Sparse (n, n), D^(−½) W D^(−½)."""

    @staticmethod
    def of(codes: Array) -> Graph:
        from scipy.sparse import csr_matrix, diags

        n, k = len(codes), min(NEAREST + 1, len(codes))
        found = Index.of(codes).search(codes, k)
        radius = np.maximum(found.distance[:, -1].astype(np.float64), 1e-6)
        weight = np.exp(-found.distance.astype(np.float64) ** 2 / (radius[:, None] * radius[found.rows]))
        weight[found.rows == np.arange(n)[:, None]] = 0
        joined = csr_matrix((weight.ravel(), (np.repeat(np.arange(n), k), found.rows.ravel())), (n, n))
        joined = joined.maximum(joined.T)
        root = diags(np.maximum(np.asarray(joined.sum(1)).ravel(), 1e-12) ** -0.5)
        return Graph(codes, radius, (root @ joined @ root).tocsr())


def spread_scores(x: Array, a: Mapping[str, Array]) -> Array:
    """Log of the shares of the nearest codes, weighted as in the graph."""
    found = Index.of(a["codes"]).search(x, min(NEAREST, len(a["codes"])))
    radius = np.maximum(found.distance[:, -1:].astype(np.float64), 1e-6)
    weight = np.exp(-found.distance.astype(np.float64) ** 2 / (radius * a["radius"][found.rows])) + 1e-12
    return np.log((weight[:, :, None] * a["shares"][found.rows]).sum(1) / weight.sum(1, keepdims=True))
