"""From what a user names (a folder, an archive, arrays) to images of one shape."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError, nearest
from . import cache
from .cache import Members, Skipped, in_parallel, read_folders
from .reading import (
    BYTES_PER_PIXEL,
    MAX_CHANNELS,
    MAX_PIXELS,
    File,
    Header,
    Pixels,
    Range,
    UnreadableImage,
    check_value_range,
    fit,
    parse_background,
    read_header,
    read_image,
    to_uint8,
)

FEWEST = 16
BUNDLED = ("digits",)
ACCEPTED = ("Accepted are a folder of images, a .zip or .tar of one, an .npy, an .npz and the "
            "bundled name 'digits'.")
_PILLOW_LIMIT = 178_956_970  # above this Pillow refuses by itself
_KEYS = (("train_images", "train_labels", "test_images", "test_labels"),
         ("x_train", "y_train", "x_test", "y_test"),
         ("images", "labels", "", ""), ("x", "y", "", ""))

Progress: TypeAlias = Callable[[int, int], None]
Size: TypeAlias = tuple[int, int]
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class ImageSet:
    """Images as they are trained on, and what was done to get them."""

    images: Pixels                        # (n, H, W, C) uint8, maybe a read-only memory map
    labels: npt.NDArray[np.int64] | None  # (n,); -1 for an image without, where others have
    classes: tuple[str, ...]              # the name of each label; () when none are named
    digests: npt.NDArray[np.uint64]       # (n,) hash of each image's pixels
    test: npt.NDArray[np.bool_]           # (n,) given as test data by the source
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]                # what was chosen and done, to be said on screen
    source: str
    fingerprint: str                      # hash of everything above that training depends on

    def split(self, fraction: float = 0.1) -> tuple[npt.NDArray[np.int64], ...]:
        """Indices of the training, validation and test images, each in ascending order.

        An image is validated on when its digest / 2**64 < `fraction`: copies fall on one side, and
        an image stays on its side as the data grow. When that gives no validation image, those of
        the smallest digest are taken; when it leaves nothing to train on, those of the greatest
        are left. Images given as test data are in neither.

        Raises:
            UsageError: `fraction` is not between 0 and 1.
            DataError: fewer than two different images remain besides the test images.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"the validation fraction must lie between 0 and 1, got {fraction}")
        rest = np.flatnonzero(~self.test)
        digests = self.digests[rest]
        if len(np.unique(digests)) < 2:
            raise DataError(f"{self.source} has {len(np.unique(digests))} different images, test "
                            "images aside; training and validation need two at least")
        held_out = digests < np.uint64(min(int(fraction * 2**64), 2**64 - 1))
        if not held_out.any():
            held_out = digests == digests.min()
        if held_out.all():
            held_out = digests != digests.max()
        return rest[~held_out], rest[held_out], np.flatnonzero(self.test)


@dataclass(frozen=True)
class _Settings:
    """What the pixels depend on besides the files; its repr is part of the cache's key."""

    image_size: int | None
    background: str
    value_range: Range | None
    max_pixels: int

    def check(self) -> None:
        if self.image_size is not None and not 8 <= self.image_size <= 256:
            raise UsageError(f"--image-size must lie between 8 and 256, got {self.image_size}")
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
        return _digits(settings)
    if not path.exists():
        raise DataError(_no_such(path, name))
    if path.suffix.lower() in (".npy", ".npz"):
        return _open_arrays(path, name, settings)
    return _open_files(path, name, settings, on_bad, progress)


def from_arrays(images: npt.ArrayLike, labels: npt.ArrayLike | None = None, *,
                test: npt.ArrayLike | None = None, classes: Sequence[str] = (),
                source: str = "array", image_size: int | None = None,
                value_range: Range | None = None) -> ImageSet:
    """Images held in memory: (n, H, W), (n, H, W, C), or (n, C, H, W) with 1, 3 or 4 channels.

    uint8 is taken as it is, bool becomes 0 and 255, uint16 and floats are scaled by 0..65535 and
    [0, 1] or by `value_range`. `labels` (n,) are integers or names; `test` (n,) marks test images.

    Raises:
        DataError: NaN, values outside their range, another shape, labels of another length, fewer
            than 16 images.
        UsageError: an option out of its range.
    """
    settings = _Settings(image_size, "white", value_range, MAX_PIXELS)
    settings.check()
    return _from_array(to_uint8(_channels_last(images), value_range), labels, test, tuple(classes),
                       source, settings)


def _from_array(pixels: Pixels, labels: npt.ArrayLike | None, test: npt.ArrayLike | None,
                classes: tuple[str, ...], source: str, settings: _Settings) -> ImageSet:
    n, height, width, _ = pixels.shape
    _enough(n, (), source)
    size, notes = _choose_size(Counter({(width, height): n}), settings.image_size)
    if size != (width, height):
        pixels = np.stack([fit(image, size) for image in pixels])
    numbers, names = (None, ()) if labels is None else _numbered(labels, n)
    flags = np.zeros(n, np.bool_) if test is None else np.asarray(test, np.bool_)
    if flags.shape != (n,):
        raise DataError(f"test flags of shape {flags.shape} for {n} images")
    return _assemble(pixels, numbers, names or classes, _digests(pixels), flags, (), notes, source)


def _digits(settings: _Settings) -> ImageSet:
    from sklearn.datasets import load_digits  # seconds to import, and needed by no other source

    data: Any = load_digits()
    bounds = settings.value_range or (0, 16)
    return _from_array(to_uint8(_channels_last(data.images), bounds), data.target, None,
                       tuple("0123456789"), "digits", settings)


def _no_such(path: Path, name: str) -> str:
    known = list(BUNDLED)
    with contextlib.suppress(OSError):
        known += [each.name for each in path.parent.iterdir()]
    return f"no such folder or file: {name!r}{nearest(path.name, known) or '.'} {ACCEPTED}"


def _open_arrays(path: Path, name: str, settings: _Settings) -> ImageSet:
    try:
        opened = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(opened, np.ndarray):
            parts: list[Array | None] = [opened, None, None, None]
        else:
            with opened:
                parts = [opened[key] if key else None for key in _keys_of(opened.files, name)]
    except DataError:
        raise
    except Exception as e:  # NumPy raises many kinds on a broken or pickled file
        raise DataError(f"{name} cannot be read: {str(e) or type(e).__name__}") from e
    halves = [to_uint8(_channels_last(part), settings.value_range)
              for part in (parts[0], parts[2]) if part is not None]
    if len({half.shape[1:] for half in halves}) > 1:
        raise DataError(f"{name}: training images are {halves[0].shape[1:]} and test images "
                        f"{halves[1].shape[1:]}; they must agree")
    n = len(halves[0])
    for kind, half, labels in zip(("training", "test"), halves, parts[1::2], strict=False):
        if labels is not None and len(labels) != len(half):
            raise DataError(f"{name}: {len(labels)} {kind} labels for {len(half)} images")
    pixels = halves[0] if len(halves) == 1 else np.concatenate(halves)
    labels = [part for part in parts[1::2] if part is not None]
    joined = np.concatenate(labels) if len(labels) == len(halves) else None
    return _from_array(pixels, joined, np.arange(len(pixels)) >= n, (), name, settings)


def _keys_of(present: Sequence[str], name: str) -> list[str]:
    """The keys of images, labels, test images and test labels in an .npz; "" for a missing one."""
    lower = {key.lower(): key for key in present}
    for keys in _KEYS:
        if keys[0] in lower:
            return [lower.get(key, "") for key in keys]
    if len(present) == 1:
        return [present[0], "", "", ""]
    raise DataError(f"{name} has the keys {', '.join(present) or 'none'}; accepted are images and "
                    "labels, x and y, train_images, train_labels, test_images and test_labels, or "
                    "x_train, y_train, x_test and y_test")


def _channels_last(images: npt.ArrayLike) -> Array:
    """The images as (n, H, W, C), or a DataError that says which shapes are accepted."""
    try:
        array = np.asarray(images)
    except ValueError as e:
        raise DataError("the images differ in shape: give a folder of files, or resize them to "
                        "one shape first") from e
    shape = array.shape
    if array.ndim == 3 and shape[2] not in (3, 4):
        array = array[..., None]
    elif array.ndim == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or 0 in array.shape or array.shape[3] > MAX_CHANNELS:
        side = math.isqrt(shape[1]) if array.ndim == 2 else 0
        square = side > 1 and side**2 == shape[1]
        hint = f"; reshape it to ({shape[0]}, {side}, {side})" if square else ""
        raise DataError(f"an array of shape {shape} is not a set of images: accepted are "
                        f"(n, H, W), (n, H, W, C) with {MAX_CHANNELS} channels at most, and "
                        f"(n, C, H, W) with 1, 3 or 4{hint}")
    return array


def _numbered(labels: npt.ArrayLike, n: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Labels as (n,) int64, and the name of each when they were given as names."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) != n:
        raise DataError(f"{len(array) if array.ndim else 0} labels, of shape {array.shape}, for {n}"
                        " images: each needs one label")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind in "UO":
        names, numbers = np.unique(array.astype(np.str_), return_inverse=True)
        return numbers.astype(np.int64), tuple(names.tolist())
    with np.errstate(invalid="ignore"):
        whole = array.dtype.kind in "biuf" and np.array_equal(array, array.astype(np.int64))
    if not whole:
        raise DataError(f"labels of type {array.dtype} are neither whole numbers nor names")
    return array.astype(np.int64), ()


def _open_files(path: Path, name: str, settings: _Settings, on_bad: str,
                progress: Progress | None) -> ImageSet:
    with cache.members(path, BYTES_PER_PIXEL * settings.max_pixels) as found:
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


def _enough(n: int, skipped: Sequence[Skipped], source: str) -> None:
    if n >= FEWEST:
        return
    bad = f", {len(skipped)} not" if skipped else ""
    why = "".join(f"\n  {each.name}: {each.reason}" for each in skipped[:3])
    raise DataError(f"{source} has {n} readable image{'s' if n != 1 else ''}{bad}; at least "
                    f"{FEWEST} are needed. Add images{' or repair' if skipped else ''}.{why}")


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
        return image, _digest(image)


def _decode_all(found: Members[Any], name: str, settings: _Settings, skips: _Skips,
                temporary: Path, progress: Progress | None) -> ImageSet:
    """Decodes every readable file into `temporary`/images.npy, which the result maps."""
    headers = _headers(found, settings, skips)
    plan, notes = _plan(headers, settings, skips)
    names = sorted(headers)
    _enough(len(names), skips, name)
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
    _enough(len(kept), skips, name)
    labels, classes, test = read_folders(names)
    images = np.load(temporary / "images.npy", mmap_mode="r")
    return _assemble(images, None if labels is None else labels[kept], classes, digests[kept],
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
    size, notes = _choose_size(Counter(h.size for h in headers.values()), settings.image_size)
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


def _kind(header: Header) -> int:
    """0 for grey and RGB, with or without alpha; otherwise the number of channels."""
    return 0 if header.channels - header.alpha in (1, 3) else header.channels


def _choose_size(sizes: Mapping[Size, int], image_size: int | None) -> tuple[Size, list[str]]:
    """The one size, (width, height), that images get, and what to say of it."""
    if not sizes:
        return (0, 0), []
    (width, height), _ = max(sizes.items(), key=lambda item: (item[1], item[0]))
    as_they_are = len(sizes) == 1 and min(width, height) >= 8 and max(width, height) <= 64
    if image_size is None and as_they_are:
        return (width, height), []
    side = image_size or min(max(2 ** round(math.log2(min(width, height))), 8), 64)
    if set(sizes) == {(side, side)}:
        return (side, side), []
    all_of = "all images are" if len(sizes) == 1 else f"of {len(sizes)} sizes the commonest is"
    cut = ", the centre cut out" if any(w != h for w, h in sizes) else ""
    notes = [f"resized to {side}×{side}{cut}: {all_of} {width}×{height}"]
    small = sum(count for size, count in sizes.items() if min(size) < side)
    if small:
        notes.append(f"{small} images are smaller than {side}×{side} and were enlarged")
    return (side, side), notes


def _digest(image: Pixels) -> int:
    return int.from_bytes(
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "big")


def _digests(images: Pixels) -> npt.NDArray[np.uint64]:
    return np.fromiter((_digest(image) for image in images), np.uint64, len(images))


def _assemble(images: Pixels, labels: npt.NDArray[np.int64] | None, classes: tuple[str, ...],
              digests: npt.NDArray[np.uint64], test: npt.NDArray[np.bool_],
              skipped: tuple[Skipped, ...], notes: Sequence[str], source: str) -> ImageSet:
    """The set with everything that can be said of it."""
    said = [*notes]
    if skipped:
        said.append(f"{len(skipped)} files could not be read and were left out")
    if labels is not None and (labels < 0).any() and classes:
        said.append(f"{(labels < 0).sum()} images lie in no class's folder and have no label")
    if test.any():
        said.append(f"{test.sum()} images are given as test data and are not trained on")
    copies = len(digests) - len(np.unique(digests))
    if copies:
        said.append(f"{copies} images are copies of others; copies are split together")
    leaked = int(np.isin(digests[test], digests[~test]).sum())
    if leaked:
        said.append(f"{leaked} test images also occur among the training images")
    brightest = int(images.max())
    if brightest < 128:
        said.append(f"the brightest value is {brightest} of 255: if the files use less than their "
                    "type's range, state it with --value-range LO,HI")
    whole = hashlib.blake2b(repr((images.shape, classes)).encode(), digest_size=16)
    for part in (digests, test, labels):
        whole.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
    return ImageSet(images, labels, classes, digests, test, skipped, tuple(said), source,
                    whole.hexdigest())
