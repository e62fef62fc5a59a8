"""Attributes that images have or have not, from columns of values: classes, or a table with a column for each factor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError, nearest

Column = Sequence[str | None]
"""A value of each image, as written; None where it is not known."""
Flags = npt.NDArray[np.bool_]
ABSENT = ("0", "-1", "no", "none", "false", "f", "n", "without")
"""Values, of two, that say that an image has it not."""
FEWEST = 8
"""Images with an attribute, and without, that a direction takes; a rarer value is not held apart from the commonest."""
MOST_LEVELS = 40
"""Values of a column of words; with more of them they are names rather than kinds."""


@dataclass(frozen=True)
class Attribute:
    """Something that each of n images has or has not."""

    name: str
    column: str
    has: Flags
    known: Flags
    """Of which images it is known."""
    kinds: npt.NDArray[np.int64]
    """Of which value of the column each image is, where images without it may be of several; else of which of two."""


def attribute(columns: Mapping[str, Column], column: str, value: str | None = None, against: str | None = None,
              name: str | None = None) -> Attribute:
    """One value of a column against the rest, or `against` one other; without a `value`, whatever is not `against`.

    A column of two values, or of numbers, needs neither: its higher value, or the upper half.

    Raises:
        UsageError: no such column or value, or several values and none named.
    """
    if column not in columns:
        raise UsageError(f"unknown column {column!r}{nearest(column, columns)}. Columns: {', '.join(columns) or 'none'}")
    cells = np.array([cell or "" for cell in columns[column]], dtype=object)
    known, values = cells != "", values_of(columns[column])
    for each in (value, against):
        if each is not None and each not in values:
            raise UsageError(f"{column} has no value {each!r}{nearest(each, values)}. Values: {_shown(values)}")
    if value is not None:
        known = known & ((cells == value) | (cells == against)) if against is not None else known
        plain = value if column == LABEL else f"{column}:{value}"
        kinds = np.unique(cells, return_inverse=True)[1] if len(values) <= MOST_LEVELS else (cells == value).astype(int)
        return Attribute(name or plain, column, cells == value, known, kinds)
    if against is not None:
        return _of_two(name or column, column, known & (cells != against), known)
    if len(values) == 2:
        low, high = values
        plain = high if column == LABEL else column if low.lower() in ABSENT else f"{column}:{high}"
        return _of_two(name or plain, column, cells == high, known)
    if len(values) < 2:
        raise UsageError(f"{column} is the same of all images of which it is known: {_shown(values) or 'of none'}")
    numbers = _numbers(values)
    if numbers is None:
        raise UsageError(f"{column} has {len(values)} values: choose one of them. Values: {_shown(values)}")
    each = np.array([numbers.get(cell, np.nan) for cell in cells])
    return _of_two(name or column, column, each > np.nanmedian(each), known & ~np.isnan(each))


def _of_two(name: str, column: str, has: Flags, known: Flags) -> Attribute:
    return Attribute(name, column, has, known, has.astype(int))


LABEL = "label"
"""The column of classes."""


def values_of(column: Column) -> list[str]:
    """The different values, in the order of numbers or of letters; what says no comes first of two."""
    values = sorted({cell for cell in column if cell})
    numbers = _numbers(values)
    if numbers is not None:
        return sorted(values, key=lambda v: (np.isnan(numbers[v]), numbers[v]))
    return sorted(values, key=lambda v: v.lower() not in ABSENT) if len(values) == 2 else values


def all_attributes(columns: Mapping[str, Column]) -> list[Attribute]:
    """Of every column: each of its values, or one attribute where it has two, or is of numbers.

    Columns of one value, and of words that are names rather than kinds, have none.
    """
    found: list[Attribute] = []
    for column in columns:
        values = values_of(columns[column])
        if len(values) < 2:
            continue
        if len(values) == 2 or (column != LABEL and _numbers(values) is not None):
            found.append(attribute(columns, column))
        elif len(values) <= MOST_LEVELS:
            found += [attribute(columns, column, value) for value in values]
    return found


def held(columns: Mapping[str, Column], keep: Sequence[str], apart_from: Attribute) -> dict[str, Attribute]:
    """The attributes of columns, or single classes, to `keep`, by name: each value of a column but its commonest.

    Raises:
        UsageError: no such column or class, or the one that the direction is of.
    """
    classes = values_of(columns.get(LABEL, ()))
    found: dict[str, Attribute] = {}
    for name in keep:
        if name == apart_from.column or name == apart_from.name:
            raise UsageError(f"--keep {name}: a direction cannot leave alone what it is to change")
        if name in columns:
            found |= {each.name: each for each in _levels(columns, name)}
        elif name in classes:
            found[name] = attribute(columns, LABEL, name)
        else:
            known = (*columns, *classes)
            raise UsageError(f"--keep {name}: unknown{nearest(name, known)}. Known: {_shown(known)}")
    return found


def _levels(columns: Mapping[str, Column], column: str) -> list[Attribute]:
    values = values_of(columns[column])
    if len(values) == 2 or (column != LABEL and len(values) > 2 and _numbers(values) is not None):
        return [attribute(columns, column)]
    if len(values) > MOST_LEVELS:
        raise UsageError(f"--keep {column}: its {len(values)} values are too many to hold apart, {MOST_LEVELS} at most")
    counts = Counter(cell for cell in columns[column] if cell)
    return [attribute(columns, column, value) for value, n in counts.most_common()[1:] if n >= FEWEST]


def of_two(n_with: int, n_without: int, name: str) -> dict[str, Column]:
    """The column of labels of two sets of images, one after the other."""
    if not min(n_with, n_without):
        raise DataError("one of the two sources holds no image")
    return {LABEL: [name] * n_with + [f"no {name}"] * n_without}


def _numbers(values: Sequence[str]) -> dict[str, float] | None:
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
