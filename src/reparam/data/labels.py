"""Labels as names: of whatever kind they are given, they become the numbers 0 to k − 1 of k classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .pixels import as_array

_FEW = 100  # so many classes may well have one image each

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Labels:
    """Classes of n images."""

    numbers: npt.NDArray[np.int64] | None = None  # (n,), 0 to k − 1; −1 for an image without a class
    classes: tuple[str, ...] = ()                 # (k,), their names
    note: str = ""                                # what was done to get them
    given: npt.NDArray[np.int64] | None = None    # whole numbers as they were given, without names


def numbered(labels: npt.ArrayLike, n: int, classes: tuple[str, ...] = ()) -> Labels:
    """The classes that labels (n,) or (n, 1) name, by whole numbers or by words; −1 stands for none.

    With the names of `classes`, whole numbers count in them from 0. One column a class with a single 1 in each row is
    taken for the class. Other columns say several things of an image and are no classes; nor are labels that are
    different for most images.

    Raises:
        DataError: labels of another length, neither whole numbers nor words, or beyond the names.
    """
    array = as_array(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != n:
        raise DataError(f"{len(array) if array.ndim else 0} labels, of shape {array.shape}, for {n}"
                        " images: each needs one label")
    if array.ndim == 2:
        return _of_columns(array, classes)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.dtype.kind in "UO":
        return _named(array.astype(np.str_), n)
    with np.errstate(invalid="ignore"):
        whole = array.dtype.kind in "biuf" and np.array_equal(array, array.astype(np.int64))
    if not whole:
        raise DataError(f"labels of type {array.dtype} are neither whole numbers nor names")
    return _counted(array.astype(np.int64), n, classes)


def _of_columns(array: Array, classes: tuple[str, ...]) -> Labels:
    k = array.shape[1]
    if array.dtype.kind in "biuf" and ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all():
        names = classes or tuple(map(str, range(k)))
        return Labels(array.argmax(1), names, f"labels of {k} columns with a single 1 in each row: taken for {k} classes")
    return Labels(note=f"labels of {k} columns say several things of each image and are no classes: they are left aside. "
                       "To score latents against them, give them to evaluate as a table with --factors")


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
