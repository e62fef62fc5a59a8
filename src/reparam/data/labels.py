"""Labels: one value for each image becomes a class, from 0 to k − 1; several become a table of factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..text import counted
from .pixels import as_array

_FEW = 100  # so many classes may well have one image each
_SHOWN = 6  # names of factors in a note

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Labels:
    """Classes of n images."""

    numbers: npt.NDArray[np.int64] | None = None  # (n,), 0 to k − 1; −1 for an image without a class
    classes: tuple[str, ...] = ()                 # (k,), their names
    note: str = ""                                # what was done to get them
    given: npt.NDArray[np.int64] | None = None    # whole numbers as they were given, without names
    factors: dict[str, Array] | None = None       # (n,) each: numbers or words, of labels of several columns


def numbered(labels: npt.ArrayLike, n: int, classes: tuple[str, ...] = (), factors: tuple[str, ...] = ()) -> Labels:
    """The classes that labels (n,) or (n, 1) name, by whole numbers or by words; −1 stands for none.

    With the names of `classes`, whole numbers count in them from 0. Labels that differ for most images are no classes.
    Labels (n, k) with a single 1 in each row are classes too (one-hot). Other labels of several columns, and structured
    arrays, say several things of each image: they are kept as factors, by the names in `factors` where there are k.

    Raises:
        DataError: labels of another length, neither numbers nor words, or beyond the names.
    """
    array = as_array(labels)
    if array.dtype.names is not None and len(array.dtype.names) > 1:
        return _of_columns([array[name] for name in array.dtype.names], n, array.dtype.names)
    array = array[array.dtype.names[0]] if array.dtype.names else array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != n or 0 in array.shape[1:]:
        raise DataError(f"{len(array) if array.ndim else 0} labels, of shape {array.shape}, for {n}"
                        " images: each needs one label")
    if array.ndim == 2:
        one_hot = array.dtype.kind in "biuf" and ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()
        return _one_hot(array, classes) if one_hot else _of_columns(list(array.T), n, factors)
    array = _words(array)
    if array.dtype.kind == "U":
        return _named(array, n)
    with np.errstate(invalid="ignore"):
        whole = array.dtype.kind in "biuf" and np.array_equal(array, array.astype(np.int64))
    if not whole:
        raise DataError(f"labels of type {array.dtype} are neither whole numbers nor names")
    return _counted(array.astype(np.int64), n, classes)


def _one_hot(array: Array, classes: tuple[str, ...]) -> Labels:
    k = array.shape[1]
    names = classes or tuple(map(str, range(k)))
    return Labels(array.argmax(1), names, f"labels of {k} columns with a single 1 in each row: taken for {k} classes")


def _of_columns(columns: list[Array], n: int, names: tuple[str, ...]) -> Labels:
    k = len(columns)
    for column in columns:
        if column.shape != (n,):
            raise DataError(f"a column of labels has the shape {column.shape} for {n} images: each needs one value")
        if column.dtype.kind not in "biufUSO":
            raise DataError(f"labels of type {column.dtype} are neither numbers nor names")
    names = names if len(set(names)) == k else tuple(f"factor {i}" for i in range(k))
    shown = ", ".join(names[:_SHOWN]) + ", …" * (k > _SHOWN)
    return Labels(note=f"labels of {k} columns ({shown}) say several things of each image and are no classes: training "
                       "leaves them aside, evaluate scores latents against them as factors",
                  factors=dict(zip(names, map(_words, columns), strict=True)))


def telling(columns: dict[str, Array]) -> dict[str, Array]:
    """Those of some columns (n,) that tell something of each image: no value is missing, not all are the same, and whole
    numbers or words are not the images' names."""
    found: dict[str, Array] = {}
    for name, column in columns.items():
        known = column.dtype.kind in "biufU" and not (column.dtype.kind == "f" and np.isnan(column).any())
        different = len(np.unique(column)) if known else 0
        if different > 1 and (column.dtype.kind == "f" or not _are_identifiers(different, len(column))):
            found[name] = column
    return found


def about_factors(names: Sequence[str]) -> str:
    """What to note of columns that are kept beside labels."""
    shown = ", ".join(names[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
    return (f"{counted(len(names), 'more column')} ({shown}) " + ("says" if len(names) == 1 else "say")
            + " something of each image: training leaves that aside, evaluate scores latents against it as factors")


def _words(column: Array) -> Array:
    """The column, with bytes and objects as text."""
    if column.dtype.kind == "S":
        return np.char.decode(column, "utf-8", "backslashreplace")
    return column.astype(np.str_) if column.dtype.kind == "O" else column


def _named(names: npt.NDArray[np.str_], n: int) -> Labels:
    classes, numbers = np.unique(names, return_inverse=True)
    if _are_identifiers(len(classes), n):
        return Labels(note=_left_aside(len(classes), n))
    return Labels(numbers.astype(np.int64), tuple(classes.tolist()))


def _counted(given: npt.NDArray[np.int64], n: int, names: tuple[str, ...]) -> Labels:
    known = given != -1
    if names:
        if known.any() and (given[known].min() < 0 or given.max() >= len(names)):
            raise DataError(f"labels from {given[known].min()} to {given.max()} for {len(names)} classes: they count from "
                            f"0 to {len(names) - 1}, with -1 for an image without a label")
        return Labels(given, names)
    values = np.unique(given[known])
    if _are_identifiers(len(values), n):
        return Labels(note=_left_aside(len(values), n), given=given)
    if not len(values):
        return Labels(given, (), given=given)
    numbers = np.where(known, np.searchsorted(values, given), -1)
    counted = values[0] == 0 and values[-1] == len(values) - 1
    note = "" if counted else (f"labels from {values[0]} to {values[-1]} are of {len(values)} classes, which are named by "
                               f"them and counted from 0 to {len(values) - 1}")
    return Labels(numbers, tuple(map(str, values.tolist())), note, given)


def _are_identifiers(k: int, n: int) -> bool:
    return k > _FEW and 2 * k > n


def _left_aside(k: int, n: int) -> str:
    return f"labels of {k:,} different values for {n:,} images are names of images, not of classes: they are left aside"
