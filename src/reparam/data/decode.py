"""The one way from an image file to a uint8 array: nothing is clipped, guessed or half read."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from ..errors import UsageError
from . import tiff
from .formats import accepted, formats
from .pixels import (
    MAX_CHANNELS,
    Pixels,
    Range,
    UnreadableImage,
    check_pixels,
    check_value_range,
    finish,
    parse_background,
    to_uint8,
)
from .profiles import Profile, pixels_to_srgb, to_srgb, use_of

MAX_PIXELS = 50_000_000
# No honest image needs more bytes a pixel than this (16-bit RGBA is 8).
BYTES_PER_PIXEL = 16
_WHOLE = 4 << 20
"""A file of at most so many bytes is read at once: decoders read it in small pieces, and seek between them."""
_NPY_MAGIC = b"\x93NUMPY"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Named(NamedTuple):
    """The bytes of an image file, and the name to call it by."""

    name: str
    data: bytes


File: TypeAlias = str | Path | Named


@dataclass(frozen=True)
class Header:
    """What a file says of its image before anything is decoded."""

    size: tuple[int, int]       # (width, height) as seen, after the EXIF orientation
    channels: int               # with alpha, if it has one
    alpha: bool
    grey: bool                  # one channel besides alpha
    more_frames: bool = False   # frames or pages after the first, which are not read
    profile: Profile = "none"   # what becomes of its colour profile


PROFILES: Final = ("none", "converted", "unusable")
HEADER = 7
"""Numbers in a header."""


def as_numbers(header: Header) -> tuple[int, ...]:
    """A header as the `HEADER` numbers of which arrays are made."""
    return (*header.size, header.channels, header.alpha, header.grey, header.more_frames, PROFILES.index(header.profile))


def of_numbers(numbers: Sequence[int]) -> Header:
    width, height, channels, alpha, grey, more, profile = map(int, numbers)
    return Header((width, height), channels, bool(alpha), bool(grey), bool(more), PROFILES[profile])


class _Quiet:
    """Pillow's warnings are off while any thread is inside, which `catch_warnings` cannot do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"(PIL|numpy)(\.|$)")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.close()


quiet = _Quiet()


def read_header(file: File, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Size, channels and kind of an image, without decoding it.

    Raises:
        UnreadableImage: not an image of an accepted format, or larger than `max_pixels`.
    """
    with _opened(file, max_pixels) as stream:
        if _is_npy(stream):
            return _npy_header(stream, max_pixels)[0]
        page = tiff.first_page(stream, max_pixels)
        if page is not None and page.plain:
            return _describe_page(page)
        picture = _open_pillow(stream, max_pixels, page)
        return _describe(picture, _orientation(picture), _png_kind(picture, stream))


class Contents(NamedTuple):
    """What a file says of its image, and its samples as uint8."""

    header: Header
    color: Pixels           # (H, W, C) without alpha
    alpha: Pixels | None    # (H, W, 1)

    def image(self, grey: bool | None, background: str) -> Pixels:
        """The image, (H, W, C); see `read_image`."""
        return finish(self.color, self.alpha, grey, parse_background(background))


def read_contents(file: File, *, value_range: Range | None = None, max_pixels: int = MAX_PIXELS,
                  at_least: int | None = None) -> Contents:
    """Header and samples of one image; arguments and errors are those of `read_image`."""
    check_value_range(value_range)
    with _opened(file, max_pixels) as stream:
        if _is_npy(stream):
            header, samples = _read_npy(stream, max_pixels)
            return Contents(header, to_uint8(samples, value_range), None)
        return _read_picture(stream, value_range, max_pixels, at_least)


def read_image(file: File, *, grey: bool | None = None, background: str = "white",
               value_range: Range | None = None, max_pixels: int = MAX_PIXELS,
               at_least: int | None = None) -> Pixels:
    """Decodes one image to uint8, shape (H, W, C).

    The files that `formats` names (the first frame or page of each) and NPY, (H, W) or (H, W, C).
    The EXIF orientation is applied; palettes, CMYK, YCbCr, LAB and 1-bit become RGB or grey; colours of
    a profile become sRGB. Samples of 16 bits and floats are scaled by the range of their type, 0..65535
    and [0, 1].

    Args:
        grey: one channel if true, three if false, as the file has it if None. An NPY or TIFF that has
            neither 1 nor 3 channels is returned with those that it has.
        background: what transparency is drawn on: "white", "black" or "#rrggbb"; "keep" appends an
            alpha channel to every image.
        value_range: the samples that become 0 and 255, in place of the range of the file's type.
        max_pixels: height times width at most, checked before anything is decoded.
        at_least: a JPEG may be decoded coarser while its shorter side stays this long (pixels).

    Raises:
        UnreadableImage: truncated, too large, not an image, values outside their range, NaN.
        UsageError: no such background, or an empty value range.
    """
    parse_background(background)
    found = read_contents(file, value_range=value_range, max_pixels=max_pixels, at_least=at_least)
    return found.image(grey, background)


@contextlib.contextmanager
def _opened(file: File, max_pixels: int) -> Generator[IO[bytes]]:
    """The file's bytes. Whatever a decoder raises inside leaves as UnreadableImage."""
    name = file.name if isinstance(file, Named) else str(file)
    try:
        with quiet, contextlib.ExitStack() as stack:
            if isinstance(file, Named):
                length, stream = len(file.data), io.BytesIO(file.data)
            else:
                opened = stack.enter_context(open(file, "rb", buffering=0))  # noqa: PTH123 (twice as fast)
                length = os.fstat(opened.fileno()).st_size
                stream = io.BytesIO(opened.read()) if length <= _WHOLE else io.BufferedReader(opened)
            if length > BYTES_PER_PIXEL * max_pixels:
                raise UnreadableImage(f"{length:,} bytes are too many for --max-pixels "
                                      f"{max_pixels}")
            yield stream
    except UsageError:
        raise
    except UnreadableImage as e:
        raise UnreadableImage(e.reason, name) from e
    except Image.UnidentifiedImageError as e:
        raise UnreadableImage("it is empty" if _is_empty(file) else
                              f"not a {accepted()} file, or a broken one", name) from e
    except Exception as e:  # decoders raise almost anything on a broken file; all of it means this
        raise UnreadableImage(_in_words(e), name) from e


def _is_empty(file: File) -> bool:
    return not file.data if isinstance(file, Named) else Path(file).stat().st_size == 0


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error)
    if "truncated" in text.lower():
        return f"the file is truncated ({text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_npy(stream: IO[bytes]) -> bool:
    magic = stream.read(len(_NPY_MAGIC))
    stream.seek(0)
    return magic == _NPY_MAGIC


def _npy_header(stream: IO[bytes], max_pixels: int) -> tuple[Header, npt.DTypeLike, str]:
    """Header, type and order ("C" or "F") of an NPY; `stream` is left where its data begin."""
    version = np.lib.format.read_magic(stream)
    reader = (np.lib.format.read_array_header_1_0 if version == (1, 0)
              else np.lib.format.read_array_header_2_0)
    shape, fortran, dtype = reader(stream)
    if len(shape) not in (2, 3):
        raise UnreadableImage(f"shape {shape} is not (H, W) or (H, W, C)")
    height, width, channels = (*shape, 1)[:3]
    check_pixels(width, height, max_pixels)
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnreadableImage(f"shape {shape} has {channels} channels, {MAX_CHANNELS} at most are "
                              "accepted: the last axis must be the channels")
    if dtype.hasobject:
        raise UnreadableImage("it holds Python objects, which are never loaded")
    return Header((width, height), channels, False, channels == 1), dtype, "F" if fortran else "C"


def _read_npy(stream: IO[bytes], max_pixels: int) -> tuple[Header, npt.NDArray[Any]]:
    header, dtype, order = _npy_header(stream, max_pixels)
    width, height = header.size
    data = stream.read()
    wanted = width * height * header.channels * np.dtype(dtype).itemsize
    if len(data) < wanted:
        raise UnreadableImage(f"the file is truncated ({len(data)} of {wanted} bytes)")
    flat = np.frombuffer(data[:wanted], dtype)
    return header, flat.reshape((height, width, header.channels), order="F" if order == "F" else "C")


def _open_pillow(stream: IO[bytes], max_pixels: int, page: tiff.Page | None) -> Image.Image:
    """The picture, before it is decoded; `page` is what tifffile found in it."""
    if page is not None:
        page.check(page.channels)
    try:
        picture = Image.open(stream, formats=formats())
    except Image.UnidentifiedImageError:
        if page is not None:
            page.check(0)
        raise
    check_pixels(*picture.size, max_pixels)
    if page is not None:
        page.check(len(picture.getbands()))
    return picture


def _read_picture(stream: IO[bytes], value_range: Range | None, max_pixels: int,
                  at_least: int | None) -> Contents:
    page = tiff.first_page(stream, max_pixels)
    if page is None or not page.plain:
        return _decode(_open_pillow(stream, max_pixels, page), stream, value_range, at_least)
    header = _describe_page(page)
    color, alpha = tiff.read(page, value_range)
    return Contents(header, pixels_to_srgb(color, page.profile) if color.shape[2] in (1, 3) else color, alpha)


def _describe_page(page: tiff.Page) -> Header:
    page.check()
    (width, height), colors = page.size, page.channels - page.alpha
    size = (height, width) if page.orientation >= 5 else (width, height)
    profile = use_of(page.profile, "L" if colors == 1 else "RGB") if colors in (1, 3) else "none"
    return Header(size, page.channels, page.alpha, colors == 1, page.more, profile)


def _orientation(picture: Image.Image) -> int:
    # Pillow turns TIFF by itself. A PNG's own getexif would decode the image to look for more.
    if picture.format == "TIFF":
        return 1
    try:
        return int(Image.Image.getexif(picture).get(0x0112, 1))
    except Exception:  # a broken EXIF block says nothing of the pixels
        return 1


def _describe(picture: Image.Image, orientation: int, png_kind: tuple[int, int]) -> Header:
    width, height = picture.size
    if orientation >= 5:
        width, height = height, width
    grey = (picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode.startswith("I;16")
            or _has_grey_palette(picture) or png_kind == (16, 4))
    alpha = picture.has_transparency_data
    more = picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
    profile = use_of(_profile(picture), _profiled_mode(picture, grey))
    return Header((width, height), (1 if grey else 3) + alpha, alpha, grey, more, profile)


def _profile(picture: Image.Image) -> bytes | None:
    """The colour profile, where it speaks of the samples that are kept: LAB has none of its own."""
    profile = picture.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and picture.mode != "LAB" else None


def _profiled_mode(picture: Image.Image, grey: bool) -> str:
    return "CMYK" if picture.mode == "CMYK" else "L" if grey else "RGB"


def _png_kind(picture: Image.Image, stream: IO[bytes]) -> tuple[int, int]:
    """Bit depth and colour type of a PNG, which Pillow's mode hides; (8, -1) for other formats."""
    if picture.format != "PNG":
        return 8, -1
    here = stream.tell()
    stream.seek(24)
    depth, kind = stream.read(2)
    stream.seek(here)
    return depth, kind


def _has_grey_palette(picture: Image.Image) -> bool:
    if picture.mode not in ("P", "PA") or picture.palette is None:
        return False
    layout, data = picture.palette.getdata()
    width = {"RGB": 3, "BGR": 3, "RGBA": 4, "BGRX": 4}.get(layout)
    colors = np.frombuffer(bytes(data), np.uint8)
    if layout == "RGB;L":
        planes = colors.reshape(3, -1)
    elif width is None or colors.size % width:
        return False
    else:
        planes = colors.reshape(-1, width).T
    return bool((planes[0] == planes[1]).all() and (planes[1] == planes[2]).all())


def _decode(picture: Image.Image, stream: IO[bytes], value_range: Range | None,
            at_least: int | None) -> Contents:
    """The contents, 1 or 3 colours, of Pillow's picture."""
    orientation, (depth, kind) = _orientation(picture), _png_kind(picture, stream)
    header, turn = _describe(picture, orientation, (depth, kind)), _TURNS.get(orientation)
    tags = cast(dict[int, Any], getattr(picture, "tag_v2", {}))
    inverted = picture.mode in ("I;16", "I;16B", "F") and tags.get(262) == 0  # white is zero
    bits = int(next(iter(tags.get(258, (0,))))) or depth
    signs = int(next(iter(tags.get(339, (1,)))))
    rescaled = _is_rescaled(picture)
    if at_least is not None and min(picture.size) > at_least:
        scale = at_least / min(picture.size)
        wanted = (int(picture.width * scale) + 1, int(picture.height * scale) + 1)
        picture.draft(picture.mode, wanted)
    picture.load()
    if turn is not None:
        picture = _turned(picture, turn)
    profile = _profile(picture)
    samples, alpha = _samples(picture, header, depth)
    if value_range is not None and (rescaled or (bits == 16 and samples.dtype == np.uint8)):
        raise UnreadableImage("16-bit colour and scaled samples of this format are read as bytes, so --value-range "
                              "cannot be applied: store them as NPY, or as a TIFF uncompressed or deflated")
    if signs == 2 and bits == 8:  # Pillow hands these over as if they had no sign
        samples = samples.view(np.int8)
    elif signs == 1 and samples.dtype == np.int32:
        samples = samples.view(np.uint32)
    deep = bits if samples.dtype == np.uint16 and 8 < bits < 16 else None
    color = to_uint8(samples, value_range, deep)
    color = 255 - color if inverted else color
    return Contents(header, color if picture.mode == "CMYK" else pixels_to_srgb(color, profile), alpha)


def _is_rescaled(picture: Image.Image) -> bool:
    """Whether Pillow scales samples to the whole of a byte or of 16 bits, so that their own values are lost."""
    if picture.format == "PPM" and isinstance(picture, ImageFile.ImageFile):
        args = picture.tile[0].args
        return isinstance(args, tuple) and args[1] != (65535 if picture.mode == "I" else 255) and picture.mode != "F"
    return picture.format == "JPEG2000" and picture.mode == "I;16"


def _turned(picture: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = picture.transpose(turn)
    turned.info = picture.info
    turned.format = picture.format
    return turned


def _samples(picture: Image.Image, header: Header,
             depth: int) -> tuple[npt.NDArray[Any], Pixels | None]:
    """The file's own samples (H, W, 1 or 3), of whatever type, and its alpha (H, W, 1) or None."""
    mode, key = picture.mode, picture.info.get("transparency")
    if mode.startswith("I;16") or mode in ("I", "F"):
        samples = np.asarray(picture)[:, :, None]
        samples = samples.astype(samples.dtype.newbyteorder("="))
        if picture.format in ("PNG", "PPM") and mode == "I":  # Pillow widens their 16 bits to 32
            samples = samples.astype(np.uint16)
        return samples, None if key is None else _keyed(samples, key, depth)
    if mode in ("1", "L", "RGB"):
        samples = np.asarray(picture.convert("L") if mode == "1" else picture)
        samples = samples.reshape(*samples.shape[:2], -1)
        return samples, None if key is None else _keyed(samples, key, depth)
    if mode in ("LA", "La"):
        both = np.asarray(picture.convert("LA"))
        return both[:, :, :1], both[:, :, 1:]
    if mode == "CMYK":
        picture = to_srgb(picture, _profile(picture))
    four = np.asarray(picture.convert("RGBA" if header.alpha else "RGB"))
    color = four[:, :, :1] if header.grey else four[:, :, :3]
    return color, four[:, :, 3:] if header.alpha else None


def _keyed(samples: npt.NDArray[Any], key: int | tuple[int, ...] | bytes, depth: int) -> Pixels:
    """Alpha of an image one of whose colours is declared transparent, in the file's own depth."""
    color = np.atleast_1d(np.asarray(list(key) if isinstance(key, bytes) else key))
    if depth < 8:
        color = color * 255 // (2**depth - 1)
    elif depth == 16 and samples.dtype == np.uint8:
        color = color >> 8
    hidden = (samples == color).all(axis=2, keepdims=True)
    return np.where(hidden, 0, 255).astype(np.uint8)
