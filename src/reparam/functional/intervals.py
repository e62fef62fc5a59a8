"""Confidence intervals of shares and means."""

from __future__ import annotations

import math


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


def student(freedom: int) -> float:
    """The 0.975 quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
