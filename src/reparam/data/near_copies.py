"""Near copies: images that differ as little as one saved anew differs from its original."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .pixels import Pixels

MOST_IMAGES = 200_000
"""In larger sets only exact copies are looked for."""
_SIDE = 8
_NEIGHBOURS = 8
_ABSOLUTE = 3.0   # levels: two thumbnails of near copies differ by no more, root mean square,
_RELATIVE = 0.04  # nor by more than this share of their contrast, so that plain images are not all one
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2: what JPEG keeps best
_BLOCK = 1 << 24  # bytes of images made small at a time


def groups_of(images: Pixels, digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """(n,) one number for each image, the same for copies and near copies: the smallest of their digests.

    Images are compared as thumbnails of 8×8 greys, which compression, one level more or less, and rounding hardly
    change: two are near copies when the thumbnails differ by at most 3 levels and by at most 4 % of their contrast
    (root mean square). Near copies of near copies are of one group.
    """
    different, first, back = np.unique(digests, return_index=True, return_inverse=True)
    if not 1 < len(different) <= MOST_IMAGES:
        return digests.copy()
    thumbnails = _thumbnails(images, first)
    pairs = _near(thumbnails)
    if not len(pairs):
        return digests.copy()
    return _joined(different, pairs)[back]


def _thumbnails(images: Pixels, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Greys (n, 8, 8) of the images at `rows`, each the mean of its part of the image."""
    height, width = images.shape[1:3]
    down, across = _means(height), _means(width)
    out = np.empty((len(rows), len(down), len(across)), np.float32)
    step = max(1, _BLOCK // (4 * height * width))
    for start in range(0, len(rows), step):
        part = images[rows[start:start + step]]
        weights = _LUMA if part.shape[3] in (3, 4) else np.full(part.shape[3], 1 / part.shape[3], np.float32)
        out[start:start + step] = down @ (part[..., :len(weights)] @ weights) @ across.T
    return out


def _means(side: int) -> npt.NDArray[np.float32]:
    """(8, side), or fewer rows for a shorter side: what share of each of 8 equal parts a pixel makes up."""
    parts = min(_SIDE, side)
    edges = np.arange(parts + 1) * side / parts
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * parts / side).astype(np.float32)


def _near(thumbnails: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(m, 2) rows of near copies, of each thumbnail's closest few."""
    from scipy.spatial import KDTree  # half a second to import

    n, size = len(thumbnails), thumbnails[0].size
    contrast = thumbnails.reshape(n, -1).std(1)
    rows = np.flatnonzero(contrast * _RELATIVE > 1 / 255)  # of plain images only exact copies count
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    flat = thumbnails.reshape(n, -1)[rows]
    radius = _ABSOLUTE * size**0.5  # a projection never makes a distance longer
    coarse = flat @ _projection(thumbnails.shape[1:])
    distance, close = KDTree(coarse).query(coarse, min(_NEIGHBOURS + 1, len(rows)), distance_upper_bound=radius)
    i, j = np.nonzero(np.isfinite(np.asarray(distance)))
    a, b = i, np.asarray(close)[i, j]
    a, b = a[a < b], b[a < b]
    apart = np.sqrt(((flat[a] - flat[b])**2).mean(1))
    least = np.minimum(contrast[rows[a]], contrast[rows[b]])
    kept = (apart <= _ABSOLUTE) & (apart <= _RELATIVE * least)
    return np.stack([rows[a[kept]], rows[b[kept]]], 1)


def _projection(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Orthonormal directions (H·W, 16 at most) of a thumbnail's coarsest contents: its lowest cosines."""
    def cosines(side: int) -> npt.NDArray[np.float64]:
        basis = np.cos(np.pi * (np.arange(side)[:, None] + 0.5) * np.arange(min(4, side))[None] / side)
        return basis / np.linalg.norm(basis, axis=0)

    return np.kron(cosines(shape[0]), cosines(shape[1])).astype(np.float32)


def _joined(digests: npt.NDArray[np.uint64], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The smallest digest that each image is joined to by pairs, however many lie between."""
    groups = digests.copy()
    a, b = pairs.T
    while True:
        before = groups.copy()
        np.minimum.at(groups, a, before[b])
        np.minimum.at(groups, b, groups[a])
        if (groups == before).all():
            return groups
