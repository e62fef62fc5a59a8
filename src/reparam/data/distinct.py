"""How many distinct images there are among some, where the others are near copies of these."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..tensors import evenly
from .stream import to_batch

MOST, SIDE = 800, 32
"""Images that are looked at, evenly spaced, and the side that they are averaged down to, at most."""
ALIKE = 2 / 255
"""Root mean square difference below which two images are the same to the eye, in units of the pixel range."""
APART = 2.0
"""How many times farther than near copies from one another distinct images lie, at least."""
COPIES = 4
"""Images of each distinct one, at least on average, before they are called copies."""

Matrix = npt.NDArray[np.float64]


def distinct_images(pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> int | None:
    """How many distinct images are in `rows` of images (n, H, W, C), the others being near copies; None where they are not.

    The single-linkage tree is cut at a gap: it counts when every cut is at least twice as long as the distances of images
    that stay together (their 95 % quantile), and the parts hold four images or more on average. The distances, not the
    tree's edges alone, keep images that change along one factor apart from copies: their neighbours are near, and their
    ends far. On `MOST` evenly spaced images.
    """
    rows = rows[evenly(len(rows), MOST)]
    h, w = (min(side, SIDE) for side in pixels.shape[1:3])
    x = torch.cat([F.adaptive_avg_pool2d(to_batch(np.asarray(pixels[rows[i : i + 100]])), (h, w)).flatten(1)
                   for i in range(0, len(rows), 100)]).double()
    far: Matrix = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").numpy() / x.shape[1] ** 0.5
    if np.quantile(far, 0.95) <= ALIKE:
        return 1
    edges, order = _tree(far)
    descending = np.sort(edges)[::-1]
    most = len(far) // COPIES
    gaps = descending[: most - 1] / np.maximum(descending[1:most], 1e-12)
    for cut in sorted(np.argsort(gaps)[::-1][:3]):  # the most telling gaps, fewest parts first
        if gaps[cut] >= APART and descending[cut] >= APART * _within(far, edges, order, float(descending[cut])):
            return int(cut) + 2
    return None


def _tree(far: Matrix) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Prim's minimum spanning tree of distances (n, n): the edges (n − 1,) in the order in which they joined an image, and
    the images (n,) in that order. A part below some length is a stretch of this order without a longer edge."""
    n = len(far)
    order, edges = np.zeros(n, np.int64), np.zeros(n - 1)
    nearest = far[0].copy()
    nearest[0] = np.inf
    outside = np.ones(n, bool)
    outside[0] = False
    for i in range(1, n):
        joined = int(np.where(outside, nearest, np.inf).argmin())
        order[i], edges[i - 1], outside[joined] = joined, nearest[joined], False
        np.minimum(nearest, far[joined], out=nearest)
    return edges, order


def _within(far: Matrix, edges: Matrix, order: npt.NDArray[np.int64], cut: float) -> float:
    """95 % quantile of the distances between images of the same part, when edges of length `cut` and more are cut."""
    part = np.concatenate([[0], np.cumsum(edges >= cut)])
    together = part[:, None] == part[None]
    np.fill_diagonal(together, False)
    pairs = far[np.ix_(order, order)][together]
    return float(np.quantile(pairs, 0.95)) if len(pairs) else np.inf
