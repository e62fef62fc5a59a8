"""Mean and covariance of rows that come in pieces, so that a million of them need not be at hand together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Moments:
    """Mean and covariance of all rows (n, D) added so far, in float64.

    Pieces are put together exactly, but for rounding: each piece's own moments, and what its mean is off by.
    (Chan, Golub & LeVeque, 1983, doi:10.1080/00031305.1983.10483115)

    Attributes:
        n: how many rows there were.
        mean: (D,).
    """

    def __init__(self, rows: npt.ArrayLike | None = None) -> None:
        self.n, self.mean, self._scatter = 0, np.zeros(0), np.zeros((0, 0))
        if rows is not None:
            self.add(rows)

    def add(self, rows: npt.ArrayLike) -> None:
        x: Array = np.array(rows, dtype=np.float64)  # a copy, which is centred in its place
        m, mean = len(x), x.mean(0)
        x -= mean
        if not self.n:
            self.n, self.mean, self._scatter = m, mean, x.T @ x
            return
        n, off = self.n + m, mean - self.mean
        self._scatter += x.T @ x
        self._scatter += np.outer(off, off * (self.n * m / n))
        self.mean += off * (m / n)
        self.n = n

    @property
    def covariance(self) -> Array:
        """(D, D), of the rows' law: over n − 1."""
        return self._scatter / (self.n - 1)
