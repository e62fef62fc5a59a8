"""Distances between two sets of feature vectors, each with the standard error that its images give it.

Standard errors are by the infinitesimal jackknife (Jaeckel, 1972; Efron, 1982, doi:10.1137/1.9781611970319): the variance
that the bootstrap over images tends to, from the derivative of the figure by the weight of each image, without what makes it
too large where that derivative is about 0: `without_pairs`. They say how far another draw of as many images would lie, and
nothing of a bias that all such draws share; `frechet_inf` estimates that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .moments import Moments

Array = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def frechet(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Squared Fréchet distance between Gaussians fitted to the rows of a (n, D) and b (m, D).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½)    (Dowson & Landau, 1982, doi:10.1016/0047-259X(82)90077-X)

    The trace of the root is the sum of the roots of the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is symmetric, so that
    nothing becomes complex when a covariance is singular. It is too high for few rows, by about 1/n; see `frechet_inf`.
    (Heusel et al., 2017, arXiv:1706.08500)

    >>> round(frechet([[0.0], [2.0]], [[3.0], [5.0]]), 6)  # equal spread, means 3 apart
    9.0

    Raises:
        UsageError: rows of unlike length, or fewer than two.
    """
    x, y = _spanned(*_pair(a, b))
    return _frechet(*_moments(x), *_moments(y))


def frechet_of(a: Moments, b: Moments) -> float:
    """`frechet` of rows that are not at hand, by their moments."""
    return _frechet(a.mean, a.covariance, b.mean, b.covariance)


def _frechet(mean_x: Array, cov_x: Array, mean_y: Array, cov_y: Array) -> float:
    root = _root(cov_x)
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)).sum()
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)


def frechet_estimate(a: npt.ArrayLike, b: npt.ArrayLike, of: tuple[Moments, Moments] | None = None) -> Estimate:
    """`frechet` with its standard error, for which four rows of each are the fewest.

    With the moments `of` more rows, of which a and b are some, it is the distance of these, and a and b give the error.
    """
    x, y = _pair(a, b)
    value = frechet(x, y) if of is None else frechet_of(*of)
    more = 1.0 if of is None else min(of[0].n, of[1].n) / min(len(x), len(y))
    whole = _variance(*frechet_influence(x, y))
    if min(len(x), len(y)) < 4:
        return Estimate(value, (whole / more) ** 0.5)
    halves = [_variance(*frechet_influence(x[i::2], y[i::2])) for i in (0, 1)]
    return Estimate(value, without_pairs(whole, sum(halves) / 2, more) ** 0.5)


def without_pairs(whole: float, half: float, more: float = 1.0) -> float:
    """The variance of a figure of n rows from the jackknife's, of the `whole` and of a `half` of the rows.

    The variance is V₁ / n + V₂ / n² + …, V₁ of single rows and V₂ of pairs, and the jackknife's is V₁ / n + 2 V₂ / n² on
    average (Efron & Stein, 1981, doi:10.1214/aos/1176345462): too large by half where single rows change nothing, as of two
    sets of one law. A half gives 2 V₁ / n + 8 V₂ / n², which tells V₂, between 0 and what leaves no V₁. With so many times
    `more` rows, V₁ is divided by that and V₂ by its square.
    """
    pairs = min(max((half - 2 * whole) / 4, 0.0), whole / 2)
    return (whole - pairs - pairs * (1 - 1 / more)) / more


def frechet_influence(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    """The derivative of `frechet` by the weight of each row of a and of b, (n,) and (m,), each of mean 0.

    For a row y of b: −2 (μ_a − μ_b)·(y − μ_b) + (y − μ_b)ᵀ (I − S) (y − μ_b) − tr((I − S) Σ_b),
    S = Σ_a^½ (Σ_a^½ Σ_b Σ_a^½)^−½ Σ_a^½, the optimal map from b's Gaussian to a's; the inverse is of what is not 0.
    """
    x, y = _spanned(*_pair(a, b))
    (mean_x, cov_x), (mean_y, cov_y) = _moments(x), _moments(y)
    return _influence(x, mean_x, mean_y, _map(cov_y, cov_x)), _influence(y, mean_y, mean_x, _map(cov_x, cov_y))


def frechet_inf(a: npt.ArrayLike, b: npt.ArrayLike, *, points: int = 12, seed: int = 0) -> Estimate:
    """`frechet` as it would be of endlessly many images: the intercept of a line in 1/n.

    FD_n ≈ FD_∞ + c / n, fitted to FD at `points` sizes n, of subsets of both a and b of n rows each, drawn at random; the
    sizes go from a quarter of the rows to all, evenly in 1/n. (Chong & Forsyth, 2020, arXiv:1911.07023, who hold the real
    images fixed; with as few of these as of samples, their share of the bias is as large, and goes in the same way.) The
    error follows each image through every subset that it is in. May be slightly negative for equal distributions.

    Raises:
        UsageError: fewer than 8 rows, or fewer than two points.
    """
    x, y = _pair(a, b)
    n = min(len(x), len(y))
    if n < 8 or points < 2:
        raise UsageError(f"an extrapolation needs at least 8 rows and 2 points; got {n} and {points}")
    rng = np.random.default_rng(seed)
    sizes = np.unique((1 / np.linspace(1 / n, 4 / n, points)).round().astype(np.int64))
    design = np.stack([np.ones(len(sizes)), 1 / sizes], 1)
    weights = np.linalg.pinv(design)[0]  # of each size's FD in the intercept
    value, shares = 0.0, (np.zeros(len(x)), np.zeros(len(y)))
    for size, weight in zip(sizes.tolist(), weights.tolist(), strict=True):
        chosen = [rng.permutation(len(rows))[:size] for rows in (x, y)]
        value += weight * frechet(x[chosen[0]], y[chosen[1]])
        for share, rows in zip(shares, chosen, strict=True):
            share[rows] += weight / size
    of_x, of_y = frechet_influence(x, y)
    return Estimate(value, float(np.sqrt(((shares[0] * of_x) ** 2).sum() + ((shares[1] * of_y) ** 2).sum())))


def mmd2(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Squared maximum mean discrepancy of the rows of a (n, D) and b (m, D) under k(x, y) = (x·y / D + 1)³.

    1/(n(n−1)) Σ_{i≠j} k(a_i, a_j) + 1/(m(m−1)) Σ_{i≠j} k(b_i, b_j) − 2/(nm) Σ_ij k(a_i, b_j): unbiased, so that it may be
    negative. (Bińkowski et al., 2018, arXiv:1801.01401, section 4)
    """
    x, y = _pair(a, b)
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_cubic(x, x), _cubic(y, y))]
    return float(within[0] + within[1] - 2 * _cubic(x, y).mean())


def kernel_distance(a: npt.ArrayLike, b: npt.ArrayLike, *, subsets: int = 100, size: int = 1000,
                    seed: int = 0) -> Estimate:
    """Mean of `mmd2` over random subsets of `size` rows of each, at most half of the fewer. (Bińkowski et al., 2018)

    Not multiplied by anything: figures in papers are often 1000 times this. The error adds the variance of `mmd2` of all
    rows, of which subsets give the mean, and what so few subsets add to it, the variance between them over their number.

    Raises:
        UsageError: fewer than 4 rows, or no subsets.
    """
    x, y = _pair(a, b)
    n = min(len(x), len(y))
    m = min(size, n // 2)
    if m < 2 or subsets < 2:
        raise UsageError(f"a kernel distance needs at least 4 rows and 2 subsets of 2 rows; got {n} rows, {subsets} subsets "
                         f"of {size}")
    rng = np.random.default_rng(seed)
    each = np.array([mmd2(x[rng.permutation(len(x))[:m]], y[rng.permutation(len(y))[:m]]) for _ in range(subsets)])
    return Estimate(float(each.mean()), float(np.sqrt(mmd2_variance(x, y) + each.var(ddof=1) / subsets)))


ROWS = 2000
"""Rows of each set by whose kernels the variance of `mmd2` is estimated, at most: it takes memory for the square."""


def mmd2_variance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The variance of `mmd2` over draws of both sets.

    Of a U-statistic it is V₁ + V₂, of single rows and of pairs. With σ² the variance of the kernel, its means over rows
    taken off, V₂ = 2 σ_aa² / (n (n − 1)) + 2 σ_bb² / (m (m − 1)) + 4 σ_ab² / (n m). With G_a the variance of
    g_i = 2 (mean_j k(a_i, a_j) − mean_j k(a_i, b_j)), and G_b likewise, G_a / n + G_b / m is V₁ + 2 V₂ on average. Of two
    sets of one law V₁ is 0. (Hoeffding, 1948, doi:10.1214/aoms/1177730196; Efron & Stein, 1981,
    doi:10.1214/aos/1176345462)
    """
    x, y = _pair(a, b)
    n, m = len(x), len(y)
    x, y = (each[np.random.default_rng(0).permutation(len(each))[:ROWS]] for each in (x, y))
    of_x, of_y, across = _cubic(x, x), _cubic(y, y), _cubic(x, y)
    for k in (of_x, of_y):
        np.fill_diagonal(k, 0.0)
    within = [k.sum(1) / (len(k) - 1) for k in (of_x, of_y)]
    rows = [2 * (own - k.mean(1)) for own, k in zip(within, (across, across.T), strict=True)]
    pairs = [float(np.square(k).sum() / (len(k) * (len(k) - 1)) - 2 * np.square(own).mean() + own.mean() ** 2)
             for k, own in zip((of_x, of_y), within, strict=True)]
    between = float(np.square(across).mean() - np.square(across.mean(1)).mean() - np.square(across.mean(0)).mean()
                    + across.mean() ** 2)
    p, q = len(x), len(y)

    def of_pairs(n: int, m: int) -> float:
        return 2 * pairs[0] / (n * (n - 1)) + 2 * pairs[1] / (m * (m - 1)) + 4 * between / (n * m)

    # of all rows from those that were looked at: V₁ falls as 1/n, V₂ as 1/n²
    single = max(float(rows[0].var(ddof=1)) / p + float(rows[1].var(ddof=1)) / q - 2 * of_pairs(p, q), 0.0)
    return single * (p + q) / (n + m) + max(of_pairs(n, m), 0.0)


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise UsageError(f"a distance is between features (n, D) and (m, D), two rows of each at least; got {x.shape} and "
                         f"{y.shape}")
    return x, y


def _spanned(x: Array, y: Array) -> tuple[Array, Array]:
    """The rows in an orthonormal basis of their span, which keeps every distance, when they are fewer than their length."""
    if len(x) + len(y) >= x.shape[1]:
        return x, y
    basis = np.linalg.qr(np.concatenate([x, y]).T)[0]
    return x @ basis, y @ basis


def _moments(x: Array) -> tuple[Array, Array]:
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def _root(cov: Array) -> Array:
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _map(to: Array, of: Array) -> Array:
    """S with S Σ_of S = Σ_to on the range of Σ_of."""
    root = _root(to)
    values, vectors = np.linalg.eigh(root @ of @ root)
    kept = values > 1e-10 * values[-1]
    half = root @ (vectors[:, kept] * values[kept] ** -0.25)
    return half @ half.T


def _influence(x: Array, mean: Array, other: Array, towards: Array) -> Array:
    centred = x - mean
    square = (centred * (centred - centred @ towards)).sum(1)
    return square - square.mean() - 2 * centred @ (other - mean)


def _variance(*influences: Array) -> float:
    return sum(float(each.var()) / len(each) for each in influences)


def _cubic(x: Array, y: Array) -> Array:
    k = x @ y.T / x.shape[1] + 1
    return k * k * k  # a tenth of the time of ** 3
