"""From what a user names (a folder, an archive, arrays) to images of one shape."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import DataError, UsageError, nearest
from . import cache
from .arrays import Array, ImageSet, assemble, enough, open_arrays, open_digits
from .members import Members, Skipped, in_parallel, members, read_folders
from .reading import BYTES_PER_PIXEL, MAX_PIXELS, File, Header, read_header, read_image
from .samples import (
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

BUNDLED = ("digits",)
ACCEPTED = ("Accepted are a folder of images, a .zip or .tar of one, an .npy, an .npz and the "
            "bundled name 'digits'.")
_PILLOW_LIMIT = 178_956_970  # above this Pillow refuses by itself

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class _Settings:
    """What the pixels depend on besides the files; its repr is part of the cache's key."""

    image_size: int | None
    background: str
    value_range: Range | None
    max_pixels: int

    def check(self) -> None:
        check_image_size(self.image_size)
        if not 1 <= self.max_pixels <= _PILLOW_LIMIT:
            raise UsageError(f"--max-pixels must lie between 1 and {_PILLOW_LIMIT}, "
                             f"got {self.max_pixels}")
        parse_background(self.background)
        check_value_range(self.value_range)


class _Skips(list[Skipped]):
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


def open_images(source: str | Path, *, image_size: int | None = None, background: str = "white",
                value_range: Range | None = None, on_bad: Literal["skip", "error"] = "skip",
                max_pixels: int = MAX_PIXELS, progress: Progress | None = None) -> ImageSet:
    """Opens what a user calls data: a folder of images, a zip or tar, .npy, .npz, or "digits".

    Files are decoded once, into a memory map in the cache; a second call decodes nothing.

    Args:
        image_size: side of the square that images are resized and cropped to, 8 to 256 pixels.
        background: what transparency is drawn on, or "keep" for an alpha channel.
        value_range: the samples that become 0 and 255, in place of the range of their type.
        on_bad: leave out files that cannot be read, or stop at the first.
        max_pixels: height times width of one image at most.
        progress: called with how many images are decoded, and how many there are.

    Raises:
        DataError: no such source, fewer than 16 readable images, values outside their range.
        UsageError: an option out of its range.
        ReparamError: the cache cannot be written.
    """
    settings = _Settings(image_size, background, value_range, max_pixels)
    settings.check()
    if on_bad not in ("skip", "error"):
        raise UsageError(f"--on-bad must be skip or error, got {on_bad!r}")
    path, name = Path(source).expanduser(), str(source)
    if name.startswith("hf:") or path.suffix.lower() == ".parquet":
        raise DataError(f"{name!r}: data sets on a hub and .parquet files are not supported by "
                        f"this version. {ACCEPTED}")
    if name in BUNDLED and not path.exists():
        return open_digits(image_size, value_range)
    if not path.exists():
        raise DataError(_no_such(path, name))
    if path.suffix.lower() in (".npy", ".npz"):
        return open_arrays(path, name, image_size, value_range)
    return _open_files(path, name, settings, on_bad, progress)


def read_like(paths: Sequence[str | Path], image_shape: tuple[int, int, int], *, background: str = "white",
              value_range: Range | None = None) -> Pixels:
    """Image files as a model's training images were made: (n, H, W, C) uint8, in the order of `paths`.

    A grey model reads colour as its brightness, a colour model reads grey as RGB, and other sizes are
    resized and cropped. NPY files of channels other than grey and RGB must have as many as the model.

    Args:
        image_shape: (C, H, W) of the model's images.
        background: what transparency is drawn on. With "keep" a model of 2 or 4 channels reads it as
            its last; for one of 1 or 3, which was made of arrays without it, it is drawn on white.
        value_range: the samples that become 0 and 255, in place of the range of their type.

    Raises:
        DataError: a file is missing, cannot be read, or has channels that the model has no place for.
        UsageError: no such background, or an empty value range.
    """
    channels, height, width = image_shape
    settings = _Settings(None, background, value_range, MAX_PIXELS)
    settings.check()
    if background == "keep" and channels in (1, 3):
        settings = replace(settings, background="white")

    def work(file: File) -> tuple[Pixels, int] | UnreadableImage:
        try:
            header = read_header(file, max_pixels=settings.max_pixels)
            return _plan_like(header, (width, height), channels, settings).decode(file)
        except UnreadableImage as e:
            return e

    images = np.empty((len(paths), height, width, channels), np.uint8)
    files = [(str(path), _present(path)) for path in paths]
    for i, (name, result) in enumerate(in_parallel(work, files)):
        if isinstance(result, UnreadableImage):
            raise UnreadableImage(result.reason, name)
        images[i] = result[0]
    return images


def _no_such(path: Path, name: str) -> str:
    return f"no such folder or file: {name!r}{nearest(path.name, [*BUNDLED, *_beside(path)])}. {ACCEPTED}"


def _beside(path: Path) -> list[str]:
    """The names in the folder where `path` would lie."""
    with contextlib.suppress(OSError):
        return [each.name for each in path.parent.iterdir()]
    return []


def _present(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if not file.exists():
        raise DataError(f"no such file: {str(path)!r}{nearest(file.name, _beside(file))}")
    if not file.is_file():  # a pipe would be waited on for ever
        raise UnreadableImage("not a regular file", str(path))
    return file


def _open_files(path: Path, name: str, settings: _Settings, on_bad: str,
                progress: Progress | None) -> ImageSet:
    with members(path, BYTES_PER_PIXEL * settings.max_pixels) as found:
        if not found.entries:
            raise DataError(_nothing_in(found, name))
        key = found.key(repr(settings))
        stored = cache.load(key)
        if stored is None:
            with cache.building(key) as temporary:
                skips = _Skips(on_bad, found.skipped)
                cache.save(temporary, *_packed(
                    _decode_all(found, name, settings, skips, temporary, progress)))
            stored = cache.load(key)
    if stored is None:
        raise DataError(f"the images of {name} vanished from {cache.folder()} while being opened; "
                        "run the command again")
    words = stored.words
    skipped = _Skips(on_bad, (Skipped(*each) for each in words["skipped"]))
    return ImageSet(stored.images, stored.arrays.get("labels"), tuple(words["classes"]),
                    stored.arrays["digests"], stored.arrays["test"], tuple(skipped),
                    tuple(words["notes"]), name, words["fingerprint"])


def _packed(built: ImageSet) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays: dict[str, Array] = {"digests": built.digests, "test": built.test}
    if built.labels is not None:
        arrays["labels"] = built.labels
    return arrays, {key: getattr(built, key)
                    for key in ("classes", "skipped", "notes", "fingerprint")}


def _nothing_in(found: Members[Any], name: str) -> str:
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(3))
    bad = "".join(f"; {each.name}: {each.reason}" for each in found.skipped[:3])
    return (f"no images in {name}{f', which holds {kinds} files' if kinds else ''}{bad}. Accepted "
            "are PNG, JPEG, WebP, TIFF, BMP, GIF and NPY files.")


@dataclass(frozen=True)
class _Plan:
    """How every file of a source is decoded.

    `size` is (width, height); `grey` is None for NPY files that are neither grey nor RGB.
    """

    size: Size
    channels: int
    grey: bool | None
    settings: _Settings

    def decode(self, file: File | UnreadableImage) -> tuple[Pixels, int] | UnreadableImage:
        """One image of the planned shape and its digest, or why it cannot be read."""
        if isinstance(file, UnreadableImage):
            return file
        s = self.settings
        try:
            image = read_image(file, grey=self.grey, background=s.background,
                               value_range=s.value_range, max_pixels=s.max_pixels,
                               at_least=3 * max(self.size))
        except UnreadableImage as e:
            return e
        if image.shape[2] != self.channels:
            return UnreadableImage(f"{image.shape[2]} channels, where its header says otherwise")
        image = fit(image, self.size, alpha=s.background == "keep" and self.grey is not None)
        return image, digest(image)


def _decode_all(found: Members[Any], name: str, settings: _Settings, skips: _Skips,
                temporary: Path, progress: Progress | None) -> ImageSet:
    """Decodes every readable file into `temporary`/images.npy, which the result maps."""
    headers = _headers(found, settings, skips)
    plan, notes = _plan(headers, settings, skips)
    names = sorted(headers)
    enough(len(names), skips, name)
    index = {each: i for i, each in enumerate(names)}
    digests = np.zeros(len(names), np.uint64)
    shape = (plan.size[1], plan.size[0], plan.channels)
    with cache.Rows(temporary / "images.npy", len(names), shape) as rows:
        for done, (each, result) in enumerate(in_parallel(plan.decode, found.files(names)), 1):
            if isinstance(result, UnreadableImage):
                skips.skip(each, result.reason)
            else:
                rows.put(index[each], result[0])
                digests[index[each]] = result[1]
            if progress:
                progress(done, len(names))
        kept = rows.finish()
    enough(len(kept), skips, name)
    labels, classes, test = read_folders(names)
    images = np.load(temporary / "images.npy", mmap_mode="r")
    return assemble(images, None if labels is None else labels[kept], classes, digests[kept],
                     test[kept], tuple(sorted(skips)), notes, name)


def _headers(found: Members[Any], settings: _Settings, skips: _Skips) -> dict[str, Header]:
    def work(file: File | UnreadableImage) -> Header | UnreadableImage:
        try:
            return file if isinstance(file, UnreadableImage) else read_header(
                file, max_pixels=settings.max_pixels)
        except UnreadableImage as e:
            return e

    headers: dict[str, Header] = {}
    for name, result in in_parallel(work, found.files(found.names)):
        if isinstance(result, UnreadableImage):
            skips.skip(name, result.reason)
        else:
            headers[name] = result
    return headers


def _plan(headers: dict[str, Header], settings: _Settings,
          skips: _Skips) -> tuple[_Plan, list[str]]:
    """One shape for all files; those whose channels cannot join the others leave `headers`."""
    kinds = Counter(_kind(h) for h in headers.values())
    kind = max(kinds, key=lambda k: (kinds[k], -k), default=0)
    for name in [name for name, h in headers.items() if _kind(h) != kind]:
        skips.skip(name, f"{headers.pop(name).channels} channels, unlike most files here")
    size, notes = choose_size(Counter(h.size for h in headers.values()), settings.image_size)
    if kind:
        return _Plan(size, kind, None, settings), notes
    greys = sum(h.grey for h in headers.values())
    grey, keep = greys == len(headers), settings.background == "keep"
    if 0 < greys < len(headers):
        notes.append(f"{greys} of {len(headers)} images are grey: they became RGB")
    clear = sum(h.alpha for h in headers.values())
    if clear and not keep:
        notes.append(f"{clear} images have transparency: drawn on {settings.background}")
    more = sum(h.more_frames for h in headers.values())
    if more:
        notes.append(f"{more} files hold several frames or pages: the first of each was taken")
    return _Plan(size, (1 if grey else 3) + keep, grey, settings), notes


def _plan_like(header: Header, size: Size, channels: int, settings: _Settings) -> _Plan:
    """The plan by which a file joins images of this size and these channels.

    Raises:
        UnreadableImage: it cannot.
    """
    kind, keep = _kind(header), settings.background == "keep"
    if kind:
        if kind != channels:
            raise UnreadableImage(f"{kind} channels, where the model's images have {channels}")
        return _Plan(size, channels, None, settings)
    if channels not in (1 + keep, 3 + keep):
        raise UnreadableImage(f"the model's images have {channels} channels: only an NPY file of as many can "
                              "stand for one")
    return _Plan(size, channels, channels == 1 + keep, settings)


def _kind(header: Header) -> int:
    """0 for grey and RGB, with or without alpha; otherwise the number of channels."""
    return 0 if header.channels - header.alpha in (1, 3) else header.channels
