"""Near copies: images that differ as little as one saved anew differs from its original."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .pixels import Pixels

MOST_IMAGES = 200_000
"""In larger sets only exact copies are looked for."""
_SIDE = 8
_ABSOLUTE = 3.0   # levels: two thumbnails of near copies differ by no more, root mean square,
_RELATIVE = 0.04  # nor by more than this share of their contrast, so that plain images are not all one
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2: what JPEG keeps best
_WORD = 2**64 - 1
_BLOCK = 1 << 20  # floats of images that are made small at a time, which a processor's cache holds


def groups_of(images: Pixels, digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """(n,) one number for each image, the same for copies and near copies, and as good as random: its digest, or of near
    copies a hash of the smallest one.

    Images are compared as thumbnails of 8×8 greys, which compression, one level more or less, and rounding hardly
    change: two are near copies when the thumbnails differ by at most 3 levels and by at most 4 % of their contrast
    (root mean square). A group is an image and its near copies; those of these are of other groups, so that images which
    change little by little, as those of a film do, are not all one.
    """
    different, first, back = np.unique(digests, return_index=True, return_inverse=True)
    if not 1 < len(different) <= MOST_IMAGES:
        return digests.copy()
    groups = different.copy()
    for rows in _near(_thumbnails(images, first)):
        groups[rows] = _hashed(int(different[rows[0]]))
    return groups[back]


def _hashed(number: int) -> np.uint64:
    """A number that says nothing of how small the other one is, as the smallest of many is. (Steele et al., 2014,
    doi:10.1145/2660193.2660195, SplitMix64)"""
    z = number + 0x9E3779B97F4A7C15 & _WORD
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _WORD
    return np.uint64(z ^ z >> 31)


def _thumbnails(images: Pixels, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Greys (n, 8, 8) of the images at `rows`, each the mean of its part of the image."""
    height, width, channels = images.shape[1:]
    weights = np.full(channels, 1 / channels, np.float32)
    if channels in (3, 4):  # of which a fourth is transparency
        weights[:3], weights[3:] = _LUMA, 0
    down, across = _means(height), np.kron(_means(width).T, weights[:, None])  # (width · channels, 8): brightness at once
    out = np.empty((len(rows), len(down), across.shape[1]), np.float32)
    step = max(1, _BLOCK // (height * len(across)))
    for start in range(0, len(rows), step):
        part = images[rows[start:start + step]].astype(np.float32).reshape(-1, len(across))
        out[start:start + step] = down @ (part @ across).reshape(-1, height, across.shape[1])
    return out


def _means(side: int) -> npt.NDArray[np.float32]:
    """(8, side), or fewer rows for a shorter side: what share of each of 8 equal parts a pixel makes up."""
    parts = min(_SIDE, side)
    edges = np.arange(parts + 1) * side / parts
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * parts / side).astype(np.float32)


def _near(thumbnails: npt.NDArray[np.float32]) -> list[npt.NDArray[np.int64]]:
    """Rows of each group of near copies: a first one, in order, and all that are near it and of no earlier group."""
    from scipy.spatial import KDTree  # half a second to import

    n, size = len(thumbnails), thumbnails[0].size
    contrast = thumbnails.reshape(n, -1).std(1)
    rows = np.flatnonzero(contrast * _RELATIVE > 1 / 255)  # of plain images only exact copies count
    if len(rows) < 2:
        return []
    flat, contrast = thumbnails.reshape(n, -1)[rows], contrast[rows]
    coarse = flat @ _projection(thumbnails.shape[1:])
    tree, radius = KDTree(coarse), _ABSOLUTE * size**0.5  # a projection never makes a distance longer
    distance, _ = tree.query(coarse, 2, distance_upper_bound=radius)
    free, groups = np.ones(len(rows), np.bool_), list[npt.NDArray[np.int64]]()
    for i in np.flatnonzero(np.isfinite(distance[:, 1])):  # most images have no other within reach
        if free[i]:
            close = np.array(tree.query_ball_point(coarse[i], radius), np.int64)
            close = np.sort(close[free[close]])
            apart = np.sqrt(((flat[close] - flat[i])**2).mean(1))
            close = close[(apart <= _ABSOLUTE) & (apart <= _RELATIVE * np.minimum(contrast[close], contrast[i]))]
            free[close] = False
            groups += [np.concatenate([[i], close[close != i]])] if len(close) > 1 else []
    return [rows[group] for group in groups]


def _projection(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Orthonormal directions (H·W, 16 at most) of a thumbnail's coarsest contents: its lowest cosines."""
    def cosines(side: int) -> npt.NDArray[np.float64]:
        basis = np.cos(np.pi * (np.arange(side)[:, None] + 0.5) * np.arange(min(4, side))[None] / side)
        return basis / np.linalg.norm(basis, axis=0)

    return np.kron(cosines(shape[0]), cosines(shape[1])).astype(np.float32)
