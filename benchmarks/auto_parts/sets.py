"""Eight sets of images, each with images to train on and others to measure by; test images are not among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from reparam.data.open import open_images
from reparam.data.stream import to_batch
from reparam.features import get_features

HELD_OUT = 2000
MEASURED = 2500
"""Test images of faces64, which has none of its own: its last ones."""
FILES = {"mnist": "mnist.npz", "fashion": "fashion-mnist.npz", "faces": "faces64.zip", "cifar": "cifar10-jpeg.zip"}


@dataclass(frozen=True)
class Images:
    """Images (n, H, W, C), uint8."""

    training: np.ndarray
    held_out: np.ndarray


@cache
def images_of(name: str, folder: Path, count: int = 0) -> Images:
    """A set by its name; of its training images `count` alone, by default all."""
    if name in FILES:
        source = open_images(str(folder / FILES[name]))
        rows = np.flatnonzero(~source.test)
        rows = rows if source.test.any() else rows[:-MEASURED]  # the last ones test models elsewhere
        held = rows[:: len(rows) // HELD_OUT][:HELD_OUT]
        rows = np.setdiff1d(rows, held)
        rows = np.random.default_rng(0).permutation(rows)[:count] if count else rows
        return Images(source.images[rows], source.images[held])
    n, draw = DRAWN[name]
    n = count or n
    images = draw(n + HELD_OUT, np.random.default_rng(0))
    return Images(images[:n], images[n:])


def icons(n: int, rng: np.random.Generator, side: int = 48) -> np.ndarray:
    """Badges with a sign on them, RGBA, clear around: (n, side, side, 4)."""
    return np.stack([np.asarray(_icon(rng, side)) for _ in range(n)])


def _icon(rng: np.random.Generator, side: int) -> Image.Image:
    large, hue, other = 4 * side, *(int(v) for v in rng.integers(0, 256, 2))
    picture = Image.new("RGBA", (large, large))
    pen, edge = ImageDraw.Draw(picture), large * float(rng.uniform(0.06, 0.16))
    box, filled = (edge, edge, large - edge, large - edge), _colour(hue, 200)
    (pen.ellipse, lambda b, fill: pen.rounded_rectangle(b, large / 6, fill=fill), lambda b, fill: pen.regular_polygon(
        (large / 2, large / 2, large / 2 - edge), 6, fill=fill))[rng.integers(3)](box, fill=filled)
    middle, size = large / 2, large * float(rng.uniform(0.15, 0.25))
    sign, colour = (middle - size, middle - size, middle + size, middle + size), _colour(other, 60)
    match int(rng.integers(4)):
        case 0: pen.ellipse(sign, fill=colour)
        case 1: pen.regular_polygon((middle, middle, size), 3, rotation=int(rng.integers(4)) * 90, fill=colour)
        case 2: pen.arc(sign, 20, 160, fill=colour, width=large // 16)
        case _: pen.line((*sign[:2], *sign[2:]), fill=colour, width=large // 12)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _colour(hue: int, saturation: int) -> tuple[int, int, int, int]:
    r, g, b = Image.new("HSV", (1, 1), (hue, saturation, 230)).convert("RGB").getpixel((0, 0))
    return r, g, b, 255


def _fields(n: int, side: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Random fields (n, side, side) whose spectrum falls as frequency^-slope, mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((n, side, side))) * frequency ** -slope
    spectrum[:, 0, 0] = 0
    fields = np.fft.irfft2(spectrum, (side, side))
    return fields / fields.std((1, 2), keepdims=True)


def _bytes(x: np.ndarray) -> np.ndarray:
    return (255 * x.clip(0, 1) + 0.5).astype(np.uint8)


def textures(n: int, rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """Grain and stripes between two colours: (n, side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side
    turn, waves, shift = rng.uniform(0, np.pi, n), rng.uniform(2, 5, n), rng.uniform(0, 2 * np.pi, n)
    along = np.cos(turn)[:, None, None] * x + np.sin(turn)[:, None, None] * y
    grain = _fields(n, side, 1.5, rng)
    mixed = np.sin(2 * np.pi * waves[:, None, None] * along + shift[:, None, None] + 0.8 * grain) + 0.5 * grain
    share = 1 / (1 + np.exp(-2 * mixed))[..., None]
    first, second = rng.uniform(0.1, 0.9, (2, n, 1, 1, 3))
    return _bytes(first * share + second * (1 - share))


def photographs(n: int, rng: np.random.Generator, side: int = 64) -> np.ndarray:
    """Landscapes with sky, sun, hills and grain, as a camera might see them: (n, side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side
    top, low, ground = (rng.uniform(a, b, (n, 1, 1, 3)) for a, b in (((0.2, 0.3, 0.5), (0.5, 0.6, 1.0)), ((0.6, 0.5, 0.4), (1, 0.9, 0.9)),
                                                                     ((0.1, 0.2, 0.05), (0.5, 0.5, 0.3))))
    sky = top + (low - top) * y[None, ..., None]
    sun = np.exp(-60 * ((x - rng.uniform(0.1, 0.9, (n, 1, 1))) ** 2 + (y - rng.uniform(0.1, 0.5, (n, 1, 1))) ** 2))[..., None]
    picture = sky + sun * (1 - sky)
    for depth in (0.45, 0.6, 0.75):
        ridge = depth + 0.08 * np.cumsum(rng.standard_normal((n, 1, side)), 2) / np.sqrt(side)
        hill = 1 / (1 + np.exp(-side * (y - ridge)))[..., None]
        haze = (1 - depth) * low + depth * ground + 0.06 * _fields(n, side, 1.0, rng)[..., None]
        picture += hill * (haze - picture)
    return _bytes(picture + 0.01 * rng.standard_normal(picture.shape))


def bands(n: int, rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """Five bands of one scene, which share what they show: (n, side, side, 5)."""
    scene, shades = (_fields(n, side, 2.0, rng)[..., None] for _ in range(2))
    own = np.stack([_fields(n, side, 1.0, rng) for _ in range(5)], -1)
    gains = np.linspace(-1, 1, 5)
    return _bytes(0.5 + 0.12 * scene * gains + 0.1 * shades + 0.03 * own)


DRAWN: dict[str, tuple[int, Callable[[int, np.random.Generator], np.ndarray]]] = {
    "icons": (1500, icons), "textures": (4000, textures), "photos": (200, photographs), "bands": (3000, bands)}
"""How many to train on, and what draws them."""
NAMES = (*FILES, *DRAWN)


def embedded(x: Tensor) -> np.ndarray:
    """Features (n, d) of images (n, C, H, W): EfficientNet-Lite0's, of RGBA over white; of five channels wavelets'."""
    features = get_features("efficientnet" if x.shape[1] in (1, 3) else "wavelets")
    with torch.inference_mode():
        return torch.cat([features.embed(chunk) for chunk in x.split(250)]).numpy()


@cache
def held_out_features(name: str, folder: Path, count: int = 0) -> np.ndarray:
    """Those of a set's held-out images."""
    return embedded(to_batch(images_of(name, folder, count).held_out))
