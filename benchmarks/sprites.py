"""Pictures of one white shape on black, drawn from five known factors, after dSprites (Matthey et al., 2017).

    shape 3 × scale 4 × orientation 8 × x 12 × y 12 = 13,824 pictures of 32×32 pixels, black or white

What differs from dSprites (3 × 6 × 40 × 32 × 32 pictures of 64×64): the size and the number of values, so that a model
trains in a minute on one core; the three shapes have equal area and are placed by their centre of mass, so that shape, scale and
position do not mix; orientations cover a quarter turn and not a whole one, in which a square looks the same four times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np

SIZE = 32
NAMES = ("shape", "scale", "orientation", "x", "y")
LEVELS = (3, 4, 8, 12, 12)
SIDES = np.linspace(7.25, 12.5, LEVELS[1])
"""Square root of the area, pixels."""
ANGLES = np.arange(LEVELS[2]) * (np.pi / 2 / LEVELS[2])
CENTRES = np.linspace(9.1, 22.9, LEVELS[3])
"""Pixels from the left or the top edge."""

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) < 1


def ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x**2 + (1.6 * y) ** 2 < 1


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x**2 + y**2 - 1) ** 3 < x**2 * y**3


SHAPES: tuple[Inside, ...] = (square, ellipse, heart)


@cache
def moments(inside: Inside, extent: float = 1.5, points: int = 1200) -> tuple[float, float, float]:
    """Area and centre of mass of a shape, on a fine grid."""
    axis = (np.arange(points) + 0.5) * (2 * extent / points) - extent
    x, y = np.meshgrid(axis, axis)
    within = inside(x, y)
    return within.mean() * (2 * extent) ** 2, x[within].mean(), y[within].mean()


def all_factors() -> np.ndarray:
    """Every combination, (13824, 5), in the order of NAMES."""
    return np.array(list(product(*(range(n) for n in LEVELS))))


def draw(factors: np.ndarray) -> np.ndarray:
    """The picture of each row of factors (n, 5): (n, 32, 32, 1) of uint8, 0 or 255."""
    pixel = np.arange(SIZE) + 0.5
    images = np.zeros((len(factors), SIZE, SIZE, 1), np.uint8)
    for s, inside in enumerate(SHAPES):
        area, middle_x, middle_y = moments(inside)
        for rows in np.array_split(np.flatnonzero(factors[:, 0] == s), 20):
            _, scale, turn, i, j = factors[rows].T
            dx = pixel[None, None, :] - CENTRES[i][:, None, None]
            dy = pixel[None, :, None] - CENTRES[j][:, None, None]
            cos, sin = (f(ANGLES[turn])[:, None, None] for f in (np.cos, np.sin))
            unit = np.sqrt(area) / SIDES[scale][:, None, None]
            # rows of an image run downwards, so −y points up and hearts stand on their tip
            within = inside(unit * (cos * dx + sin * dy) + middle_x, unit * (sin * dx - cos * dy) + middle_y)
            images[rows, :, :, 0] = 255 * within
    return images
