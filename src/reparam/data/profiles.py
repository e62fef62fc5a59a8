"""Colour profiles: from the colours that a file means to sRGB, which screens and this product take all pixels for."""

from __future__ import annotations

import functools
import io
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageCms

from .pixels import Pixels

Profile: TypeAlias = Literal["none", "converted", "unusable"]
"""What becomes of a file's colour profile: there is none or it changes nothing, it is applied, or it cannot be."""

_SPACES = {"GRAY": ("L",), "RGB ": ("L", "RGB"), "CMYK": ("CMYK",)}
_UNCHANGED = 2  # levels: a profile that moves no colour by more is sRGB


def use_of(profile: bytes | None, mode: str) -> Profile:
    """What becomes of a profile of pixels that are "L" (grey), "RGB" or "CMYK"."""
    if not profile:
        return "none"
    try:
        return "converted" if _transform(profile, mode) is not None else "none"
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return "unusable"


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """A grey, RGB or CMYK picture in sRGB; grey stays grey. As it is where its profile cannot be used."""
    if use_of(profile, picture.mode) != "converted" or profile is None:
        return picture
    transform: Any = _transform(profile, picture.mode)
    if picture.mode != "L":
        return transform.apply(picture)
    return picture.point(_curve(profile))


def pixels_to_srgb(color: Pixels, profile: bytes | None) -> Pixels:
    """`to_srgb` of pixels (H, W, 1 or 3)."""
    mode = "L" if color.shape[2] == 1 else "RGB"
    if use_of(profile, mode) != "converted":
        return color
    picture = Image.fromarray(color[:, :, 0] if mode == "L" else np.ascontiguousarray(color))
    return np.asarray(to_srgb(picture, profile)).reshape(color.shape)


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile's colours to sRGB; None if it moves none of them.

    Relative colorimetric with black point compensation, as image editors do by default.

    Raises:
        PyCMSError, OSError, TypeError, ValueError: the profile is broken, or of another colour space.
    """
    given: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = str(given.profile.xcolor_space)
    if mode not in _SPACES.get(space, ()):
        raise ValueError(f"a profile of {space} for {mode}")
    source = "RGB" if space == "RGB " else mode
    made = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), source, "RGB",
                                   ImageCms.Intent.RELATIVE_COLORIMETRIC,
                                   ImageCms.Flags.BLACKPOINTCOMPENSATION)
    if source == "CMYK":
        return made
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    probe = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 16, 3) if mode == "RGB" else _greys(source)
    seen = np.asarray(made.apply(Image.fromarray(probe)))
    wanted = probe if probe.ndim == 3 else np.repeat(probe[..., None], 3, 2)
    return None if np.abs(seen.astype(int) - wanted).max() <= _UNCHANGED else made


@functools.lru_cache(maxsize=32)
def _curve(profile: bytes) -> list[int]:
    """What each of the 256 greys becomes."""
    transform: Any = _transform(profile, "L")
    source: str = transform.input_mode
    return np.asarray(transform.apply(Image.fromarray(_greys(source))))[0, :, 1].tolist()


def _greys(mode: str) -> Pixels:
    """All greys in one row, (1, 256) or (1, 256, 3)."""
    row = np.arange(256, dtype=np.uint8)[None]
    return row if mode == "L" else np.repeat(row[..., None], 3, 2)
