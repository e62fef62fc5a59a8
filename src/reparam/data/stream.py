"""Batches of training images, sliced from one uint8 array; no worker processes.

The order is a function of the seed and the step alone, so that a resumed run sees what an undisturbed one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..tensors import as_pixels
from .augment import Augmentation

EVALUATION_SEED = 1234
"""Seed of the one binarisation of evaluation images."""


def to_batch(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Images (n, H, W, C), uint8 or floats in [0, 1], as floats (n, C, H, W) on the device."""
    return as_pixels(torch.from_numpy(np.ascontiguousarray(images)).to(device)).permute(0, 3, 1, 2)


def binarized(x: Tensor, seed: int = EVALUATION_SEED, *, shared: bool = False) -> Tensor:
    """One draw of black or white with the grey values as probabilities; the same for the same images and seed.

    With `shared` noise the draw of an image does not depend on which others stand beside it.
    """
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(x.shape[1:] if shared else x.shape, generator=generator).to(x.device) < x).float()


@dataclass(frozen=True)
class Stream:
    """An endless stream of batches (B, C, H, W) in [0, 1], in pairs with their labels (B,) when there are any.

    Each pass visits every image once in a new order; a batch may straddle two passes. With several processes, each
    takes every `processes`-th image of the batch.
    """

    images: np.ndarray  # (n, H, W, C), uint8 or floats in [0, 1]
    indices: np.ndarray  # which of them to train on
    batch_size: int
    seed: int = 0
    augment: Augmentation | None = None
    binarize: bool = False
    device: torch.device | str = "cpu"
    process: int = 0
    processes: int = 1
    start: int = 0
    labels: np.ndarray | None = None  # (n,), −1 for an image without

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        data = torch.from_numpy(np.ascontiguousarray(self.images[self.indices]))
        if torch.device(self.device).type == "cuda" and data.numel() < torch.cuda.mem_get_info()[0] // 4:
            data = data.to(self.device)
        labels = None if self.labels is None else torch.from_numpy(self.labels[self.indices]).to(self.device)
        step = self.start
        while True:
            at = torch.from_numpy(self._positions(step))
            x = self._finish(data[at.to(data.device)])
            yield x if labels is None else (x, labels[at.to(labels.device)])
            step += 1

    def _finish(self, batch: Tensor) -> Tensor:
        x = as_pixels(batch.to(self.device)).permute(0, 3, 1, 2)
        if self.augment is not None:
            x = self.augment(x)
        return torch.bernoulli(x) if self.binarize else x

    def _positions(self, step: int) -> np.ndarray:
        """Where in `indices` this step's images stand."""
        n, first = len(self.indices), step * self.batch_size
        passes = range(first // n, (first + self.batch_size - 1) // n + 1)
        order = np.concatenate([self._order(p) for p in passes])
        begin = first - passes[0] * n
        return order[begin : begin + self.batch_size][self.process :: self.processes]

    def _order(self, epoch: int) -> np.ndarray:
        cached = self._orders.get(epoch)
        if cached is None:
            cached = np.random.default_rng([self.seed, epoch]).permutation(len(self.indices))
            self._orders.clear()
            self._orders[epoch] = cached
        return cached

    @property
    def _orders(self) -> dict[int, np.ndarray]:
        return self.__dict__.setdefault("_order_cache", {})


def keep_labels(labels: np.ndarray, indices: np.ndarray, most: int | None) -> np.ndarray:
    """Labels of which at most `most` of those at `indices` are left, evenly over the classes, the others −1."""
    if most is None:
        return labels
    with_label = indices[labels[indices] >= 0]
    counts = np.unique(labels[with_label], return_counts=True)[1]
    of_class = np.split(with_label[np.argsort(labels[with_label], kind="stable")], np.cumsum(counts)[:-1])
    kept = np.concatenate([members[: -(-most // len(of_class))] for members in of_class])[:most]
    subset = np.full_like(labels, -1)
    subset[kept] = labels[kept]
    return subset
