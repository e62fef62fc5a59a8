"""Partners: for each image the number of another one that is known to share something with it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from ..errors import UsageError
from .imageset import Array, Rows


def check_partners(partners: Array, n: int) -> None:
    """Raises UsageError unless `partners` are numbers of n images, one for each."""
    if partners.shape != (n,) or partners.dtype.kind not in "iu" or not ((partners >= 0) & (partners < n)).all():
        raise UsageError(f"partners are ({n},) whole numbers from 0 to {n - 1}, the row of each image's partner, or its own "
                         f"where it has none; got {partners.dtype} {partners.shape}")


def differing(factors: Mapping[str, Array], rows: Rows, k: int, seed: int = 0) -> Rows:
    """For each image a partner of the same factors but `k`, drawn for each image; the partner may agree in some of these.

    Images and partners are among `rows`; where there is no such partner, and outside of `rows`, an image is its own.

    Raises:
        UsageError: not as many factors.
    """
    columns = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.values()], 1)
    rng, partners = np.random.default_rng(seed), np.arange(len(columns))
    sets = changed_sets(len(factors), k)
    chosen = rng.integers(len(sets), size=len(rows))
    for number, changed in enumerate(sets):
        same = np.unique(np.delete(columns[rows], changed, axis=1), axis=0, return_inverse=True)[1].ravel()
        order = np.lexsort((rng.random(len(rows)), same))  # images of one group stand together, in random order
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        size = np.bincount(same)
        first = np.cumsum(size) - size
        mine = np.flatnonzero(chosen == number)
        group = same[mine]
        step = 1 + (rng.random(len(mine)) * (size[group] - 1)).astype(np.int64)
        partners[rows[mine]] = rows[order[first[group] + (place[mine] - first[group] + step) % size[group]]]
    return partners


def changed_sets(count: int, k: int) -> list[tuple[int, ...]]:
    """Every choice of k of so many factors.

    Raises:
        UsageError: k is not from 1 to all but one.
    """
    if not 1 <= k < count:
        raise UsageError(f"partners share some of the {count} factors and differ in others: give a number from 1 to "
                         f"{count - 1}, such as factors(1); got {k}")
    return list(combinations(range(count), k))


def redrawn(factors: Mapping[str, Array], rows: Rows, k: int, seed: int = 0) -> dict[str, Array]:
    """Factors of a partner for each of `rows`: its own, but for `k` that are drawn for each and come from other images.

    Raises:
        UsageError: not as many factors.
    """
    rng, sets = np.random.default_rng(seed), np.array(changed_sets(len(factors), k))
    changed = np.zeros((len(rows), len(factors)), np.bool_)
    np.put_along_axis(changed, sets[rng.integers(len(sets), size=len(rows))], True, 1)
    return {name: np.where(changed[:, j], column[rng.choice(rows, len(rows))], column[rows])
            for j, (name, column) in enumerate(factors.items())}
