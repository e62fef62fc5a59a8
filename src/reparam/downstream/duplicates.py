"""Duplicates among images: the same pixels, or codes that are nearer than those of different images are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..errors import UsageError
from ..tensors import evenly
from .approximate import Graph, has_graphs
from .image_index import EXACT, By, ImageIndex
from .search import Index

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
LINKS = 10
"""Nearest images of each that may be its duplicates; groups join by their members' links."""
MOST_HELD_OUT = 4_000
"""Held-out images that the threshold is set by, at most."""


@dataclass(frozen=True)
class Threshold:
    """The distance up to which an image and its nearest are called near-duplicates."""

    distance: float
    """−1: none is."""
    rate: float
    """Share of images without a duplicate that are called one by mistake, at most."""
    calibrated_on: int
    """Held-out images, by the distance of each to its nearest of another group."""


@dataclass(frozen=True)
class Group:
    """Images that are duplicates of one another."""

    rows: Integers
    """(m,), the first in order."""
    exact: npt.NDArray[np.bool_]
    """(m,), whether it has the pixels of the first."""
    distance: Array
    """(m,), from the first."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicates among n images, those of exact ones first, then the nearest first."""

    groups: tuple[Group, ...]
    n: int
    threshold: Threshold

    @property
    def mistakes(self) -> float:
        """Images that are expected to be called near-duplicates by mistake, at most."""
        return self.threshold.rate * self.n


def threshold_of(index: ImageIndex, by: By, n: int, rate: float = 0.01) -> Threshold:
    """So that of images without a duplicate among n a share of at most `rate` is called one.

    By the distances from held-out images of the index to their nearest among as many of its other images; among more than it
    holds, the nearest is nearer in proportion. An order statistic, so that the rate holds for a next image.

    Raises:
        UsageError: a rate that is no share.
    """
    if not 0 < rate < 1:
        raise UsageError(f"the rate of mistakes is a share above 0 and below 1; got {rate}")
    vectors = index.space(by).index.vectors
    others = np.flatnonzero(~index.held_out)
    others = others[evenly(len(others), n)]
    asked = np.flatnonzero(index.held_out & ~np.isin(index.groups, index.groups[others]))
    asked = asked[evenly(len(asked), MOST_HELD_OUT)]
    if not len(asked) or not len(others):
        return Threshold(-1.0, 0.0, 0)
    found = Index.of(vectors[torch.from_numpy(others)]).search(vectors[torch.from_numpy(asked)], 1)
    order = int(rate * min(1.0, len(others) / n) * (len(asked) + 1))
    if not order:
        return Threshold(-1.0, 0.0, len(asked))
    return Threshold(float(np.sort(found.distance[:, 0])[order - 1]), rate, len(asked))


def duplicates(vectors: torch.Tensor, digests: Integers, threshold: Threshold) -> Duplicates:
    """Groups among images with vectors (n, d), as an index places them, and digests of pixels (n,)."""
    _, first, back = np.unique(digests, return_index=True, return_inverse=True)
    different, k = vectors[torch.from_numpy(first)], min(LINKS + 1, len(first))
    many = len(different) > EXACT and has_graphs()
    found = Graph.of(different).search(different, different, k) if many else Index.of(different).search(different, k)
    links = (found.distance <= threshold.distance) & (found.rows != np.arange(len(first))[:, None])
    a, place = np.nonzero(links)
    graph = coo_matrix((np.ones(len(a)), (a, found.rows[a, place])), shape=(len(first), len(first)))
    _, component = connected_components(graph, directed=False)
    group = component[back]
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    made = [_group(part, vectors, digests) for part in parts if len(part) > 1]
    made.sort(key=lambda g: (not g.exact.all(), float(g.distance.max()), int(g.rows[0])))
    return Duplicates(tuple(made), len(digests), threshold)


def _group(rows: Integers, vectors: torch.Tensor, digests: Integers) -> Group:
    members = vectors[torch.from_numpy(rows)]
    return Group(rows, digests[rows] == digests[rows[0]], (members - members[0]).norm(dim=1).numpy())
