"""Figures from nearest neighbours in feature space: precision, recall, density, coverage, memorisation, duplicates.

All read features (n, D), one row an image, as float64: a distance comes from |a|² + |b|² − 2 a·b, whose rounding in float32
would hide exact copies. They give a number for each image, whose mean is the figure; a spread over images holds the
neighbourhoods of the other set as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import UsageError

K = 5
"""Neighbours that make a neighbourhood (Naeem et al., 2020, section 3.2)."""
CHUNK = 1000
"""Rows whose distances to all others are held at a time."""


class Neighbours(NamedTuple):
    """Of each row of a set."""

    distance: Tensor
    """(n, k), nearest first."""
    rows: Tensor
    """(n, k), rows of the other set."""


def nearest(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"] | None = None, *, k: int = 1) -> Neighbours:
    """The k rows of b nearest to each row of a, Euclidean; without b, the k nearest other rows of a.

    Raises:
        UsageError: fewer than k rows to choose from.
    """
    others = a if b is None else b
    if not 1 <= k <= len(others) - (b is None):
        raise UsageError(f"{k} neighbours of each image among {len(others)}: too few images")
    distances: list[Tensor] = []
    indices: list[Tensor] = []
    for begin, d in distance_rows(a, others):
        if b is None:
            rows = torch.arange(len(d), device=d.device)
            d[rows, begin + rows] = torch.inf
        found = d.topk(k, largest=False)
        distances.append(found.values)
        indices.append(found.indices)
    return Neighbours(torch.cat(distances), torch.cat(indices))


def distance_rows(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Distances (rows, m) of a few rows of a at a time to all of b, with the number of the first row."""
    _check(a, b)
    centre = b.double().mean(0)  # nearer to 0 fewer digits cancel
    x, y = a.double() - centre, b.double() - centre
    lengths = y.square().sum(1)
    for begin in range(0, len(x), CHUNK):
        rows = x[begin : begin + CHUNK]
        squared = rows.square().sum(1, keepdim=True) + lengths - 2 * rows @ y.T
        yield begin, _without_last_bits(squared.clamp(min=0).sqrt())


def _without_last_bits(d: Tensor) -> Tensor:
    """Numbers to 36 of their 53 bits (Veltkamp's splitting), so that what rounding alone tells apart is equal.

    Pixels and their like have many equal distances, and a figure that asks which is smaller would count rounding errors.
    """
    large = d * (2**17 + 1)
    return large - (large - d)


class PRDC(NamedTuple):
    """Whose mean over images is the figure, all (n,) or (m,) and at least 0."""

    precision: Tensor
    """(m,) whether a sample lies in the neighbourhood of a real image."""
    recall: Tensor
    """(n,) whether a real image lies in the neighbourhood of a sample."""
    density: Tensor
    """(m,) neighbourhoods of real images that a sample lies in, over k."""
    coverage: Tensor
    """(n,) whether a real image has a sample in its neighbourhood."""


def prdc(real: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], *, k: int = K) -> PRDC:
    """Precision and recall (Kynkäänniemi et al., 2019, arXiv:1904.06991), density and coverage (Naeem et al., 2020,
    arXiv:2002.09797).

    The neighbourhood of an image is the open ball up to its k-th nearest other image of its set. Precision and density say
    how real samples look, recall and coverage how much of the real images they reach; for equal distributions the mean
    density is 1 and the mean coverage 1 − 2^−k for many images.

    Raises:
        UsageError: no more than k images of a kind.
    """
    if not 1 <= k < min(len(real), len(samples)):
        raise UsageError(f"neighbourhoods of k={k} need more images than that; got {len(real)} real ones and {len(samples)} "
                         "samples")
    of_real, of_samples = (nearest(each, k=k).distance[:, -1] for each in (real, samples))
    density, recall, coverage = torch.zeros_like(of_samples), torch.zeros_like(of_real), torch.zeros_like(of_real)
    for begin, d in distance_rows(real, samples):
        rows = slice(begin, begin + len(d))
        inside = d < of_real[rows, None]
        density += inside.sum(0)
        recall[rows] = (d < of_samples).any(1).double()
        coverage[rows] = inside.any(1).double()
    return PRDC((density > 0).double(), recall, density / k, coverage)


def authentic(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"]) -> Bool[Tensor, "m"]:
    """Whether each sample is farther from its nearest training image than that image is from its own nearest.

    A sample that is not is a noisy copy. (Alaa et al., 2022, arXiv:2102.08921, section 4.3) Of fresh images of the training
    images' distribution about half are: the share counts beside that of held-out images.
    """
    near = nearest(samples, training)
    own = nearest(training).distance[:, 0]
    return near.distance[:, 0] > own[near.rows[:, 0]]


def nearer_to_training(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"],
                       held_out: Float[Tensor, "n d"]) -> Float[Tensor, "m"]:
    """1 where a sample's nearest training image is nearer than its nearest held-out image, ½ at a tie, else 0.

    The mean is 0.5 for a model that knows no training image better than images it never saw, and 1 for one that copies.
    (after Meehan et al., 2020, arXiv:2004.05675)

    Raises:
        UsageError: not as many training images as held-out ones, of which the more numerous would lie nearer.
    """
    if len(training) != len(held_out):
        raise UsageError(f"as many training images as held-out ones are compared; got {len(training)} and {len(held_out)}")
    t, h = (nearest(samples, each).distance[:, 0] for each in (training, held_out))
    return (t < h).double() + 0.5 * (t == h).double()


def copied(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"], held_out: Float[Tensor, "l d"]) -> float:
    """How likely a sample lies nearer to its nearest training image than a held-out image does to its own: 0.5 is fair.

    The area under the ROC curve of −distance, Mann and Whitney's U over its maximum, of which Meehan et al. (2020,
    arXiv:2004.05675, section 2.2) take the z-score. Above it, samples copy; below it, they lie off the data or are varied
    more than images are.
    """
    mine, fair = (nearest(each, training).distance[:, 0].cpu().numpy() for each in (samples, held_out))
    ordered = np.sort(fair)
    beaten = len(fair) - (np.searchsorted(ordered, mine, "left") + np.searchsorted(ordered, mine, "right")) / 2
    return float(beaten.mean() / len(fair))


def duplicated(samples: Float[Tensor, "m d"], real: Float[Tensor, "n d"], *, quantile: float = 0.01) -> Bool[Tensor, "m"]:
    """Whether each sample's nearest other sample is nearer than all but a `quantile` of real images are to another.

    About `quantile` of the samples of a varied model are, when there are as many samples as real images; many more tell
    that samples repeat.
    """
    bound = torch.quantile(nearest(real).distance[:, 0], quantile)
    return nearest(samples).distance[:, 0] < bound


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise UsageError(f"neighbours are found among features (n, D) and (m, D); got {tuple(a.shape)} and {tuple(b.shape)}")
