"""The set of images that all sources become, and how arrays (.npy, .npz, in memory) become one."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from .members import Skipped
from .samples import (
    MAX_CHANNELS,
    Pixels,
    Range,
    as_array,
    check_image_size,
    check_value_range,
    choose_size,
    digest,
    finish,
    fit,
    to_uint8,
)

FEWEST = 16
_KEYS = (("train_images", "train_labels", "test_images", "test_labels"),
         ("x_train", "y_train", "x_test", "y_test"),
         ("images", "labels", "", ""), ("x", "y", "", ""))

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, int, int]


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
    names: tuple[str, ...]                # of each image: a file's in its folder or archive, an array's row

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
    check_image_size(image_size)
    check_value_range(value_range)
    return _from_array(to_uint8(_channels_last(images), value_range), labels, test, tuple(classes),
                       source, image_size)


def _from_array(pixels: Pixels, labels: npt.ArrayLike | None, test: npt.ArrayLike | None,
                classes: tuple[str, ...], source: str, image_size: int | None,
                like: Shape | None = None) -> ImageSet:
    n, height, width, _ = pixels.shape
    enough(n, (), source, FEWEST if like is None else 1)
    if like is None:
        size, notes = choose_size(Counter({(width, height): n}), image_size)
    else:
        pixels, size, notes = _joined(pixels, like[0], source), (like[2], like[1]), []
    if size != (width, height):
        pixels = np.stack([fit(image, size) for image in pixels])
    numbers, names = (None, ()) if labels is None else _numbered(labels, n)
    flags = np.zeros(n, np.bool_) if test is None else np.asarray(test, np.bool_)
    if flags.shape != (n,):
        raise DataError(f"test flags of shape {flags.shape} for {n} images")
    return assemble(pixels, numbers, names or classes, _digests(pixels), flags, (), notes, source,
                    tuple(map(str, range(n))))


def _joined(pixels: Pixels, channels: int, source: str) -> Pixels:
    """Images (n, H, W, C) with a model's channels: grey as RGB, or colour as its brightness, where it needs them.

    Raises:
        DataError: other channels, which stand for no others.
    """
    if pixels.shape[3] == channels:
        return pixels
    if pixels.shape[3] not in (1, 3) or channels not in (1, 3):
        raise DataError(f"{source}: {pixels.shape[3]} channels, where the model's images have {channels}")
    return np.stack([finish(image, None, channels == 1, (255, 255, 255)) for image in pixels])


def open_digits(image_size: int | None, value_range: Range | None, like: Shape | None = None) -> ImageSet:
    """The digits that come with scikit-learn, 8×8 and grey."""
    from sklearn.datasets import load_digits  # seconds to import, and needed by no other source

    data: Any = load_digits()
    bounds = value_range or (0.0, 16.0)
    return _from_array(to_uint8(_channels_last(data.images), bounds), data.target, None,
                       tuple("0123456789"), "digits", image_size, like)


def open_arrays(path: Path, name: str, image_size: int | None, value_range: Range | None,
                like: Shape | None = None) -> ImageSet:
    """The images of an .npy or .npz, and the labels and test images that an .npz may hold."""
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
    halves = [to_uint8(_channels_last(part), value_range)
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
    return _from_array(pixels, joined, np.arange(len(pixels)) >= n, (), name, image_size, like)


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
    array = as_array(images)
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


def enough(n: int, skipped: Sequence[Skipped], source: str, least: int = FEWEST) -> None:
    """Raises DataError unless there are images enough: by default, to train on."""
    if n >= least:
        return
    bad = f", {len(skipped)} not" if skipped else ""
    why = "".join(f"\n  {each.name}: {each.reason}" for each in skipped[:3])
    raise DataError(f"{source} has {n} readable image{'s' if n != 1 else ''}{bad}; at least "
                    f"{least} {'is' if least == 1 else 'are'} needed. Add images{' or repair' if skipped else ''}.{why}")


def _digests(images: Pixels) -> npt.NDArray[np.uint64]:
    return np.fromiter((digest(image) for image in images), np.uint64, len(images))


def assemble(images: Pixels, labels: npt.NDArray[np.int64] | None, classes: tuple[str, ...],
              digests: npt.NDArray[np.uint64], test: npt.NDArray[np.bool_],
              skipped: tuple[Skipped, ...], notes: Sequence[str], source: str,
              names: tuple[str, ...]) -> ImageSet:
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
                    whole.hexdigest(), names)
