"""How well a classifier tells codes of images from draws of a prior, by a protocol whose figure does not move with n.

The classifier always learns from the same number of images, however many there are, so that the figure has one meaning: the
area under the ROC curve on images that the classifier has not seen, of a classifier that has seen `IMAGES` of them. More
images make its interval narrower and do not make the figure larger. (Lopez-Paz & Oquab, 2017, arXiv:1610.06545, on telling
sets apart by a classifier; there the figure grows with the number of training rows.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from ..errors import UsageError
from .distance import Estimate

Array = npt.NDArray[np.float32]

IMAGES, DRAWS = 48, 8
"""Images that a classifier learns from, and draws of each one's posterior."""
LEAST = 60
"""Images without which there are too few left to judge a classifier by."""
SPLITS = 24
"""Classifiers, each of other images."""
PRIOR = 2400
"""Draws of the prior: each classifier learns from some, has some as centres of kernels, and is judged by the others."""
TESTED = 300
"""Images that a classifier is judged by, at most."""
CENTRES = 1000
SHARP = 16
"""Numbers of a code, the most informative ones, that kernels compare."""
PENALTY, EMPHASIS = 100.0, 3.0
"""Half the ridge of the logistic regression, and how much less of it the density ratio bears."""
FAR = 6.0
"""Codes are clipped at so many standard deviations of the prior."""


def told_apart(codes: npt.ArrayLike, prior: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """The AUC of telling `DRAWS` draws of each image's code (n, DRAWS, D) from draws (PRIOR, D) of the prior.

    0.5 where codes follow the prior, on average and for every n; 1 where no draw of the prior is like a code. D goes from
    the most informative number to the least. Everything is in standard deviations of the prior. The classifier is a
    logistic regression with a ridge on z, z², |z|² and the logarithm of the ratio of two kernel density estimates, of the
    codes without the image itself and of the prior: the first three see codes that lie elsewhere or further out, in any
    number of dimensions, and the last sees clusters and gaps. Images are split at random into those that a classifier
    learns from and those that it is judged by, `SPLITS` times; no image is in both.

    The error adds three variances: of the judged images (each by the mean of its ranks over the splits), of the prior's
    draws, and of the classifiers. The last is the spread of the splits' AUC, with its images' own parts taken off, over
    the splits, and in so far as splits share images: times (T/n) / (1 − T/n), T = `IMAGES`, since splits that share most of
    their images vary less than the figure does between sets of images.

    Raises:
        UsageError: fewer than `LEAST` images, or arrays of other shapes.
    """
    z, p = np.asarray(codes, dtype=np.float32), np.asarray(prior, dtype=np.float32)
    if z.ndim != 3 or z.shape[1] != DRAWS or p.shape != (PRIOR, z.shape[2]) or len(z) < LEAST:
        raise UsageError(f"codes are told from a prior by {LEAST} images at least, {DRAWS} draws of each, and {PRIOR} draws "
                         f"of the prior; got {z.shape} and {p.shape}")
    mean, spread = p.mean(0), np.maximum(p.std(0), 1e-6)
    z, p = (np.clip((each - mean) / spread, -FAR, FAR) for each in (z, p))
    rng = np.random.default_rng(seed)
    n, learnt = len(z), IMAGES * DRAWS
    of_images, of_prior = _Ranks(n), _Ranks(PRIOR)
    with threadpool_limits(torch.get_num_threads()):
        for _ in range(SPLITS):
            images, drawn = rng.permutation(n), rng.permutation(PRIOR)
            tested, judged = images[IMAGES : IMAGES + TESTED], drawn[learnt + CENTRES :]
            score = _classifier(z[images[:IMAGES]], p[drawn[:learnt]], p[drawn[learnt : learnt + CENTRES]])
            positive, negative = score(z[tested, : DRAWS // 2].reshape(-1, z.shape[2])), score(p[judged])
            of_images.add(tested, _rank(positive, negative).reshape(len(tested), -1).mean(1))
            of_prior.add(judged, 1 - _rank(negative, positive))
    auc = float(np.mean(of_images.means))
    overlap = IMAGES / n
    classifiers = of_images.between() * (1 / SPLITS + overlap / (1 - overlap))
    return Estimate(auc, math.sqrt(of_images.variance() + of_prior.variance() + classifiers))


class _Ranks:
    """Of the rows of one set, their ranks among the other set's, over splits that judge some of the rows each."""

    def __init__(self, n: int) -> None:
        self.total, self.count = np.zeros(n), np.zeros(n)
        self.means: list[float] = []
        self._splits: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def add(self, rows: npt.NDArray[np.int64], ranks: npt.NDArray[np.float64]) -> None:
        self.total[rows] += ranks
        self.count[rows] += 1
        self.means.append(float(ranks.mean()))
        self._splits.append((rows, ranks))

    def variance(self) -> float:
        """Of the mean, from rows that are drawn anew."""
        seen = self.count > 0
        weight = self.count[seen] / self.count.sum()
        return float(np.var(self.total[seen] / self.count[seen], ddof=1) * np.square(weight).sum())

    def between(self) -> float:
        """Of a split's mean, each row's own mean taken off, less what chance among the rows of one split adds."""
        own = self.total / np.maximum(self.count, 1)
        left = [ranks - own[rows] for rows, ranks in self._splits]
        chance = np.mean([np.var(each) / len(each) for each in left])
        return max(float(np.var([np.mean(each) for each in left], ddof=1) - chance), 0.0)


def _classifier(codes: Array, prior: Array, centres: Array) -> Callable[[Array], Array]:
    """A function from rows (m, D) to scores (m,), high for codes, that codes (T, DRAWS, D) and the prior's draws teach."""
    from sklearn.linear_model import LogisticRegression

    rows = codes.reshape(-1, codes.shape[2])
    own = np.repeat(np.arange(len(codes)), DRAWS)
    kernels, beyond = rows[:, :SHARP], centres[:, :SHARP]
    ratio = np.concatenate([_log_density(kernels, kernels, own[:, None] == own) - _log_density(kernels, beyond),
                            _log_density(prior[:, :SHARP], kernels) - _log_density(prior[:, :SHARP], beyond)])
    middle, scale = ratio.mean(), EMPHASIS / max(float(ratio.std()), 1e-6)
    inputs = np.column_stack([_moments(np.concatenate([rows, prior])), (ratio - middle) * scale])
    model = LogisticRegression(C=1 / PENALTY, max_iter=200)
    model.fit(inputs, np.repeat([1, 0], [len(rows), len(prior)]))
    weights = np.asarray(model.coef_, dtype=np.float32)[0]

    def score(x: Array) -> Array:
        found = _log_density(x[:, :SHARP], kernels) - _log_density(x[:, :SHARP], beyond)
        return _moments(x) @ weights[:-1] + (found - middle) * scale * weights[-1]

    return score


def _moments(x: Array) -> Array:
    """z, z² and |z|² of each row, each of a size that does not grow with D."""
    square = np.square(x) - 1
    return np.column_stack([x, square, square.sum(1) / math.sqrt(x.shape[1])])


def _log_density(x: Array, centres: Array, without: npt.NDArray[np.bool_] | None = None) -> Array:
    """log Σ_c exp(−|x − c|² / 2) of each row, over the centres that it is not `without`."""
    exponent = x @ centres.T - np.square(x).sum(1, keepdims=True) / 2 - np.square(centres).sum(1) / 2
    if without is not None:
        exponent[without] = -np.inf
    most = exponent.max(1, keepdims=True)
    return np.log(np.exp(exponent - most).sum(1)) + most[:, 0]


def _rank(x: Array, among: Array) -> npt.NDArray[np.float64]:
    """The share of the other set's scores below each of x, half of equal ones."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")) / 2 / len(among)
