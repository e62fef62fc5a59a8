"""Whether images are as likely as their mirror images, so that mirroring them shows nothing that could not be."""

from __future__ import annotations

import numpy as np

from .pixels import Pixels

DRAWS = 199
SIDE = 16
"""Rows and columns that images are looked at with, about."""
LEVEL = 0.2
"""Share of the draws that have to be as lopsided as the images are."""


def mirrored(images: Pixels, seed: int = 0) -> bool:
    """Whether nothing speaks against images (n, H, W, C) being as likely as their mirror images.

    Of images that are, the differences x − mirror(x) may each be given another sign without anyone noticing: their sum is
    no longer than with random signs in `LEVEL` of the draws. It is a test of the mean image alone.
    """
    n, height, width, _ = images.shape
    step = max(min(height, width) // SIDE, 1)
    x = images.astype(np.float32)
    x = (x - x[:, :, ::-1])[:, ::step, : width // 2 : step].reshape(n, -1)
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), (DRAWS, n))
    drawn = np.square(signs @ x).sum(1)
    return bool((drawn >= np.square(x.sum(0)).sum()).mean() >= LEVEL)
