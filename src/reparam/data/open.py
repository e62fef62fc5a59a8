"""From what a user names (a folder, an archive, arrays) to images of one shape."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import DataError, UsageError, nearest
from ..text import counted
from . import cache
from .archives import Members, Skipped, check_regular, is_archive, members
from .arrays import open_arrays, open_digits, open_shapes
from .decode import BYTES_PER_PIXEL, MAX_PIXELS, File, Header, Named, read_header, read_image
from .folders import Said, read_folders
from .formats import accepted, is_read
from .imageset import FEWEST, Array, ImageSet, Shape, assemble, enough, in_colour
from .labels import Labels
from .parallel import in_parallel
from .pixels import (
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

BUNDLED = {"digits": open_digits, "shapes": open_shapes}
ACCEPTED = ("Accepted are a folder of images, a .zip or .tar of one, an .npy, an .npz and the "
            "bundled names 'digits' and 'shapes'.")
_PILLOW_LIMIT = 178_956_970  # above this Pillow refuses by itself

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class _Settings:
    """What the pixels depend on besides the files; its repr is part of the cache's key."""

    image_size: int | None
    background: str
    value_range: Range | None
    max_pixels: int
    like: Shape | None = None

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
                max_pixels: int = MAX_PIXELS, like: Shape | None = None,
                progress: Progress | None = None) -> ImageSet:
    """Opens what a user calls data: a folder of images, a zip or tar, .npy, .npz, or a bundled name.

    Files are decoded once, into a memory map in the cache; a second call decodes nothing.

    Args:
        image_size: side of the square that images are resized and cropped to, 8 to 256 pixels.
        background: what transparency is drawn on, or "keep" for an alpha channel.
        value_range: the samples that become 0 and 255, in place of the range of their type.
        on_bad: leave out files that cannot be read, or stop at the first.
        max_pixels: height times width of one image at most.
        like: (C, H, W) of a model's images, which these join; see `read_like`. One is enough then.
        progress: called with how many images are decoded, and how many there are.

    Raises:
        DataError: no such source, fewer than 16 readable images, values outside their range.
        UsageError: an option out of its range.
        ReparamError: the cache cannot be written.
    """
    settings = _Settings(image_size, _drawn_on(background, like), value_range, max_pixels, like)
    settings.check()
    if on_bad not in ("skip", "error"):
        raise UsageError(f"--on-bad must be skip or error, got {on_bad!r}")
    path, name = Path(source).expanduser(), str(source)
    if name.startswith("hf:") or path.suffix.lower() == ".parquet":
        raise DataError(f"{name!r}: data sets on a hub and .parquet files are not supported by "
                        f"this version. {ACCEPTED}")
    if name in BUNDLED and not path.exists():
        return BUNDLED[name](image_size, value_range, like)
    if not path.exists():
        raise DataError(_no_such(path, name))
    check_regular(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return open_arrays(path, name, image_size, value_range, like)
    return _open_files(path, name, settings, on_bad, progress)


def read_like(sources: Sequence[str | Path], shape: Shape, *, background: str = "white",
              value_range: Range | None = None, on_bad: Literal["skip", "error"] = "skip",
              max_pixels: int = MAX_PIXELS, progress: Progress | None = None) -> ImageSet:
    """One source as for `open_images`, or image files, as a model's training images were made.

    Any number of images will do. A grey model reads colour as its brightness, a colour model reads
    grey as RGB, and other sizes are resized and cropped. Arrays of channels other than grey and RGB
    must have as many as the model. The images of a list of files are in its order, under the names
    in it, and have no labels. An .npy holds one image when its shape can be that of one.

    Args:
        shape: (C, H, W) of the model's images.
        background: what transparency is drawn on. With "keep" a model of 2 or 4 channels reads it as
            its last; for one of 1 or 3, which was made of arrays without it, it is drawn on white.
        value_range: the samples that become 0 and 255, in place of the range of their type.
        on_bad: leave out files that cannot be read, or stop at the first; `skipped` lists them.

    Raises:
        DataError: a file is missing, or nothing can be read; the message says why.
        UsageError: no such background, or an empty value range.
    """
    if len(sources) == 1 and _is_set(str(sources[0]), shape[0]):
        return open_images(sources[0], background=background, value_range=value_range, on_bad=on_bad,
                           max_pixels=max_pixels, like=shape, progress=progress)
    settings = _Settings(None, _drawn_on(background, shape), value_range, max_pixels, shape)
    settings.check()
    files = [(str(path), _present(path)) for path in sources]
    source = files[0][0] if len(files) == 1 else f"{len(files)} files"
    skips, kept = _Skips(on_bad), list[tuple[str, Pixels, int]]()
    plan = _Joining(shape, settings)
    for done, (name, result) in enumerate(in_parallel(plan.decode, files), 1):
        if isinstance(result, UnreadableImage):
            skips.skip(name, result.reason)
        else:
            kept.append((name, *result))
        if progress:
            progress(done, len(files))
    if len(files) == 1 and skips:
        raise UnreadableImage(skips[0].reason, source)
    enough(len(kept), skips, source, 1)
    names, images, digests = zip(*kept, strict=True)
    none = np.zeros(len(names), np.bool_)
    return assemble(np.stack(images), np.array(digests, np.uint64), Labels(), none, none, tuple(skips),
                    in_colour(len(plan.coloured)), source, names, joining=True)


def read_photo(data: bytes, shape: Shape, *, background: str = "white", value_range: Range | None = None,
               max_pixels: int = MAX_PIXELS) -> Pixels:
    """The bytes of one image file as an image (H, W, C), uint8, of a model's shape (C, H, W), as by `read_like`.

    Raises:
        UnreadableImage: it is no image file, or one that does not fit.
    """
    settings = _Settings(None, _drawn_on(background, shape), value_range, max_pixels, shape)
    result = _Joining(shape, settings).decode(Named("the file", data))
    if isinstance(result, UnreadableImage):
        raise UnreadableImage(result.reason, "the file")
    return np.array(result[0])  # of its own, which Pillow's need not be


def _drawn_on(background: str, like: Shape | None) -> str:
    """The background of images that join a model's: arrays without transparency made one of 1 or 3 channels."""
    return "white" if background == "keep" and like is not None and like[0] in (1, 3) else background


def _is_set(source: str, channels: int) -> bool:
    """Whether a source is opened as a set of images, not read as one."""
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".npy" and path.is_file():
        with contextlib.suppress(Exception):  # NumPy raises many kinds on a broken file, and reading it will tell
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            return len(shape) > 3 or (len(shape) == 3 and channels in (1, 3) and shape[2] not in (1, 3, 4))
    if is_read(suffix):
        return path.is_dir()
    return suffix == ".npz" or not path.is_file() or is_archive(path)


def _no_such(path: Path, name: str) -> str:
    return f"no such folder or file: {name!r}{nearest(path.name, [*BUNDLED, *_beside(path)])}. {ACCEPTED}"


def _beside(path: Path) -> list[str]:
    """The names in the folder where `path` would lie."""
    with contextlib.suppress(OSError):
        return [each.name for each in path.parent.iterdir()]
    return []


def _present(path: str | Path) -> Path | UnreadableImage:
    file = Path(path).expanduser()
    if not file.exists():
        raise DataError(f"no such file: {str(path)!r}{nearest(file.name, _beside(file))}")
    if file.is_dir():
        raise DataError(f"{str(path)!r} is a folder: name it alone, or image files")
    return file if file.is_file() else UnreadableImage("not a regular file")  # a pipe would be waited on for ever


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
    words, arrays = stored.words, stored.arrays
    skipped = _Skips(on_bad, (Skipped(*each) for each in words["skipped"]))
    return ImageSet(stored.images, arrays.get("labels"), tuple(words["classes"]), arrays["digests"], arrays["groups"],
                    arrays["validation"], arrays["test"], tuple(skipped), tuple(words["notes"]), name, words["fingerprint"],
                    tuple(words["names"]))


def _packed(built: ImageSet) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays: dict[str, Array] = {key: getattr(built, key) for key in cache.ARRAYS}
    if built.labels is not None:
        arrays["labels"] = built.labels
    return arrays, {key: getattr(built, key) for key in cache.WORDS}


def _nothing_in(found: Members[Any], name: str) -> str:
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(3))
    bad = "".join(f"; {count} × {reason}" for reason, count in Counter(s.reason for s in found.skipped).most_common(3))
    said = "".join(f"; {note}" for note in found.notes)
    return (f"no images in {name}{f', which holds {kinds} files' if kinds else ''}{bad}{said}. Accepted "
            f"are {accepted()} files.")


@dataclass(frozen=True)
class _DecodePlan:
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


@dataclass(frozen=True)
class _Joining:
    """How each file joins the images of a model, whatever it holds."""

    shape: Shape
    settings: _Settings
    coloured: list[bool] = field(default_factory=list[bool])
    """One for each file in colour that a grey model has read so far."""

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> Size:
        return self.shape[2], self.shape[1]

    def decode(self, file: File | UnreadableImage) -> tuple[Pixels, int] | UnreadableImage:
        """One image of the model's shape and its digest, or why it cannot be read."""
        if isinstance(file, UnreadableImage):
            return file
        try:
            header = read_header(file, max_pixels=self.settings.max_pixels)
            if self.channels == 1 and not header.grey:
                self.coloured.append(True)
            return _plan_like(header, self.size, self.channels, self.settings).decode(file)
        except UnreadableImage as e:
            return e


def _decode_all(found: Members[Any], name: str, settings: _Settings, skips: _Skips,
                temporary: Path, progress: Progress | None) -> ImageSet:
    """Decodes every readable file into `temporary`/images.npy, which the result maps."""
    least = FEWEST if settings.like is None else 1
    if settings.like is None:
        headers = _headers(found, settings, skips)
        plan, notes = _plan(headers, settings, skips)
        names = sorted(headers)
    else:
        plan, notes, names = _Joining(settings.like, settings), list[str](), found.names
    said = read_folders(names)
    enough(len(names), skips, name, least)
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
    enough(len(kept), skips, name, least)
    if isinstance(plan, _Joining):
        notes += in_colour(len(plan.coloured))
    images = np.load(temporary / "images.npy", mmap_mode="r")
    return assemble(images, digests[kept], _labels_of(said, kept), said.validation[kept], said.test[kept],
                    tuple(sorted(skips)), notes + found.notes, name, tuple(names[i] for i in kept),
                    joining=settings.like is not None)


def _labels_of(said: Said, kept: Array) -> Labels:
    return Labels(None if said.labels is None else said.labels[kept], said.classes)


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
          skips: _Skips) -> tuple[_DecodePlan, list[str]]:
    """One shape for all files; those whose channels cannot join the others leave `headers`."""
    kinds = Counter(_kind(h) for h in headers.values())
    kind = max(kinds, key=lambda k: (kinds[k], -k), default=0)
    for name in [name for name, h in headers.items() if _kind(h) != kind]:
        skips.skip(name, f"{headers.pop(name).channels} channels, unlike most files here")
    size, notes = choose_size(Counter(h.size for h in headers.values()), settings.image_size)
    if kind:
        return _DecodePlan(size, kind, None, settings), notes
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
    return _DecodePlan(size, (1 if grey else 3) + keep, grey, settings), notes


def _plan_like(header: Header, size: Size, channels: int, settings: _Settings) -> _DecodePlan:
    """The plan by which a file joins images of this size and these channels.

    Raises:
        UnreadableImage: it cannot.
    """
    kind, keep = _kind(header), settings.background == "keep"
    if kind:
        if kind != channels:
            raise UnreadableImage(f"{kind} channels, where the model's images have {channels}")
        return _DecodePlan(size, channels, None, settings)
    if channels not in (1 + keep, 3 + keep):
        raise UnreadableImage(f"the model's images have {channels} channels: only an NPY file of as many can "
                              "stand for one")
    return _DecodePlan(size, channels, channels == 1 + keep, settings)


def _kind(header: Header) -> int:
    """0 for grey and RGB, with or without alpha; otherwise the number of channels."""
    return 0 if header.channels - header.alpha in (1, 3) else header.channels
