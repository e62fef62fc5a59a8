"""Whether new images are in the training data: the distance of each to its nearest training image, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...tensors import evenly
from ...text import counted

NEAR = 8
"""Root mean square difference of pixels, of 255 between black and white, up to which two images look the same."""
MOST_VALUES = 200_000_000
"""Pixel values of training images that are looked at, at most: a second or two of a processor."""
AT_ONCE = 20_000_000
"""Of these, in memory as float32."""


def nearest(images: np.ndarray, training: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Root mean square difference of each image to the nearest one of `training[rows]`, (n,): 0 of a copy, at most 255.

    Both are uint8, (n, H, W[, C]).
    """
    x = images.reshape(len(images), -1).astype(np.float32)
    best, at = np.full(len(x), np.inf, np.float32), np.full(len(x), rows[0])
    for chunk in np.array_split(rows, max(1, len(rows) * x.shape[1] // AT_ONCE)):
        y = training[chunk].reshape(len(chunk), -1).astype(np.float32)
        squares = (y**2).sum(1) - 2 * x @ y.T  # less that of x, the same for all
        closest = squares.argmin(1)
        value = squares[np.arange(len(x)), closest]
        best, at = np.where(value < best, value, best), np.where(value < best, chunk[closest], at)
    y = training[at].reshape(len(at), -1).astype(np.float32)
    return np.sqrt(((x - y) ** 2).mean(1))  # anew: a difference of large squares is not exact


def copies(samples: np.ndarray, held_out: np.ndarray, training: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """How many samples copy training images, `training[rows]`, exactly or nearly; and how many held-out images do."""
    rows = rows[evenly(len(rows), max(1, MOST_VALUES // max(training[0].size, 1)))]
    drawn, usual = nearest(samples, training, rows), nearest(held_out, training, rows)
    return {"samples": len(drawn), "exact": int((drawn == 0).sum()), "near": int((drawn <= NEAR).sum()),
            "held_out": len(usual), "near_held_out": int((usual <= NEAR).sum()), "training_images": len(rows)}


def describe(found: Mapping[str, Any] | None) -> str:
    """What `copies` found, in sentences."""
    if not found:
        return "Whether any of them is in the training data was not measured."
    n, exact, near = found["samples"], found["exact"], found["near"]
    among = f"of {counted(found['training_images'], 'training image')}"
    measure = f"within {NEAR} of 255 grey levels, root mean square"
    if not near:
        return f"None of the {n} is a copy of one {among}, or nearly so ({measure})."
    share = f"{near} of the {n} {'is a copy' if near == 1 else 'are copies'} {among}, or nearly so ({measure})"
    return (f"{share}, {exact} pixel for pixel; of {counted(found['held_out'], 'held-out image')} "
            f"{found['near_held_out']} {'is' if found['near_held_out'] == 1 else 'are'}.")
