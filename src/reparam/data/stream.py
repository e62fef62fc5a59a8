"""Batches of training images: their order is a function of the seed and the step alone, so that a resumed run sees what an
undisturbed one would.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import psutil
import torch
from torch import Tensor

from ..tensors import as_pixels
from .augment import Augmentation
from .imageset import Streamed

EVALUATION_SEED = 1234
"""Seed of the one binarisation of evaluation images."""
LEAST_LABELLED = 0.25
"""Share of each batch that has a label, at least, where any image has one."""
MOST_AT_HAND = 128 << 20
"""Bytes of images that are taken from shards for what needs some in memory."""


def to_batch(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Images (n, H, W, C), uint8 or floats in [0, 1], as floats (n, C, H, W) on the device."""
    return as_pixels(torch.from_numpy(np.ascontiguousarray(images)).to(device)).permute(0, 3, 1, 2)


def binarized(x: Tensor, seed: int = EVALUATION_SEED, *, shared: bool = False) -> Tensor:
    """One draw of black or white with the grey values as probabilities; the same for the same images and seed.

    With `shared` noise the draw of an image does not depend on which others stand beside it.
    """
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(x.shape[1:] if shared else x.shape, generator=generator).to(x.device) < x).float()


class Passes:
    """Numbers 0 to n − 1, `size` at a time: each pass takes all in a new order, a function of seed and step alone."""

    def __init__(self, n: int, size: int, *seed: int) -> None:
        self.n, self.size, self.seed = n, size, seed
        self._orders: dict[int, np.ndarray] = {}

    def at(self, step: int) -> np.ndarray:
        """Those of a step, (size,); they may straddle passes."""
        first = step * self.size
        passes = range(first // self.n, (first + self.size - 1) // self.n + 1)
        self._orders = {p: self._orders[p] if p in self._orders else self._order(p) for p in passes}
        return np.concatenate([order[max(first - p * self.n, 0) : first + self.size - p * self.n]
                               for p, order in self._orders.items()])

    def _order(self, number: int) -> np.ndarray:
        return np.random.default_rng([self.seed[0], number, *self.seed[1:]]).permutation(self.n)


Drawn = tuple[Tensor, Tensor | None]
"""Images (B, H, W, C) as they are stored, and their labels (B,)."""


@dataclass(frozen=True, kw_only=True)
class Batches(ABC):
    """An endless stream of batches (B, C, H, W) in [0, 1], in pairs with their labels (B,) when there are any.

    The batch of a step does not depend on those before it. Of several processes each gets its part.

    Attributes:
        start: the first step.
    """

    batch_size: int
    seed: int = 0
    augment: Augmentation | None = None
    binarize: bool = False
    device: torch.device | str = "cpu"
    process: int = 0
    processes: int = 1
    start: int = 0

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for images, labels in self._drawn():
            x = as_pixels(images.to(self.device)).permute(0, 3, 1, 2)
            x = x if self.augment is None else self.augment(x)
            x = (torch.rand_like(x) < x).float() if self.binarize else x  # torch.bernoulli takes three times as long
            yield x if labels is None else (x, labels.to(self.device))

    @property
    @abstractmethod
    def count(self) -> int:
        """Images of one pass."""

    @property
    def in_pairs(self) -> bool:
        """Whether rows 2i and 2i + 1 are a pair."""
        return False

    @abstractmethod
    def unlabelled(self) -> Self:
        """The same without labels."""

    @abstractmethod
    def at_hand(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Images (n, H, W, C), the rows of them to train on, and their labels (n,): all, or as many as memory takes."""

    @abstractmethod
    def _drawn(self) -> Iterator[Drawn]: ...


@dataclass(frozen=True)
class Stream(Batches):
    """Batches of images in an array.

    Each pass visits every image once in a new order; a batch may straddle two passes. Where fewer than `LEAST_LABELLED` of
    the images have a label, that share of each batch is drawn from those that do, in passes of their own. With several
    processes, each takes every `processes`-th image of the batch.

    With `partners`, passes take half a batch, and each image is followed by its partner: rows 2i and 2i + 1 are a pair,
    which stays together on one process. One that is its own partner comes twice.
    """

    images: np.ndarray  # (n, H, W, C), uint8 or floats in [0, 1]
    indices: np.ndarray  # which of them to train on
    labels: np.ndarray | None = None  # (n,), −1 for an image without
    partners: np.ndarray | None = None  # (n,), the number of each one's partner among the images

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def in_pairs(self) -> bool:
        return self.partners is not None

    def unlabelled(self) -> Stream:
        return replace(self, labels=None)

    def at_hand(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return self.images, self.indices, self.labels

    def _drawn(self) -> Iterator[Drawn]:
        rows = self.indices if self.partners is None else np.concatenate([self.indices, self.partners[self.indices]])
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows]).to(self.device)
        images = self._near(rows)
        for positions in self._positions():
            at = torch.from_numpy(positions)
            yield images(positions), None if labels is None else labels[at.to(labels.device)]

    def _near(self, rows: np.ndarray) -> Callable[[np.ndarray], Tensor]:
        """Reads the images at some positions in `rows`: where they fit, from a copy on the device, or in memory of what lies
        on a disk; or else from where they are."""
        size = len(rows) * self.images[:1].nbytes
        if torch.device(self.device).type == "cuda" and size < torch.cuda.mem_get_info()[0] // 4:
            held = torch.from_numpy(np.take(self.images, rows, axis=0)).to(self.device)
            return lambda at: held[torch.from_numpy(at).to(held.device)]
        if isinstance(self.images, np.memmap) and size < psutil.virtual_memory().available // 4:
            copied = np.take(self.images, rows, axis=0)
            return lambda at: torch.from_numpy(np.take(copied, at, axis=0))
        return lambda at: torch.from_numpy(np.take(self.images, rows[at], axis=0))  # a tenth of the time of torch's own

    def _positions(self) -> Iterator[np.ndarray]:
        """Where in `indices` the images of each step stand; a partner stands as far behind their end."""
        few = self._few()
        size = self.batch_size if self.partners is None else self.batch_size // 2
        share = int(LEAST_LABELLED * size) if len(few) else 0
        labelled = Passes(max(len(few), 1), share, self.seed, 1)
        others = Passes(len(self.indices), size - share, self.seed)
        for step in itertools.count(self.start):
            positions = others.at(step) if not share else np.concatenate([few[labelled.at(step)], others.at(step)])
            own = positions[self.process :: self.processes]
            yield own if self.partners is None else np.stack([own, own + len(self.indices)], 1).ravel()

    def _few(self) -> np.ndarray:
        """Where in `indices` images with a label stand, if batches would else hold less than their share of them."""
        known = np.flatnonzero(self.labels[self.indices] >= 0) if self.labels is not None else np.empty(0, np.int64)
        return known if len(known) < LEAST_LABELLED * len(self.indices) else known[:0]


@dataclass(frozen=True)
class LateStream(Batches):
    """Batches of images that are read when their turn comes; see `Streamed.batches`."""

    images: Streamed
    labelled: bool = False

    @property
    def count(self) -> int:
        return self.images.count

    def unlabelled(self) -> LateStream:
        return replace(self, labelled=False)

    def at_hand(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        wanted = max(min(MOST_AT_HAND // math.prod(self.images.shape), self.count) // self.batch_size, 1)
        drawn = itertools.islice(self.images.batches(self.batch_size, self.seed, 0, 0, 1), wanted)
        images, labels = map(np.concatenate, zip(*drawn, strict=True))
        return images, np.arange(len(images)), labels if self.labelled else None

    def _drawn(self) -> Iterator[Drawn]:
        own = len(range(self.process, self.batch_size, self.processes))
        for images, labels in self.images.batches(own, self.seed, self.start, self.process, self.processes):
            yield torch.from_numpy(images), torch.from_numpy(labels) if self.labelled else None


def keep_labels(labels: np.ndarray, indices: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Labels of which at most `most` of those at `indices` are left, drawn evenly over the classes, the others −1."""
    if most is None:
        return labels
    with_label = np.random.default_rng(seed).permutation(indices[labels[indices] >= 0])
    counts = np.unique(labels[with_label], return_counts=True)[1]
    of_class = np.split(with_label[np.argsort(labels[with_label], kind="stable")], np.cumsum(counts)[:-1])
    each, more = divmod(most, len(of_class))  # the first few classes get one more
    kept = np.concatenate([members[: each + (i < more)] for i, members in enumerate(of_class)])
    subset = np.full_like(labels, -1)
    subset[kept] = labels[kept]
    return subset
