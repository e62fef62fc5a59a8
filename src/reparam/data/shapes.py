"""The bundled set `shapes`: 10,000 small colour pictures of fish, drawn on the spot, whose every factor is known.

Each picture is 32×32 RGB: one fish of three kinds in water, given by seven independent factors. Outlines are signed
distances that fade over a pixel, so that each factor moves the pixels smoothly. (Quilez, "2D distance functions")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .pixels import Pixels

COUNT, SIDE = 10_000, 32
KINDS = ("long", "round", "tall")
FACTORS = ("kind", "hue", "size", "x", "y", "rotation", "background")
SIZES = 0.95, 1.2
"""Scale of the fish: 1 is half the picture's side."""
REACH_X, REACH_Y, TURN = 0.14, 0.18, 22.0
"""How far a fish's middle lies from the picture's at most, in halves of a side, and how far it is turned, degrees."""

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Factors: TypeAlias = Mapping[str, npt.NDArray[np.generic]]

_FORMS = np.array([[0.60, 0.30, 0.34, 0.28, 0.15, 0.08],
                   [0.50, 0.46, 0.32, 0.28, 0.12, 0.09],
                   [0.46, 0.40, 0.32, 0.26, 0.34, 0.30]], np.float32)
"""Of each kind: half axes of the body; length and half width of the tail; how far fins rise above and below the body."""
_WATERS = np.array([[[0.70, 0.93, 0.92], [0.24, 0.66, 0.76]],
                    [[0.45, 0.72, 0.95], [0.10, 0.27, 0.60]],
                    [[0.98, 0.80, 0.66], [0.52, 0.35, 0.62]]], np.float32)
"""Top and bottom colour of three backgrounds; the factor goes from one to the next."""
_AT_ONCE = 500


def draw_factors(n: int = COUNT, seed: int = 0) -> dict[str, npt.NDArray[np.generic]]:
    """n independent, uniform draws of every factor, arrays (n,).

    `kind` is a name of `KINDS`. `hue` goes from 0, magenta, over red, orange and yellow to 1, green; `size` is the fish's
    scale; `x` and `y` are the place of its middle, −1 to 1 from left to right and from top to bottom; `rotation` is in
    degrees, clockwise; `background` goes from 0 to 1 through three colours of water.
    """
    rng = np.random.default_rng(seed)
    u = rng.random((6, n), np.float32)
    small, large = SIZES
    return {"kind": np.array(KINDS)[rng.integers(0, len(KINDS), n)], "hue": u[0], "size": small + (large - small) * u[1],
            "x": 2 * u[2] - 1, "y": 2 * u[3] - 1, "rotation": TURN * (2 * u[4] - 1), "background": u[5]}


def draw(factors: Factors, side: int = SIDE) -> Pixels:
    """The pictures of these factors, (n, side, side, 3) uint8."""
    n = len(factors["kind"])
    out = np.empty((n, side, side, 3), np.uint8)
    for begin in range(0, n, _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        out[rows] = _draw({name: column[rows] for name, column in factors.items()}, side)
    return out


def _draw(factors: Factors, side: int) -> Pixels:
    size, dx, dy, rotation = (factors[name].astype(np.float32)[:, None, None] for name in ("size", "x", "y", "rotation"))
    at = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    py, px = np.meshgrid(at, at, indexing="ij")
    x, y = (px - REACH_X * dx) / size, (py - REACH_Y * dy) / size
    angle = np.deg2rad(rotation)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    pixel = 2 / (side * size)
    kind = (factors["kind"][:, None] == np.array(KINDS)).argmax(1)
    main, dark, light = (colour[:, None, None] for colour in _colours(factors["hue"].astype(np.float32)))
    canvas = _water(factors["background"].astype(np.float32), py)
    return _to_bytes(_fish(canvas, x, y, pixel, _FORMS[kind], (main, dark, light)))


def _fish(canvas: Array, x: Array, y: Array, pixel: Array, forms: Array, colours: tuple[Array, Array, Array]) -> Array:
    """A fish over each canvas (n, H, W, 3), at its own coordinates (x, y)."""
    a, b, length, width, above, below = forms.T[:, :, None, None]
    main, dark, light = colours
    white, black = np.full(3, 1, np.float32), np.full(3, 0.06, np.float32)
    body = _ellipse(x, y, a, b)
    belly = np.maximum(body, _ellipse(x - 0.05, y - 0.75 * b, 0.9 * a, 0.75 * b))
    eye = np.hypot(x - 0.50 * a, y + 0.20 * b)
    for colour, distance in ((dark, _tail(x + a - 0.10, y, length, width)), (dark, _fins(x, y, a, b, above, below)),
                             (main, body), (light, belly), (white, eye - 0.165), (black, eye - 0.095)):
        share = np.clip(0.5 - distance / pixel, 0, 1)[..., None]
        canvas = canvas + share * (colour - canvas)
    return canvas


def _water(background: Array, py: Array) -> Array:
    at = 2 * background
    i = np.minimum(at.astype(np.int64), 1)
    t = (at - i)[:, None, None]
    ends = (1 - t) * _WATERS[i] + t * _WATERS[i + 1]
    depth = ((py + 1) / 2)[None, :, :, None]
    return (1 - depth) * ends[:, 0][:, None, None] + depth * ends[:, 1][:, None, None]


def _colours(hue: Array) -> tuple[Array, Array, Array]:
    """Of body, fins and belly, each (n, 3)."""
    h = (2.9 * hue[:, None] + 5.2) % 6
    rgb = np.clip(np.abs((h + np.array([0, 4, 2], np.float32)) % 6 - 3) - 1, 0, 1)
    main = (0.16 + 0.80 * rgb).astype(np.float32)
    return main, 0.68 * main, 0.45 * main + np.float32(0.53)


def _ellipse(x: Array, y: Array, a: Array, b: Array) -> Array:
    """Distance to an ellipse around 0, to first order; below 0 inside."""
    k = np.hypot(x / a, y / b)
    return k * (k - 1) / np.maximum(np.hypot(x / a**2, y / b**2), 1e-6)


def _tail(x: Array, y: Array, length: Array, width: Array) -> Array:
    """Distance to a triangle with its tip at 0, `length` long towards −x and of half width `width` there."""
    return np.maximum((np.abs(y) * length + x * width) / np.hypot(length, width), -x - length)


def _fins(x: Array, y: Array, a: Array, b: Array, above: Array, below: Array) -> Array:
    """Distance to the fins: halves of taller ellipses, nearer to the tail."""
    upper = np.maximum(_ellipse(x + 0.12, y, 0.55 * a, b + above), y)
    lower = np.maximum(_ellipse(x + 0.12, y, 0.50 * a, b + below), -y)
    return np.minimum(upper, lower)


def _to_bytes(canvas: Array) -> Pixels:
    return (255 * canvas.clip(0, 1) + 0.5).astype(np.uint8)
