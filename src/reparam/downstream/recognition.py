"""Who is this: the class that an image's neighbours vote for, or none, where they are farther than a known class's are.

An image is called unknown beyond a distance that a share of images of unknown classes exceeds. Those are made by leaving
each class out of the index in turn, and asking with its images; images of the index ask as known ones, each without itself
and its near copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import UsageError
from ..tensors import evenly
from .image_index import By, ImageIndex, Space
from .search import Found, Index

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
NEIGHBOURS = 10
ASKED = 2_000
"""Images of the index that a calibration asks with, at most."""
ENOUGH = 200
"""Held-out images with a label that calibrate alone; of fewer, all images do."""
FEWEST = 20
"""Answers from which a confidence is learned."""
CHUNK = 128
TINY = 1e-6


@dataclass(frozen=True)
class Calibration:
    """What images of the index got as answers, of known classes and of classes that were left out."""

    known: Array
    """(a,) distances of images whose class is in the index."""
    share: Array
    """(a,) of the votes that the answer got."""
    right: npt.NDArray[np.bool_]
    """(a,) whether the answer was their class."""
    unknown: Array
    """(b,) distances of images whose class was left out."""
    left_out: Integers
    """(b,) that class."""
    refused: float
    """Share of unknown ones that the threshold is to refuse."""

    @property
    def threshold(self) -> float:
        """The distance beyond which an image is unknown."""
        return _threshold(self.unknown, self.refused)

    @property
    def kept(self) -> float:
        """Share of images of known classes that are not called unknown; NaN where no class has two images."""
        return float((self.known <= self.threshold).mean()) if len(self.known) else float("nan")

    @property
    def right_of_kept(self) -> float:
        """Share of these whose answer is right."""
        kept = self.known <= self.threshold
        return float(self.right[kept].mean()) if kept.any() else float("nan")

    def refused_of_class(self) -> dict[int, float]:
        """The share of each class's images that are refused when it is left out, at the threshold that the other classes
        alone set: what to expect of a class that nobody has seen."""
        shares: dict[int, float] = {}
        for c in np.unique(self.left_out).tolist():
            own = self.left_out == c
            if not own.all():
                shares[c] = float((self.unknown[own] > _threshold(self.unknown[~own], self.refused)).mean())
        return shares

    def confidence(self, share: Array) -> Array:
        """The chance that an answer is right, of an image of a known class, by its share of the votes."""
        fitted = _logistic(self.share, self.right)
        if fitted is None:
            return (share * NEIGHBOURS + 0.5) / (NEIGHBOURS + 1)
        slope, intercept = fitted
        return 1 / (1 + np.exp(-(slope * share + intercept)))


def _threshold(unknown: Array, refused: float) -> float:
    return float(np.quantile(unknown, 1 - refused, method="lower"))


def _logistic(share: Array, right: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """Slope and intercept of the log odds (Platt, 1999); None where there is too little to learn from."""
    from sklearn.linear_model import LogisticRegression

    if len(right) < FEWEST or min(right.sum(), (~right).sum()) < 2:
        return None
    fitted = LogisticRegression(C=100.0).fit(share[:, None], right)
    slope = float(fitted.coef_[0, 0])
    return (slope, float(fitted.intercept_[0])) if slope > 0 else None


@dataclass(frozen=True)
class Recognised:
    """Answers to q images."""

    answer: Integers
    """(q,) the class that the neighbours vote for."""
    confidence: Array
    """(q,) the chance that it is right, if the class is known at all."""
    known: npt.NDArray[np.bool_]
    """(q,) whether the neighbours are near enough to be of a known class."""
    distance: Array
    """(q,) mean distance to the neighbours."""


@dataclass(frozen=True)
class Recogniser:
    """The labelled images of an index, and how far to trust them."""

    space: Space
    """Of the labelled images."""
    labels: Integers
    """Of these."""
    k: int
    calibration: Calibration

    @staticmethod
    def of(images: ImageIndex, by: By = "codes", *, refused: float = 0.9) -> Recogniser:
        """Calibrated so that the share `refused` of images of unknown classes is called unknown.

        Raises:
            UsageError: no labels, one class, or no share.
        """
        if not 0 < refused < 1:
            raise UsageError(f"the share of unknown images to refuse is above 0 and below 1; got {refused}")
        if not images.has_labels:
            raise UsageError("this index has no labels, so that nothing can be said of who is who: make it again of images "
                             "in sub-folders, one for each class, or of arrays with labels")
        rows = np.flatnonzero(images.labels >= 0)
        labels = images.labels[rows]
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2:
            raise UsageError(f"all labelled images of this index are of one class, {images.classes[classes[0]]!r}: what is "
                             "unlike it cannot be learned from them; two classes at least are needed")
        k = int(max(min(NEIGHBOURS, np.median(counts), len(rows) - counts.max()), 1))
        space = images.space(by)
        if len(rows) < len(images):
            space = Space(space.centres, Index.of(space.index.vectors[torch.from_numpy(rows)]))
        found = calibrate(space.index.vectors, labels, images.groups[rows], images.held_out[rows], k, refused)
        return Recogniser(space, labels, k, found)

    def __call__(self, queries: Tensor) -> Recognised:
        """Answers to queries (q, d), placed as the index's vectors are."""
        found = self.space.search(queries, self.k)
        answer, share, distance = vote(found, self.labels)
        return Recognised(answer, self.calibration.confidence(share), distance <= self.calibration.threshold, distance)


def vote(found: Found, labels: Integers) -> tuple[Integers, Array, Array]:
    """The class that the neighbours of each query vote for, each by the inverse of its distance; the share of the votes that
    it gets, and the neighbours' mean distance. All (q,). (Dudani, 1976, doi:10.1109/TSMC.1976.5408784)"""
    votes = labels[found.rows]
    weight = 1 / np.maximum(found.distance.astype(np.float64), TINY)
    classes, column = np.unique(votes, return_inverse=True)
    total = np.zeros((len(votes), len(classes)))
    np.add.at(total, (np.arange(len(votes))[:, None], column.reshape(votes.shape)), weight)
    best = total.argmax(1)
    return classes[best], total.max(1) / np.maximum(weight.sum(1), TINY), found.distance.mean(1)


def calibrate(vectors: Tensor, labels: Integers, groups: Integers, held_out: npt.NDArray[np.bool_], k: int,
              refused: float) -> Calibration:
    """Asks labelled images, by vectors (n, d), with some of them, held-out ones where these are enough, leaving out each
    one's near copies, and then its class."""
    asked = np.flatnonzero(held_out) if held_out.sum() >= ENOUGH and not held_out.all() else np.arange(len(labels))
    asked = asked[evenly(len(asked), ASKED)]
    others = np.flatnonzero(~held_out) if len(asked) and held_out[asked].all() else np.arange(len(labels))
    y, g = torch.from_numpy(labels[others]), torch.from_numpy(groups[others])
    among = vectors[torch.from_numpy(others)]
    pieces: list[tuple[Array, ...]] = []
    for begin in range(0, len(asked), CHUNK):
        some = asked[begin : begin + CHUNK]
        own, group = torch.from_numpy(labels[some])[:, None], torch.from_numpy(groups[some])[:, None]
        distance = torch.cdist(vectors[torch.from_numpy(some)], among)
        distance[group == g] = torch.inf
        has_class = ((y == own) & distance.isfinite()).any(1).numpy()
        near = _nearest(distance, k)
        answer, share, known = vote(near, labels[others])
        distance[own == y] = torch.inf
        unknown = _nearest(distance, k).distance.mean(1)
        pieces.append((known, share, answer == labels[some], has_class, unknown))
    known, share, right, has_class, unknown = (np.concatenate(each) for each in zip(*pieces, strict=True))
    known_too, finite = has_class & np.isfinite(known), np.isfinite(unknown)
    return Calibration(known[known_too], share[known_too], right[known_too], unknown[finite], labels[asked][finite], refused)


def _nearest(distance: Tensor, k: int) -> Found:
    found = distance.topk(k, 1, largest=False)
    return Found(found.indices.numpy(), found.values.numpy())
