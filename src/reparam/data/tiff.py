"""TIFF of any number of bands and any type, uncompressed or deflated, by tifffile.

Pillow (libtiff) reads the others: it knows more ways of compression and more colour spaces, but of bands and types only the
common ones, mixes up the planes of uncompressed 16-bit colour, and drops bands that it has no mode for.
"""

from __future__ import annotations

import functools
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .pixels import MAX_CHANNELS, Pixels, Range, UnreadableImage, check_pixels, to_uint8

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEFLATED = (8, 32946)
_ASSOCIATED, _ALPHA = 1, (1, 2)  # values of ExtraSamples: colours multiplied by alpha; any alpha
_PIECE = 1 << 16


@dataclass(frozen=True)
class Page:
    """The first page of a TIFF."""

    page: Any           # tifffile.TiffPage
    stream: IO[bytes]
    more: bool          # further pages follow
    orientation: int

    @property
    def plain(self) -> bool:
        """Whether `read` can decode it: grey, RGB or bands of whole bytes, uncompressed or deflated."""
        p = self.page
        return (p.compression in (1, *_DEFLATED) and p.photometric in (0, 1, 2) and p.dtype is not None
                and p.bitspersample in (8, 16, 32, 64) and p.predictor in (1, 2) and p.imagedepth == 1)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.page.imagewidth, self.page.imagelength

    @property
    def channels(self) -> int:
        return int(self.page.samplesperpixel)

    @property
    def alpha(self) -> bool:
        """Whether the last channel is transparency; extra bands that do not say so are bands."""
        extra = self.channels - (3 if self.page.photometric == 2 else 1)
        kinds = tuple(self.page.extrasamples)
        return extra == 1 and (kinds[0] in _ALPHA if kinds else self.page.photometric == 2)

    @property
    def profile(self) -> bytes | None:
        """The colour profile."""
        tag = self.page.tags.get(34675)
        return bytes(tag.value) if tag is not None and isinstance(tag.value, bytes) else None

    def check(self, read_by_pillow: int | None = None) -> None:
        """Raises UnreadableImage if it has too many bands, or more than the `read_by_pillow`."""
        p, planes = self.page, self.page.planarconfig == 2 and self.channels > 1
        mixed = p.compression == 1 and planes and (p.bitspersample > 8)
        if self.channels > MAX_CHANNELS:
            raise UnreadableImage(f"{self.channels} bands, {MAX_CHANNELS} at most are accepted")
        if not self.plain and (mixed or (read_by_pillow or 0) < self.channels):
            bits = f"{p.bitspersample} bits" if p.dtype is not None else "mixed bits"
            raise UnreadableImage(
                f"a TIFF of {self.channels} bands of {bits}{' in separate planes' if planes else ''}, compression "
                f"{_name(p.compression)} and colour {_name(p.photometric)}, is not read: save it uncompressed or deflated, "
                "as grey, RGB or bands")


def first_page(stream: IO[bytes], max_pixels: int) -> Page | None:
    """The tags of the first page, or None if it is no TIFF that tifffile knows."""
    start = stream.read(4)
    stream.seek(0)
    if start not in _MAGIC:
        return None
    library = _tifffile()
    try:
        tiff = library.TiffFile(stream)
        page = tiff.pages[0]
    except (library.TiffFileError, IndexError):
        return None
    check_pixels(page.imagewidth, page.imagelength, max_pixels)
    tag = page.tags.get(274)
    return Page(page, stream, _follows(tiff), int(tag.value) if tag is not None else 1)


def read(first: Page, value_range: Range | None) -> tuple[Pixels, Pixels | None]:
    """Channels (H, W, C) and alpha (H, W, 1) or None of a plain page, upright, by the rule of `to_uint8`."""
    page = first.page
    _check_segments(first)
    planes = page.asarray(squeeze=False, maxworkers=1)  # (planes, 1, H, W, samples)
    samples = planes[:, 0].transpose(1, 2, 0, 3).reshape(page.imagelength, page.imagewidth, -1)
    samples = turned(samples, first.orientation)
    colors = samples.shape[2] - first.alpha
    color = to_uint8(samples[:, :, :colors], value_range)
    color = 255 - color if page.photometric == 0 else color
    if not first.alpha:
        return color, None
    alpha = to_uint8(samples[:, :, colors:])
    if page.extrasamples and page.extrasamples[0] == _ASSOCIATED:
        divided = (color.astype(np.float32) * 255 / np.maximum(alpha, 1)).round()
        color = np.minimum(divided, 255).astype(np.uint8)  # rounding of either may overstep
    return color, alpha


def turned(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An image (H, W, C) stored in one of the eight orientations of EXIF and TIFF, upright."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _name(tag: Any) -> str:
    return str(getattr(tag, "name", tag)).lower()


def _follows(tiff: Any) -> bool:
    try:
        return tiff.pages[1] is not None
    except Exception:  # a broken second page is not read either
        return False


def _check_segments(first: Page) -> None:
    """Refuses strips or tiles that end early, which tifffile fills with zeros, or that unpack to more than they should."""
    page, stream = first.page, first.stream
    length = stream.seek(0, os.SEEK_END)
    needed = list(_segment_sizes(first))
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(places) < len(needed):
        raise UnreadableImage(f"the file is truncated ({len(places)} of {len(needed)} strips or tiles)")
    for (offset, count), (least, most) in zip(places, needed, strict=False):
        if offset + count > length or (page.compression == 1 and count < least):
            raise UnreadableImage("the file is truncated (a strip or tile ends early)")
        if page.compression in _DEFLATED:
            _check_deflated(stream, offset, count, least, most)


def _segment_sizes(first: Page) -> Iterator[tuple[int, int]]:
    """Least and most bytes of each strip or tile once unpacked; the last strip may be padded to the length of the others."""
    page = first.page
    planes = first.channels if page.planarconfig == 2 else 1
    sample = page.bitspersample // 8 * (first.channels // planes)
    width, height = first.size
    if page.is_tiled:
        check_pixels(page.tilewidth, page.tilelength, max(16 * width * height, 1 << 22))
        whole = page.tilewidth * page.tilelength * sample
        across = -(-width // page.tilewidth) * -(-height // page.tilelength)
        yield from ((whole, whole) for _ in range(planes * across))
        return
    rows = min(max(int(page.rowsperstrip or height), 1), height)
    for _ in range(planes):
        yield from ((min(rows, height - top) * width * sample, rows * width * sample) for top in range(0, height, rows))


def _check_deflated(stream: IO[bytes], offset: int, count: int, least: int, most: int) -> None:
    unpack, pending, out = zlib.decompressobj(), b"", 0
    stream.seek(offset)
    while not unpack.eof and out <= most:
        if not pending:
            pending = stream.read(min(count, _PIECE))
            count -= len(pending)
            if not pending:
                break
        out += len(unpack.decompress(pending, 16 * _PIECE))
        pending = unpack.unconsumed_tail
    if out > most:
        raise UnreadableImage(f"a strip or tile unpacks to more than its {most:,} bytes")
    if out < least:
        raise UnreadableImage(f"the file is truncated ({out} of {least} bytes of a strip or tile)")


@functools.cache
def _tifffile() -> Any:
    import tifffile  # only a TIFF needs it

    # It logs what it finds odd in a file; what matters of that is raised here.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    logging.getLogger("tifffile").propagate = False
    return tifffile
