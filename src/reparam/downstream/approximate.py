"""A graph of near neighbours, by which a few candidates are found among very many vectors, in a file of its own.

A hierarchical navigable small world (Malkov & Yashunin, 2018, arXiv:1603.09320), by the package usearch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelFileError, UsageError
from ..files.untrusted import Malformed, open_regular
from ..files.writing import replacing
from .search import QUERIES, Found, Index, check_queries, joined, ranked

CONNECTIVITY = 16
"""Neighbours of a vector in the graph; twice as many on its lowest level."""
BREADTH_ADDED, BREADTH = 128, 128
"""Candidates that are kept in view when a vector is added, and when one is looked for."""


def has_graphs() -> bool:
    """Whether the package is installed."""
    return find_spec("usearch") is not None


@dataclass(frozen=True)
class Graph:
    """A graph over vectors (n, d), which it does not hold exactly: distances are taken anew from the vectors."""

    made: Any

    @staticmethod
    def of(vectors: Float[Tensor, "n d"]) -> Graph:
        """Raises UsageError when the package is missing."""
        made = _empty(vectors.shape[1])
        made.add(np.arange(len(vectors)), vectors.numpy(), threads=torch.get_num_threads())
        return Graph(made)

    def search(self, vectors: Tensor, queries: Tensor, k: int) -> Found:
        """The k nearest of each query (q, d) that the graph leads to, with their exact distances.

        Raises:
            UsageError: a k that is more than n, or queries of another length.
        """
        q = check_queries(queries, vectors, k)
        candidates = self.candidates(q, max(k, BREADTH))
        if candidates.shape[1] < k:  # a part of the graph that no way leads out of
            return Index.of(vectors).search(q, k)
        return joined([ranked(vectors, some, rows, k)
                       for some, rows in zip(q.split(QUERIES), candidates.split(QUERIES), strict=True)])

    def candidates(self, queries: Tensor, most: int) -> Tensor:
        """(q, m) rows, m at most `most`."""
        self.made.expansion_search = max(BREADTH, most)
        found = self.made.search(queries.numpy(), min(most, len(self.made)), threads=torch.get_num_threads())
        return torch.from_numpy(np.asarray(found.keys)[:, : int(found.counts.min())].astype(np.int64))

    def save(self, path: Path) -> str:
        """Writes it, and returns the digest of the file.

        Raises:
            ReparamError: the disk is full. What stood there is as it was.
        """
        data = bytes(self.made.save())
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        return _digest(data)

    @staticmethod
    def load(path: Path, shape: tuple[int, int], digest: str, *, again: str) -> Graph:
        """Reads a file that `save` wrote, known by its digest, for vectors of this shape; `again` is the command that
        writes it.

        Raises:
            ModelFileError: it cannot be read, or is another file.
            UsageError: the package is missing.
        """
        advice = f". Write it again with: {again}"
        try:
            with open_regular(path) as opened:
                data = opened.read()
        except (OSError, Malformed) as e:
            raise ModelFileError(f"{path} cannot be read ({e}){advice}") from e
        if _digest(data) != digest:
            raise ModelFileError(f"{path} is not the file that was written with its index{advice}")
        made = _empty(shape[1])
        try:
            made.load(data)
        except RuntimeError as e:
            raise ModelFileError(f"{path} cannot be read ({e}){advice}") from e
        if len(made) != shape[0] or made.ndim != shape[1]:
            raise ModelFileError(f"{path} does not fit its index{advice}")
        return Graph(made)


def _empty(dimensions: int) -> Any:
    try:
        usearch = import_module("usearch.index")
    except ImportError:
        raise UsageError('an approximate index is made by usearch: pip install "reparam[search]"') from None
    return usearch.Index(ndim=dimensions, metric="l2sq", dtype="f16", connectivity=CONNECTIVITY,
                         expansion_add=BREADTH_ADDED, expansion_search=BREADTH)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
