"""How arrays (.npy, .npz, in memory) become a set of images."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from ..errors import DataError
from . import shapes
from .imageset import FEWEST, Array, ImageSet, Shape, assemble, enough, in_colour
from .labels import Labels, numbered
from .pixels import (
    LARGEST,
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

_PARTS = ("training", "validation", "test")


class _Keys(NamedTuple):
    """How an .npz calls its images and labels, in the order of _PARTS."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    value_range: Range | None = None  # of the images, where the data set is known by its keys
    factors: tuple[str, ...] = ()     # names of the labels' columns, likewise


_SPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")  # as in the file's metadata, which is pickled
_KEYS = (_Keys(("train_images", "val_images", "test_images"), ("train_labels", "val_labels", "test_labels")),
         _Keys(("x_train", "x_val", "x_test"), ("y_train", "y_val", "y_test")),
         _Keys(("images", "val_images", "test_images"), ("labels", "val_labels", "test_labels")),
         _Keys(("x", "x_val", "x_test"), ("y", "y_val", "y_test")),
         _Keys(("imgs", "", ""), ("latents_classes", "", ""), (0, 1), _SPRITES),  # dSprites
         _Keys(("imgs", "", ""), ("latents_values", "", ""), (0, 1), _SPRITES))
_FACTOR_NAMES = ("factor_names", "label_names", "latents_names")
"""Keys of an .npz that names the columns of its labels."""


def from_arrays(images: npt.ArrayLike, labels: npt.ArrayLike | None = None, *,
                test: npt.ArrayLike | None = None, validation: npt.ArrayLike | None = None, classes: Sequence[str] = (),
                factors: Sequence[str] = (), source: str = "array", image_size: int | None = None,
                value_range: Range | None = None, largest: int = LARGEST, like: Shape | None = None) -> ImageSet:
    """Images held in memory: (n, H, W), (n, H, W, C), or (n, C, H, W) with 1, 3 or 4 channels.

    Values are read by their type, or by `value_range`, as `pixels_of` says. `labels` (n,) are whole
    numbers or names, -1 for none; with the names of `classes` they count from 0. Labels (n, k) are
    factors of each image, by the names in `factors` if there are k. `validation` (n,) marks
    the images to hold out, which are otherwise chosen, and `test` (n,) those never trained on.
    With `like`, a model's (C, H, W), any number of images is made to fit it.

    Raises:
        DataError: NaN, values outside their range, another shape, labels of another length, fewer
            than 16 images.
        UsageError: an option out of its range.
    """
    check_image_size(image_size)
    check_image_size(largest, "--largest")
    check_value_range(value_range)
    pixels = to_uint8(_channels_last(images), value_range)
    found = Labels() if labels is None else numbered(labels, len(pixels), tuple(classes), tuple(factors))
    return _from_array(pixels, found, _flags(validation, len(pixels), "validation"), _flags(test, len(pixels), "test"),
                       source, image_size, like, largest)


def _flags(given: npt.ArrayLike | None, n: int, kind: str) -> npt.NDArray[np.bool_]:
    flags = np.zeros(n, np.bool_) if given is None else np.asarray(given, np.bool_)
    if flags.shape != (n,):
        raise DataError(f"{kind} flags of shape {flags.shape} for {n} images")
    return flags


def _from_array(pixels: Pixels, labels: Labels, validation: npt.NDArray[np.bool_], test: npt.NDArray[np.bool_],
                source: str, image_size: int | None, like: Shape | None = None, largest: int = LARGEST) -> ImageSet:
    n, height, width, _ = pixels.shape
    enough(n, (), source, FEWEST if like is None else 1)
    if like is None:
        size, notes = choose_size(Counter({(width, height): n}), image_size, largest)
    else:
        notes = in_colour(n) if like[0] == 1 < pixels.shape[3] else []
        pixels, size = _joined(pixels, like[0], source), (like[2], like[1])
    if size != (width, height):
        pixels = np.stack([fit(image, size) for image in pixels])
    digests = np.fromiter((digest(image) for image in pixels), np.uint64, n)
    return assemble(pixels, digests, labels, validation & ~test, test, (), notes, source, tuple(map(str, range(n))),
                    joining=like is not None)


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
    pixels = to_uint8(_channels_last(data.images), value_range or (0.0, 16.0))
    none = np.zeros(len(pixels), np.bool_)
    labels = numbered(data.target, len(pixels), tuple("0123456789"))
    return _from_array(pixels, labels, none, none, "digits", image_size, like)


def open_shapes(image_size: int | None, value_range: Range | None, like: Shape | None = None) -> ImageSet:
    """Fish in water, 32×32 and in colour, drawn from known factors; see `shapes`."""
    factors = shapes.draw_factors()
    pixels = to_uint8(shapes.draw(factors), value_range)
    none = np.zeros(len(pixels), np.bool_)
    labels = replace(numbered(factors["kind"], len(pixels)), factors=factors)
    made = _from_array(pixels, labels, none, none, "shapes", image_size, like)
    _, h, w, c = made.images.shape

    def redraw(others: shapes.Factors) -> Pixels:
        return from_arrays(shapes.draw(others), value_range=value_range, like=(c, h, w)).images

    return replace(made, redraw=redraw)


def open_arrays(path: Path, name: str, image_size: int | None, value_range: Range | None, like: Shape | None = None,
                largest: int = LARGEST) -> ImageSet:
    """The images of an .npy or .npz, and the labels, validation and test images that an .npz may hold."""
    factors: tuple[str, ...] = ()
    try:
        opened = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(opened, np.ndarray):
            images, labels = [opened, None, None], [None, None, None]
        else:
            with opened:
                keys = _keys_of(opened.files, name)
                _check_memory(path, [key for key in (*keys.images, *keys.labels) if key], name)
                images, labels = ([opened[key] if key else None for key in part] for part in (keys.images, keys.labels))
                value_range = value_range or keys.value_range
                named = next((key for key in opened.files if key.lower() in _FACTOR_NAMES), None)
                factors = keys.factors if named is None else tuple(map(str, opened[named].ravel()))
    except DataError:
        raise
    except Exception as e:  # NumPy raises many kinds on a broken or pickled file
        raise DataError(f"{name} cannot be read: {str(e) or type(e).__name__}") from e
    parts = [None if part is None else to_uint8(_channels_last(part), value_range) for part in images]
    _check_parts(parts, labels, name)
    kinds = np.concatenate([np.full(len(part), kind) for kind, part in enumerate(parts) if part is not None])
    there = [part for part in parts if part is not None]
    pixels = there[0] if len(there) == 1 else np.concatenate(there)
    given = _joined_labels(parts, labels)
    found = Labels() if given is None else numbered(given, len(pixels), factors=factors)
    return _from_array(pixels, found, kinds == 1, kinds == 2, name, image_size, like, largest)


def _check_parts(parts: Sequence[Pixels | None], labels: Sequence[Array | None], name: str) -> None:
    shapes = {part.shape[1:]: kind for kind, part in zip(_PARTS, parts, strict=True) if part is not None}
    if len(shapes) > 1:
        found = " and ".join(f"{kind} images are {shape}" for shape, kind in shapes.items())
        raise DataError(f"{name}: {found}; they must agree")
    for kind, part, given in zip(_PARTS, parts, labels, strict=True):
        if part is not None and given is not None and len(given) != len(part):
            raise DataError(f"{name}: {len(given)} {kind} labels for {len(part)} images")


def _joined_labels(parts: Sequence[Pixels | None], labels: Sequence[Array | None]) -> Array | None:
    """The labels of all parts; those of a part without any are -1, unless labels are words or of columns."""
    pairs = [(part, given) for part, given in zip(parts, labels, strict=True) if part is not None]
    known = [given for _, given in pairs if given is not None]
    if not known or len({given.shape[1:] for given in known}) > 1:
        return None
    countable = known[0].ndim == 1 or known[0].shape[1:] == (1,)
    if len(known) < len(pairs) and not (countable and all(given.dtype.kind in "iu" for given in known)):
        return None
    return np.concatenate([np.full((len(part), *known[0].shape[1:]), -1) if given is None else given
                           for part, given in pairs])


def _check_memory(path: Path, keys: Sequence[str], name: str) -> None:
    """Refuses an .npz, which may be packed a thousandfold, that the memory of this machine cannot hold."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    needed = sum(sizes.get(key, 0) for key in keys)
    memory = psutil.virtual_memory().total
    if needed > memory:
        raise DataError(f"{name} unpacks to {needed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of memory: "
                        "save the images as .npy, which is read in place")


def _keys_of(present: Sequence[str], name: str) -> _Keys:
    """The keys of images and labels in an .npz; "" for a missing one."""
    lower = {key.lower(): key for key in present}
    found = [keys for keys in _KEYS if keys.images[0] in lower]
    if found:
        keys = next((k for k in found if k.images == found[0].images and k.labels[0] in lower), found[0])
        images, labels = (tuple(lower.get(key, "") for key in part) for part in keys[:2])
        return keys._replace(images=images, labels=labels)
    if len(present) == 1:
        return _Keys((present[0], "", ""), ("", "", ""))
    raise DataError(f"{name} has the keys {', '.join(present) or 'none'}; accepted are images and "
                    "labels, x and y, train_images and train_labels, or x_train and y_train, the latter two with "
                    "val and test in place of train too")


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
