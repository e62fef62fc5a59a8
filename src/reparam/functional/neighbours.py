"""Figures from nearest neighbours in feature space: precision, recall, density, coverage, memorisation, duplicates.

All read features (n, D), one row an image, as float64: a distance comes from |a|² + |b|² − 2 a·b, whose rounding in float32
would hide exact copies. They give a number for each image, whose mean is the figure. A spread over these numbers holds the
neighbourhoods of the other set as they are, and misses most of what another draw of both sets would change; intervals
are by random halves of both sets instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import UsageError
from .distance import Estimate
from .intervals import student

K = 5
"""Neighbours that make a neighbourhood (Naeem et al., 2020, section 3.2)."""
HALVES = 24
"""Random halves of the images that an interval is made from."""
CHUNK = 250
"""Rows whose distances to all others are held at a time, in about ten arrays."""


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
    # made at once: small results between large arrays would keep the memory of these in pieces that fit none of the next
    distances = torch.empty(len(a), k, dtype=torch.float64, device=a.device)
    indices = torch.empty(len(a), k, dtype=torch.int64, device=a.device)
    for begin, d in distance_rows(a, others):
        if b is None:
            rows = torch.arange(len(d), device=d.device)
            d[rows, begin + rows] = torch.inf
        found = d.topk(k, largest=False)
        distances[begin : begin + len(d)], indices[begin : begin + len(d)] = found.values, found.indices
    return Neighbours(distances, indices)


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


def prdc_of_halves(real: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], *, k: int = K, halves: int = HALVES,
                   seed: int = 0) -> npt.NDArray[np.float64]:
    """Means of `prdc` (halves, 4) of random halves of both sets, whose spread is the error of the whole: see `spread`.

    Raises:
        UsageError: no more than k images in half of either set.
    """
    if min(len(real), len(samples)) // 2 <= k:
        raise UsageError(f"neighbourhoods of k={k} need more images than that in a half of each set; got {len(real)} real "
                         f"ones and {len(samples)} samples")
    kept = [_halves(len(each), halves, seed + i) for i, each in enumerate((real, samples))]
    radii = [_radii_within(each, half, k) for each, half in zip((real, samples), kept, strict=True)]
    inside = [torch.zeros(len(half), dtype=torch.int64, device="cpu") for half in kept[1]]
    reached, covered = torch.zeros(2, halves, device="cpu")
    for begin, d in distance_rows(real, samples):
        d, part = d.cpu(), slice(begin, begin + len(d))
        for i, columns in enumerate(kept[1]):
            rows = kept[0][i][(kept[0][i] >= begin) & (kept[0][i] < part.stop)]
            chosen = d[rows - begin][:, columns]
            within = chosen < radii[0][i, rows, None]
            inside[i] += within.sum(0)
            covered[i] += within.any(1).sum()
            reached[i] += (chosen < radii[1][i, columns]).any(1).sum()
    count = len(kept[0][0])
    return np.array([[float((each > 0).double().mean()), float(r) / count, float(each.double().mean()) / k, float(c) / count]
                     for each, r, c in zip(inside, reached, covered, strict=True)])


def _halves(n: int, halves: int, seed: int) -> list[Tensor]:
    """Rows of random halves of n, in order."""
    rng = np.random.default_rng([seed, n])
    return [torch.from_numpy(np.sort(rng.permutation(n)[: n // 2])) for _ in range(halves)]


def _radii_within(x: Tensor, halves: list[Tensor], k: int) -> Tensor:
    """(halves, n), the distance of each row to its k-th nearest other row in each half."""
    found = nearest(x, k=min(8 * k + 20, len(x) - 1))  # of which half are in a half
    distance, rows = found.distance.cpu(), found.rows.cpu()
    radii = torch.empty(len(halves), len(x), dtype=torch.float64, device="cpu")
    for i, half in enumerate(halves):
        kept = torch.zeros(len(x), dtype=torch.bool, device="cpu")
        kept[half] = True
        kth = (kept[rows].cumsum(1) >= k).int().argmax(1)  # the first place by which k of them have been met
        radii[i] = distance.gather(1, kth[:, None])[:, 0]
    return radii


def spread(of_halves: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Half the widths of 95 % intervals of figures from their values (halves, …) of random halves of the images.

    The standard deviation over halves is the standard error of the whole: half the images double the variance, and that two
    halves share images halves it. Unlike leaving out a few images, this serves figures of nearest neighbours too, which
    are not smooth. With Student's quantile, since there are few halves. (Shao & Wu, 1989, doi:10.1214/aos/1176347263)
    """
    v = np.asarray(of_halves, dtype=np.float64)
    return student(len(v) - 1) * v.std(0, ddof=1)


def authentic(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"]) -> Bool[Tensor, "m"]:
    """Whether each sample is farther from its nearest training image than that image is from its own nearest.

    A sample that is not is a noisy copy. (Alaa et al., 2022, arXiv:2102.08921, section 4.3) Of fresh images of the training
    images' distribution half to four fifths are, more in more dimensions: the share counts beside that of held-out images.
    """
    near = nearest(samples, training)
    own = nearest(training).distance[:, 0]
    return near.distance[:, 0] > own[near.rows[:, 0]]


class Nearer(NamedTuple):
    """Of samples, which set they lie nearer to."""

    each: Tensor
    """(m,), 1 where a training image is the nearest, ½ at a tie, 0 where a held-out one is."""
    error: float
    """Standard error of their mean, over samples, training images and held-out ones."""


def nearer_to_training(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"], held_out: Float[Tensor, "n d"], *,
                       halves: int = HALVES) -> Nearer:
    """Whether each sample's nearest training image is nearer than its nearest held-out image.

    The mean is 0.5 for a model that knows no training image better than images it never saw, and 1 for one that copies.
    (after Meehan et al., 2020, arXiv:2004.05675)

    The error adds the variance of samples, as they are drawn for the images that there are, and that of the images, by
    random halves of these (see `spread`), less what the samples themselves vary by from half to half.

    Raises:
        UsageError: not as many training images as held-out ones, of which the more numerous would lie nearer.
    """
    if len(training) != len(held_out):
        raise UsageError(f"as many training images as held-out ones are compared; got {len(training)} and {len(held_out)}")
    t, h = (_nearest_in_halves(samples, each, halves, seed) for seed, each in enumerate((training, held_out)))
    whole, of_halves = _nearer(t[0], h[0]), _nearer(t[1:], h[1:])
    left = of_halves - of_halves.mean(0) - of_halves.mean(1, keepdim=True) + of_halves.mean()
    chance = left.square().sum() / ((halves - 1) * max(len(samples) - 1, 1))
    images = (of_halves.mean(1).var() - chance / len(samples)).clamp(min=0)
    return Nearer(whole, float((images + whole.var(correction=0) / len(samples)).sqrt()))


def _nearer(t: Tensor, h: Tensor) -> Tensor:
    return (t < h).double() + 0.5 * (t == h).double()


def _nearest_in_halves(a: Tensor, b: Tensor, halves: int, seed: int) -> Tensor:
    """(1 + halves, n), the distance of each row of a to the nearest of b, and of each random half of b."""
    chosen = [torch.arange(len(b), device="cpu"), *_halves(len(b), halves, seed)]
    return torch.cat([torch.stack([d.cpu()[:, rows].amin(1) for rows in chosen]) for _, d in distance_rows(a, b)], 1)


def copied(samples: Float[Tensor, "m d"], training: Float[Tensor, "n d"], held_out: Float[Tensor, "l d"]) -> Estimate:
    """How likely a sample lies nearer to its nearest training image than a held-out image does to its own: 0.5 is fair.

    The area under the ROC curve of −distance, Mann and Whitney's U over its maximum, of which Meehan et al. (2020,
    arXiv:2004.05675, section 2.2) take the z-score. Above it, samples copy; below it, they lie off the data or are varied
    more than images are. The error is over samples and held-out images, with the model's training images as they are.
    (DeLong et al., 1988, doi:10.2307/2531595)

    Raises:
        UsageError: fewer than two samples or held-out images.
    """
    if min(len(samples), len(held_out)) < 2:
        raise UsageError(f"an AUC needs two of each; got {len(samples)} samples and {len(held_out)} held-out images")
    mine, fair = (nearest(each, training).distance[:, 0].cpu().numpy() for each in (samples, held_out))
    of_mine, of_fair = 1 - _ranks(mine, fair), _ranks(fair, mine)
    variance = of_mine.var(ddof=1) / len(mine) + of_fair.var(ddof=1) / len(fair)
    return Estimate(float(of_mine.mean()), float(variance**0.5))


def _ranks(x: npt.NDArray[np.float64], among: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of the other values below each of x, half of equal ones."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")) / 2 / len(among)


def duplicated(samples: Float[Tensor, "m d"], real: Float[Tensor, "n d"], *, quantile: float = 0.01) -> Bool[Tensor, "m"]:
    """Whether each sample's nearest other sample is nearer than all but a `quantile` of real images are to another.

    About `quantile` of the samples of a varied model are, when there are as many samples as real images; many more tell
    that samples repeat.
    """
    return _closer(nearest(samples).distance[:, 0], nearest(real).distance[:, 0], quantile)


def duplicated_of_halves(samples: Float[Tensor, "m d"], real: Float[Tensor, "n d"], *, quantile: float = 0.01,
                         halves: int = HALVES, seed: int = 0) -> npt.NDArray[np.float64]:
    """Shares `duplicated` (halves,) of random halves of both sets, whose spread is the error of the whole: see `spread`."""
    kept = [_halves(len(each), halves, seed + i) for i, each in enumerate((samples, real))]
    of_samples, of_real = (_radii_within(each, half, 1) for each, half in zip((samples, real), kept, strict=True))
    return np.array([float(_closer(of_samples[i, rows], of_real[i, others], quantile).double().mean())
                     for i, (rows, others) in enumerate(zip(*kept, strict=True))])


def _closer(of_samples: Tensor, of_real: Tensor, quantile: float) -> Bool[Tensor, "m"]:
    return of_samples < torch.quantile(of_real, quantile)


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise UsageError(f"neighbours are found among features (n, D) and (m, D); got {tuple(a.shape)} and {tuple(b.shape)}")
