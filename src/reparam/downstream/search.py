"""Nearest vectors: exact, by one matrix product and a selection; or among candidates, by their differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError

QUERIES = 128
"""That are compared with all vectors at a time."""
GROUP = 128
"""Neighbouring rows of which the nearest is looked at first."""


@dataclass(frozen=True)
class Found:
    """The k nearest of each query, nearest first."""

    rows: npt.NDArray[np.int64]
    """(q, k), rows of the index."""
    distance: npt.NDArray[np.float32]
    """(q, k), Euclidean."""


@dataclass(frozen=True)
class Index:
    """Vectors to search among."""

    vectors: Float[Tensor, "n d"]
    squares: Float[Tensor, "n"]

    @staticmethod
    def of(vectors: npt.ArrayLike | Tensor) -> Index:
        v = torch.as_tensor(vectors).float().contiguous()
        if v.ndim != 2 or not len(v):
            raise UsageError(f"an index takes vectors (n, d), at least one; got the shape {tuple(v.shape)}")
        return Index(v, v.square().sum(1))

    def search(self, queries: npt.ArrayLike | Tensor, k: int = 20) -> Found:
        """The k vectors that are nearest to each query (q, d).

        Raises:
            UsageError: a k that the index does not hold, or queries of another length.
        """
        q = check_queries(queries, self.vectors, k)
        return joined([ranked(self.vectors, chunk, self._nearest(chunk, k), k) for chunk in q.split(QUERIES)])

    def _nearest(self, q: Tensor, k: int) -> Tensor:
        """Rows (q, k). The k nearest lie in the k groups whose nearest are nearest, so that only these are sorted."""
        closeness = torch.addmm(self.squares.neg()[None], q, self.vectors.T, alpha=2)  # |q|² − distance²
        n, groups = closeness.shape[1], closeness.shape[1] // GROUP
        if groups <= 2 * k:
            return closeness.topk(k, 1).indices
        whole = closeness[:, : groups * GROUP].unflatten(1, (groups, GROUP))
        best = whole.amax(2).topk(k, 1).indices
        rows = (best[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1)
        rest = torch.arange(groups * GROUP, n).expand(len(q), -1)
        rows = torch.cat([rows, rest], 1)
        return rows.gather(1, closeness.gather(1, rows).topk(k, 1).indices)


def check_queries(queries: npt.ArrayLike | Tensor, vectors: Tensor, k: int) -> Tensor:
    """Queries (q, d) for these vectors (n, d).

    Raises:
        UsageError: a k that is more than n, or queries of another length.
    """
    q = torch.as_tensor(queries).float()
    if not 1 <= k <= len(vectors):
        raise UsageError(f"{k} nearest images: the index holds {len(vectors)}, so from 1 to as many")
    if q.ndim != 2 or q.shape[1] != vectors.shape[1]:
        raise UsageError(f"queries of shape {tuple(q.shape)} do not fit an index of (n, {vectors.shape[1]})")
    return q


def ranked(vectors: Tensor, queries: Float[Tensor, "q d"], rows: Tensor, k: int) -> Found:
    """The k nearest among the rows (q, m) of each query, by differences, which lose no digits where vectors are near."""
    distance = (vectors[rows] - queries[:, None]).square().sum(2).sqrt()
    best = distance.sort(dim=1, stable=True)
    return Found(rows.gather(1, best.indices[:, :k]).numpy(), best.values[:, :k].numpy())


def joined(pieces: list[Found]) -> Found:
    """Found for some queries after the other."""
    return Found(np.concatenate([each.rows for each in pieces]), np.concatenate([each.distance for each in pieces]))
