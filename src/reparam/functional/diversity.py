"""How many different things a set holds: the Vendi score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .distance import Estimate, without_pairs


def vendi_of(similarities: npt.ArrayLike) -> float:
    """The Vendi score of a positive semi-definite matrix of similarities (n, n) with a diagonal of 1, from 1 to n.

    exp(−Σ_i λ_i log λ_i) with the eigenvalues λ of K / n: the effective number of different rows, n when none are alike
    and 1 when all are. (Friedman & Dieng, 2023, arXiv:2210.02410, Eq. 1)

    >>> round(vendi_of(np.eye(4)), 6), round(vendi_of(np.ones((4, 4))), 6)
    (4.0, 1.0)

    Raises:
        UsageError: not square, or another diagonal.
    """
    k = np.asarray(similarities, dtype=np.float64)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not len(k) or not np.allclose(np.diag(k), 1):
        raise UsageError(f"a Vendi score is of a square matrix of similarities with 1 on its diagonal; got {k.shape}")
    return float(np.exp(_entropy(np.asarray(np.linalg.eigvalsh(k / len(k)), dtype=np.float64))))


def vendi(features: npt.ArrayLike) -> Estimate:
    """The Vendi score of features (n, D) under their cosine, from 1 to the lesser of n and D.

    The eigenvalues of XXᵀ / n for rows x of length 1 are those of ρ = XᵀX / n, which is D × D; the smaller of
    both is taken. The standard error is that of the infinitesimal jackknife, the score times the spread of −xᵀ log(ρ) x
    over √n, without what it is too large by where rows are spread evenly: `without_pairs`.

    Raises:
        UsageError: no rows, or a row of zeros, which has no direction.
    """
    x = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True) if x.ndim == 2 else np.zeros(1)
    if not x.size or not (lengths > 0).all():
        raise UsageError(f"a Vendi score is of features (n, D) of which none is all zeros; got {x.shape}")
    x = x / lengths
    score, variance = _score(x)
    if len(x) < 4:
        return Estimate(score, variance**0.5)
    half = (_score(x[::2])[1] + _score(x[1::2])[1]) / 2
    return Estimate(score, without_pairs(variance, half) ** 0.5)


def _score(x: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The Vendi score of rows of length 1, and its variance by the jackknife."""
    wide = len(x) < x.shape[1]
    values, vectors = np.linalg.eigh((x @ x.T if wide else x.T @ x) / len(x))
    kept = values > 1e-14
    score = float(np.exp(_entropy(values)))
    squares = vectors[:, kept] ** 2 * (len(x) * values[kept]) if wide else (x @ vectors[:, kept]) ** 2
    each = squares @ -np.log(values[kept])
    return score, float(score**2 * each.var() / len(x))


def _entropy(values: npt.NDArray[np.float64]) -> float:
    p = values[values > 1e-14]
    return float(-(p * np.log(p)).sum())
