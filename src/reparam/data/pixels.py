"""Samples, channels and sizes: from values of any type and shape to the uint8 of an image."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataError, UsageError, nearest
from ..parts.ranges import IMAGE_SIZE
from ..text import counted

MAX_CHANNELS = 16
_HINT = "state what is black and what is white with --value-range LO,HI (in Python value_range=(LO, HI))"
_BLOCK = 1 << 22  # samples scaled at a time, so that float64 copies stay small

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Range: TypeAlias = tuple[float, float]
Size: TypeAlias = tuple[int, int]


class UnreadableImage(DataError):
    """An image is refused; `reason` says why in a few words, the message names the file too."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(f"cannot read {name}: {reason}" if name else reason)
        self.reason, self.name = reason, name

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return type(self), (self.reason, self.name)


LARGEST = 64
"""Side above which images are shrunk to it where nothing else is said."""


def check_image_size(image_size: int | None, flag: str = "--image-size") -> None:
    """Raises UsageError unless `image_size` is None or a side that images may be resized to."""
    IMAGE_SIZE.check(flag, image_size)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises UnreadableImage for an image of no pixels or of too many."""
    if width < 1 or height < 1:
        raise UnreadableImage(f"{width}×{height} has no pixels")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width}×{height} is {width * height / 1e6:,.1f} million pixels, "
                              f"more than --max-pixels {max_pixels}")


def check_value_range(value_range: Range | None) -> None:
    """Raises UsageError unless `value_range` is None or two finite numbers, the smaller first."""
    if value_range is None:
        return
    low, high = value_range
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(f"--value-range {low:g},{high:g} is empty: give the samples that become "
                         "0 and 255, the smaller first, such as 0,4095")


def parse_background(background: str) -> tuple[int, int, int] | None:
    """The colour that `background` names, as (r, g, b); None for "keep".

    Raises:
        UsageError: it names none.
    """
    known = {"white": (255, 255, 255), "black": (0, 0, 0), "keep": None}
    if background in known:
        return known[background]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", background):
        r, g, b = bytes.fromhex(background[1:])
        return r, g, b
    raise UsageError(f"no background {background!r}: accepted are white, black, a colour such as "
                     f"#ff8000, and keep{nearest(background, known)}")


def pixels_of(values: npt.ArrayLike, value_range: Range | None = None) -> tuple[Pixels | Floats, Range]:
    """Pixels of values held in memory, of any shape, and the range that became black to white.

    Whole numbers become levels, uint8 in 0..255, and floats become floats in [0, 1]; the shape is kept. What is black
    and what is white follows from the type, just as in files, or is stated; nothing is clipped, and no range is
    guessed from the values. The range that comes back, (low, high), maps pixels to the units of `values`:
    low + (high - low) * pixel, where a level counts as level / 255.

    | type | without `value_range` | range |
    |---|---|---|
    | uint8 | as it is, the same memory | 0 to 255 |
    | bool | False is level 0, True is level 255 | 0 to 1 |
    | uint16 | scaled to 0..255 and rounded, as 16-bit files are | 0 to 65535 |
    | float16 to float64 | as it is, the same memory, when all lie in [0, 1]; otherwise refused | 0 to 1 |
    | int8 to int64, uint32, uint64 | refused: these types have no range of their own | |

    With `value_range` all types are mapped from it, and values outside it are refused. The refusal says which range
    was found.

    Args:
        values: an array, nested lists of numbers, or a torch tensor on any device.
        value_range: the values that become black and white, such as (0, 4095) or (-1, 1).

    Raises:
        UnreadableImage (a DataError): NaN or infinity, with how many and where the first one is; values outside the
            range; whole numbers without a range; values that are no numbers; lists of unequal lengths.
        UsageError: an empty `value_range`.

    Example:
        >>> pixels_of(np.array([0, 2048, 4095]), value_range=(0, 4095))
        (array([  0, 128, 255], dtype=uint8), (0, 4095))
    """
    check_value_range(value_range)
    array = as_array(values)
    if array.dtype.kind != "f":
        return to_uint8(array, value_range), value_range or _type_range(array, None)
    low, high = value_range or _type_range(array, None)
    _check_inside(array, low, high, stated=value_range is not None)
    if (low, high) == (0, 1):
        return array, (low, high)
    scaled = np.empty(array.shape, np.promote_types(array.dtype, np.float32))
    for block in _blocks(array):
        scaled[block] = ((array[block].astype(np.float64) - low) / (high - low)).clip(0, 1)  # rounding may overstep
    return scaled, (low, high)


def as_array(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Values in memory as an array, copied only if they must be.

    Raises:
        UnreadableImage: lists of unequal lengths.
    """
    torch: Any = sys.modules.get("torch")  # not imported here: reading images needs no torch
    tensor: Any = values
    if torch is not None and isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    try:
        return np.asarray(values)
    except ValueError as e:
        raise UnreadableImage("the images differ in shape: give a folder of files, or resize them to one shape "
                              "first") from e


def to_uint8(values: npt.NDArray[Any], value_range: Range | None = None,
             bits: int | None = None) -> Pixels:
    """Samples of any type scaled to 0..255 with rounding, by `value_range` or their type's range.

    Nothing is clipped. uint8 without a `value_range` is returned as it is. `bits` is the depth of
    samples that do not fill their type (12 in a uint16).

    Raises:
        UnreadableImage: NaN or infinity, samples outside the range, a type without a known one.
    """
    if values.dtype.kind not in "buif":
        raise UnreadableImage(f"values of type {values.dtype} are not samples of an image: accepted are whole numbers, "
                              "bool and floats")
    if values.dtype == np.uint8 and value_range is None:
        return values
    low, high = value_range or _type_range(values, bits)
    _check_inside(values, low, high, stated=value_range is not None)
    scaled = np.empty(values.shape, np.uint8)
    for block in _blocks(values):
        exact = (values[block].astype(np.float64) - low) * 255 / (high - low)
        scaled[block] = np.floor(exact + 0.5)
    return scaled


def finish(color: Pixels, alpha: Pixels | None, grey: bool | None,
            backdrop: tuple[int, int, int] | None) -> Pixels:
    """Transparency and channels settled; other than 1 or 3 channels are left alone."""
    if color.shape[2] not in (1, 3):
        return color
    if grey is False and color.shape[2] == 1:
        color = np.repeat(color, 3, axis=2)
    if backdrop is not None and alpha is not None:
        color = _over(color, alpha, np.array(backdrop if color.shape[2] == 3 else [_luma(backdrop)], np.uint16))
    if grey and color.shape[2] == 3:
        color = np.asarray(Image.fromarray(color).convert("L"))[:, :, None]
    if backdrop is None:
        alpha = np.full((*color.shape[:2], 1), 255, np.uint8) if alpha is None else alpha
        color = np.concatenate([color, alpha], axis=2)
    return np.ascontiguousarray(color)


def _over(color: Pixels, alpha: Pixels, behind: npt.NDArray[np.uint16]) -> Pixels:
    """Colours (H, W, C) drawn on one colour, a few rows at a time: a large picture takes little more than its own memory."""
    out = np.empty_like(color)
    at_once = max(1, 2**18 // color.shape[1])
    for begin in range(0, len(color), at_once):
        rows = slice(begin, begin + at_once)
        cover = alpha[rows].astype(np.uint16)
        out[rows] = (color[rows] * cover + behind * (255 - cover) + 127) // 255  # 255² + 127 at most, which 16 bits hold
    return out


def choose_size(sizes: Mapping[Size, int], image_size: int | None, largest: int = LARGEST) -> tuple[Size, list[str]]:
    """The one size, (width, height), that images get, and what to say of it; `largest` at most where none is given."""
    if not sizes:
        return (0, 0), []
    (width, height), _ = max(sizes.items(), key=lambda item: (item[1], item[0]))
    as_they_are = len(sizes) == 1 and min(width, height) >= 8 and max(width, height) <= largest
    if image_size is None and as_they_are:
        return (width, height), []
    side = image_size or min(max(2 ** round(math.log2(min(width, height))), 8), largest)
    if set(sizes) == {(side, side)}:
        return (side, side), []
    all_of = "all images are" if len(sizes) == 1 else f"of {len(sizes)} sizes the commonest is"
    cut = ", the centre cut out" if any(w != h for w, h in sizes) else ""
    notes = [f"resized to {side}×{side}{cut}: {all_of} {width}×{height}"]
    small = sum(count for size, count in sizes.items() if min(size) < side)
    if small:
        notes.append(counted(small, "image is", "images are") + f" smaller than {side}×{side}: enlarged")
    return (side, side), notes


def fit(image: Pixels, size: Size, *, alpha: bool = False) -> Pixels:
    """The centre of `image` (H, W, C), cut to the shape of `size` and resized with antialiasing.

    `size` is (width, height). The shorter side is kept whole. With `alpha` the last channel weighs
    the others, so that colours hidden by transparency do not bleed.
    """
    height, width, channels = image.shape
    if (width, height) == size:
        return image
    scale = min(width / size[0], height / size[1])
    left, top = (width - size[0] * scale) / 2, (height - size[1] * scale) / 2
    box = (max(left, 0), max(top, 0), min(width - left, width), min(height - top, height))
    together = channels == 3 or (alpha and channels in (2, 4))
    planes = [image] if together else [image[:, :, i] for i in range(channels)]
    resized = [np.asarray(Image.fromarray(np.ascontiguousarray(plane))
                          .resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
               for plane in planes]
    return np.concatenate([r.reshape(size[1], size[0], -1) for r in resized], axis=2)


def digest(image: Pixels) -> int:
    return int.from_bytes(
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "big")


def _luma(color: tuple[int, int, int]) -> int:
    """Brightness of (r, g, b), ITU-R 601-2, as Pillow rounds it."""
    return (color[0] * 19595 + color[1] * 38470 + color[2] * 7471 + 0x8000) >> 16


def _type_range(values: npt.NDArray[Any], bits: int | None) -> Range:
    if values.dtype.kind == "f":
        return 0.0, 1.0
    if values.dtype == np.bool_:
        return 0, 1
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return 0, 2 ** (bits or 8 * values.dtype.itemsize) - 1
    found = f", from {values.min()} to {values.max()}," if values.size else ""
    raise UnreadableImage(f"values of type {values.dtype}{found} have no range of their own: {_HINT}")


def _check_inside(values: npt.NDArray[Any], low: float, high: float, *, stated: bool) -> None:
    least, most = _extent(values)
    # Rounding in float arithmetic may overstep by this much, and still rounds to 0 or 255.
    slack = 1e-6 * (high - low) if values.dtype.kind == "f" else 0.0
    if least < low - slack or most > high + slack:
        whose = "stated" if stated else f"{values.dtype}"
        raise UnreadableImage(f"values from {least:g} to {most:g} lie outside the {whose} range "
                              f"{low:g} to {high:g}: {_HINT}")


def _extent(values: npt.NDArray[Any]) -> Range:
    """Least and greatest value, block by block; NaN and infinity are refused with their place."""
    least, most, bad, first = np.inf, -np.inf, 0, ""
    for block in _blocks(values):
        part = values[block]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            places = np.argwhere(~np.isfinite(part))
            if not bad:
                at = (int(places[0][0]) + block.start, *places[0][1:].tolist())
                axes = ("image", "row", "column", "channel")[-len(at):]
                first = ", ".join(f"{axis} {i}" for axis, i in zip(axes, at, strict=True))
            bad += len(places)
        elif part.size:
            least, most = min(least, float(part.min())), max(most, float(part.max()))
    if bad:
        raise UnreadableImage(f"{bad} value{'s are' if bad > 1 else ' is'} NaN or infinite, "
                              f"the first at {first}")
    return least, most


def _blocks(values: npt.NDArray[Any]) -> Iterator[slice]:
    """Slices of the first axis, of about _BLOCK samples each."""
    rows = max(1, _BLOCK // max(1, values[:1].size))
    return (slice(i, i + rows) for i in range(0, len(values), rows))
