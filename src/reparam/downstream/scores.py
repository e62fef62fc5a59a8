"""How good a classifier is: shares of right answers, log loss and calibration, with 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..functional.intervals import of_share, wilson
from .classify import TINY

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
BINS = 15
"""Of confidence, in the expected calibration error."""


@dataclass(frozen=True)
class Score:
    """A figure of a classifier."""

    name: str
    value: float
    interval: tuple[float, float] | None
    meaning: str


@dataclass(frozen=True)
class Judged:
    """A classifier's answers to n images of known classes."""

    truth: Integers
    """(n,), rows of `confusion`."""
    answer: Integers
    """(n,), its columns."""
    probabilities: Array
    """(n, k)."""

    @property
    def confusion(self) -> Integers:
        """(k, k): how many images of class i were taken for class j."""
        k = self.probabilities.shape[1]
        return np.bincount(self.truth * k + self.answer, minlength=k * k).reshape(k, k)

    def scores(self) -> list[Score]:
        """Accuracy, balanced accuracy, log loss and expected calibration error."""
        n, right = len(self.truth), self.truth == self.answer
        counts = np.bincount(self.truth)
        nats = -np.log(np.maximum(self.probabilities[np.arange(n), self.truth], TINY))
        half = 1.96 * float(nats.std(ddof=1)) / n**0.5 if n > 1 else float("inf")
        accuracy, loss = float(right.mean()), float(nats.mean())
        return [
            Score("accuracy", accuracy, wilson(accuracy, n),
                  f"share of right answers; the commonest class alone would give {counts.max() / n:.3g}"),
            Score("balanced accuracy", *_balanced(self.confusion), "mean over classes of the share of right answers"),
            Score("log loss", loss, (max(loss - half, 0.0), loss + half) if np.isfinite(half) else None,
                  f"nats, −log probability of the true class; {np.log(self.probabilities.shape[1]):.3g} without knowing"),
            Score("calibration error", calibration_error(self.probabilities, self.truth), None,
                  f"mean gap between confidence and accuracy, over {BINS} bins of confidence; chance alone adds to it")]

    def confused(self, most: int) -> list[tuple[int, int, Integers]]:
        """The largest confusions: (true class, answer, images), of which the surest mistakes come first."""
        off = self.confusion * ~np.eye(self.probabilities.shape[1], dtype=bool)
        order = np.argsort(-off, axis=None, kind="stable")[:most]
        pairs = [divmod(int(flat), len(off)) for flat in order if off.flat[flat] > 0]
        found: list[tuple[int, int, Integers]] = []
        for i, j in pairs:
            rows = np.flatnonzero((self.truth == i) & (self.answer == j))
            found.append((i, j, rows[np.argsort(-self.probabilities[rows, j], kind="stable")]))
        return found


def judge(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Judged:
    """Probabilities (n, k) beside true classes (n,), from 0 to k − 1.

    Raises:
        UsageError: no image.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    if not len(y):
        raise UsageError("a classifier is measured on labelled images of the classes it knows, and there is none")
    return Judged(y, p.argmax(1), p)


def _balanced(confusion: Integers) -> tuple[float, tuple[float, float]]:
    """The mean of recalls, over classes that occur, and its interval, by the delta method on the scale of log odds.

    The variance of each recall is that of (right + 1) / (n + 2), which is not 0 for a class that is always told right.
    """
    n = confusion.sum(1)
    n, right = n[n > 0], np.diag(confusion)[n > 0]
    smooth = (right + 1) / (n + 2)
    error = float(np.sqrt((smooth * (1 - smooth) / n).sum())) / len(n)
    value = float((right / n).mean())
    return value, of_share(value, error)


def calibration_error(probabilities: Array, truth: Integers, bins: int = BINS) -> float:
    """Σ share of a bin · |accuracy − mean confidence| over equal bins of confidence. (Guo et al., 2017, arXiv:1706.04599)"""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))
