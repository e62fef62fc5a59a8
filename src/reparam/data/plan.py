"""How files of many kinds become images of one shape: what is chosen for all of them, and how each is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..errors import DataError, UsageError
from ..text import counted
from .archives import Skipped
from .decode import Contents, File, Header, read_contents, read_header
from .imageset import Shape
from .pixels import (
    LARGEST,
    Pixels,
    Range,
    Size,
    UnreadableImage,
    check_image_size,
    check_value_range,
    choose_size,
    digest,
    fit,
    parse_background,
)

_PILLOW_LIMIT = 178_956_970  # above this Pillow refuses by itself


@dataclass(frozen=True)
class Settings:
    """What the pixels depend on besides the files; its repr is part of the cache's key."""

    image_size: int | None
    background: str
    value_range: Range | None
    max_pixels: int
    like: Shape | None = None
    largest: int = LARGEST

    def check(self) -> None:
        check_image_size(self.image_size)
        check_image_size(self.largest, "--largest")
        if not 1 <= self.max_pixels <= _PILLOW_LIMIT:
            raise UsageError(f"--max-pixels must lie between 1 and {_PILLOW_LIMIT}, "
                             f"got {self.max_pixels}")
        parse_background(self.background)
        check_value_range(self.value_range)


class Skips(list[Skipped]):
    """The files left out so far. With `on_bad="error"` the first one ends the work."""

    def __init__(self, on_bad: str, first: Iterable[Skipped] = ()) -> None:
        super().__init__()
        self._on_bad = on_bad
        for each in first:
            self.skip(*each)

    def skip(self, name: str, reason: str) -> None:
        if self._on_bad == "error":
            raise DataError(f"{name}: {reason}. Repair or remove it, or leave such files out with "
                            "--on-bad skip.")
        self.append(Skipped(name, reason))


class Decoded(NamedTuple):
    """An image of a plan's shape."""

    header: Header
    image: Pixels
    digest: int
    coloured: bool = False
    """Whether a grey model reads it, and its file is in colour."""


class Misfit(NamedTuple):
    """An image that can be read and has other channels than a plan."""

    header: Header


@dataclass(frozen=True)
class DecodePlan:
    """How every file of a source is decoded.

    `size` is (width, height); `grey` is None for NPY files that are neither grey nor RGB.
    """

    size: Size
    channels: int
    grey: bool | None
    settings: Settings

    def decode(self, file: File | UnreadableImage) -> Decoded | Misfit | UnreadableImage:
        """One image of the planned shape with its header and digest, or why it is none."""
        found = _contents(file, self.settings, self.size)
        if isinstance(found, UnreadableImage):
            return found
        if _kind(found.header) != (self.channels if self.grey is None else 0):
            return Misfit(found.header)
        image = self.fitted(found)
        return Decoded(found.header, image, digest(image))

    def pixels(self, file: File | UnreadableImage) -> Pixels | UnreadableImage:
        """One image of the planned shape, or why it cannot be read."""
        found = _contents(file, self.settings, self.size)
        if isinstance(found, UnreadableImage):
            return found
        image = self.fitted(found)
        return image if image.shape[2] == self.channels else UnreadableImage(
            f"{image.shape[2]} channels, where other images have {self.channels}")

    def fitted(self, found: Contents) -> Pixels:
        """What was read, with the size and, if it is grey or RGB, the channels of the plan."""
        background = self.settings.background
        return fit(found.image(self.grey, background), self.size, alpha=background == "keep" and self.grey is not None)


@dataclass(frozen=True)
class Joining:
    """How each file joins the images of a model, whatever it holds."""

    shape: Shape
    settings: Settings

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> Size:
        return self.shape[2], self.shape[1]

    def decode(self, file: File | UnreadableImage) -> Decoded | UnreadableImage:
        """One image of the model's shape, or why it cannot be read."""
        found = _contents(file, self.settings, self.size)
        if isinstance(found, UnreadableImage):
            return found
        try:
            image = plan_like(found.header, self.size, self.channels, self.settings).fitted(found)
        except UnreadableImage as e:
            return e
        return Decoded(found.header, image, digest(image), self.channels == 1 and not found.header.grey)


def _contents(file: File | UnreadableImage, settings: Settings, size: Size) -> Contents | UnreadableImage:
    if isinstance(file, UnreadableImage):
        return file
    try:
        return read_contents(file, value_range=settings.value_range, max_pixels=settings.max_pixels, at_least=3 * max(size))
    except UnreadableImage as e:
        return e


Plan: TypeAlias = DecodePlan | Joining


def header_of(file: File | UnreadableImage, max_pixels: int) -> Header | UnreadableImage:
    """What a file says of its image, or why it cannot be read."""
    try:
        return file if isinstance(file, UnreadableImage) else read_header(file, max_pixels=max_pixels)
    except UnreadableImage as e:
        return e


def plan_of(headers: dict[str, Header], settings: Settings, skips: Skips) -> tuple[DecodePlan, list[str]]:
    """One shape for all files; those whose channels cannot join the others leave `headers`."""
    kinds = Counter(_kind(h) for h in headers.values())
    kind = max(kinds, key=lambda k: (kinds[k], -k), default=0)
    for name in [name for name, h in headers.items() if _kind(h) != kind]:
        skips.skip(name, f"{headers.pop(name).channels} channels, unlike most files here")
    size, notes = choose_size(Counter(h.size for h in headers.values()), settings.image_size, settings.largest)
    if kind:
        return DecodePlan(size, kind, None, settings), notes
    greys = sum(h.grey for h in headers.values())
    grey, keep = greys == len(headers), settings.background == "keep"
    if 0 < greys < len(headers):
        notes.append(f"{greys} of {len(headers):,} images {'is' if greys == 1 else 'are'} grey, and made RGB")
    clear = sum(h.alpha for h in headers.values())
    if clear and not keep:
        notes.append(counted(clear, "image has", "images have") + f" transparency: drawn on {settings.background}")
    profiles = Counter(h.profile for h in headers.values())
    if profiles["converted"]:
        notes.append(counted(profiles["converted"], "image has", "images have") + " a colour profile: colours were "
                     "converted to sRGB")
    if profiles["unusable"]:
        notes.append(counted(profiles["unusable"], "image has", "images have") + " a colour profile that is broken or of "
                     "other channels: colours were taken for sRGB")
    more = sum(h.more_frames for h in headers.values())
    if more:
        notes.append(counted(more, "file holds", "files hold") + " several frames or pages: the first of each was taken")
    return DecodePlan(size, (1 if grey else 3) + keep, grey, settings), notes


def plan_like(header: Header, size: Size, channels: int, settings: Settings) -> DecodePlan:
    """The plan by which a file joins images of this size and these channels.

    Raises:
        UnreadableImage: it cannot.
    """
    kind, keep = _kind(header), settings.background == "keep"
    if kind:
        if kind != channels:
            raise UnreadableImage(f"{kind} channels, where the model's images have {channels}")
        return DecodePlan(size, channels, None, settings)
    if channels not in (1 + keep, 3 + keep):
        raise UnreadableImage(f"the model's images have {channels} channels: only an NPY file of as many can "
                              "stand for one")
    return DecodePlan(size, channels, channels == 1 + keep, settings)


def _kind(header: Header) -> int:
    """0 for grey and RGB, with or without alpha; otherwise the number of channels."""
    return 0 if header.channels - header.alpha in (1, 3) else header.channels
