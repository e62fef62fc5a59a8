"""Confidence intervals of shares and means."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def wilson(share: float, n: float, error: float = 0.0) -> tuple[float, float]:
    """Wilson's interval of a share of n, or of as many, if fewer, as would have the standard error `error`."""
    z, spread = 1.96, share * (1 - share)
    if spread > n * 1e-12 and error**2 > spread / n:
        n = spread / error**2
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (spread / n + z**2 / (4 * n**2)) ** 0.5
    half = min(half, centre, 1 - centre)  # rounding must not take it beyond 0 or 1
    return min(centre - half, share), max(centre + half, share)


def of_share(value: float, error: float) -> tuple[float, float]:
    """The interval of a value from 0 to 1 with a standard error: ±1.96 of them on the scale of log(v / (1 − v)).

    By the delta method, error / (v (1 − v)) there; so that it stays within 0 and 1, and is longer on the side of ½. At
    0 and 1 themselves, where that scale ends, of the value ±1.96 errors.
    """
    if not 0 < value < 1:
        return max(value - 1.96 * error, 0.0), min(value + 1.96 * error, 1.0)
    half = 1.96 * error / (value * (1 - value))
    low, high = (1 / (1 + (1 - value) / value * math.exp(-sign * min(half, 50.0))) for sign in (-1, 1))
    return min(low, value), max(high, value)


def of_square(value: float, error: float, added: float) -> tuple[float, float]:
    """The interval of a mean of squares less `added`, what chance adds to it: ±1.96 errors on the scale of the square root,
    where their size does not depend on the value."""
    root = max(value + added, 1e-12) ** 0.5
    half = 1.96 * error / (2 * root)
    return max(root - half, 0.0) ** 2 - added, (root + half) ** 2 - added


def decibels(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], *, draws: int = 1000, seed: int = 0
             ) -> tuple[float, float]:
    """The interval of 10 log₁₀(mean a / mean b) of pairs (n,), which may be few and skewed, by the studentised bootstrap.

    Of draws of n pairs with replacement, the quantiles of the difference to the ratio of all pairs, over its standard error
    in the draw. (Hall, 1988, doi:10.1214/aos/1176350933)
    """
    rng = np.random.default_rng(seed)
    value, error = _log_ratio(a[None], b[None])
    values, errors = (np.concatenate(each) for each in zip(*(
        _log_ratio(a[rows], b[rows]) for rows in np.array_split(rng.integers(0, len(a), (draws, len(a))), 10)), strict=True))
    t = (values - value) / np.maximum(errors, 1e-300)
    low, high = (float((value - q * error)[0]) for q in np.quantile(t, (0.975, 0.025)))
    return min(low, float(value[0])), max(high, float(value[0]))


def _log_ratio(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
               ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """10 log₁₀(mean a / mean b) of each row of pairs (k, n), and its standard error by the delta method."""
    scale = 10 / math.log(10)
    of_a, of_b = (np.maximum(each.mean(1, keepdims=True), 1e-12) for each in (a, b))
    spread = (a / of_a - b / of_b).std(1, ddof=1) / a.shape[1] ** 0.5
    return scale * np.log(of_a / of_b)[:, 0], scale * spread


def student(freedom: int) -> float:
    """The 0.975 quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
