"""What is known of some images, as columns of levels: labels, the factors of their source, and tables of attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..data.imageset import ImageSet
from ..metrics.evaluation import FactorTable
from ..metrics.factors import Table, of_columns, rows_for, unknown_name
from ..text import counted

Array = npt.NDArray[Any]
FEWEST = 20
"""Images of which a column must say something."""


@dataclass(frozen=True)
class Columns:
    """Of n images."""

    names: tuple[str, ...]
    levels: npt.NDArray[np.int64]
    """(n, columns), from 0; −1 where a column says nothing of an image."""
    categorical: tuple[bool, ...]
    """Of each column, whether its values are words."""
    notes: tuple[str, ...] = ()
    """What was left out, and why, in sentences."""

    @property
    def complete(self) -> tuple[Array, FactorTable]:
        """The rows of images of which every column says something, and their factors."""
        rows = np.flatnonzero((self.levels >= 0).all(1))
        return rows, FactorTable(self.names, torch.from_numpy(self.levels[rows]), self.categorical)


def columns_of(images: ImageSet, rows: Array, table: Table | None = None) -> Columns:
    """What labels, the source and a table say of the images at `rows`; a column of the table goes before one of the same
    name. Numbers of many values are cut into 20 ranges of equally many images.

    Raises:
        DataError: the table names none of the images.
    """
    known: dict[str, Sequence[Any] | Array] = {}
    notes: list[str] = []
    if images.labels is not None:
        classes = images.classes or tuple(map(str, range(int(images.labels.max()) + 1)))
        known["label"] = np.array([*classes, ""])[images.labels[rows]]  # −1 is the last
    known |= {name: column[rows] for name, column in (images.factors or {}).items()}
    if table is not None:
        names = [images.names[i] for i in rows]
        found = rows_for(table, names)
        lost = [name for name, row in zip(names, found, strict=True) if row is None]
        if len(lost) == len(names):
            raise unknown_name(table, names[0])
        if lost:
            notes.append(f"{table.source} has no row for {len(lost):,} of {counted(len(names), 'image')}, such as "
                         f"{lost[0]}: they count only for what else is known of them.")
        known |= {name: [row[k] if row is not None else "" for row in found] for k, name in enumerate(table.names)}
    return as_levels(known, len(rows), notes)


def as_levels(columns: Mapping[str, Sequence[Any] | Array], n: int, notes: Sequence[str] = ()) -> Columns:
    """Columns of n values as levels; an empty cell or NaN is an unknown one. What cannot tell anything is left out: columns
    that never change, that say something of too few images, whose values hardly occur twice, or that repeat another."""
    kept: dict[str, tuple[Array, bool]] = {}
    said = list(notes)
    for name, column in columns.items():
        present = np.array([_is_known(cell) for cell in column], bool)
        cells = np.asarray(column)[present]
        if len(cells) < FEWEST:
            said.append(f"{name!r} is left out: it says something of {counted(len(cells), 'image')}, and {FEWEST} are "
                        "needed.")
            continue
        found = of_columns({name: cells})
        if found is None:
            said.append(f"{name!r} is left out: it is the same for all images.")
            continue
        level = np.full(n, -1)
        level[present] = found.levels[:, 0].numpy()
        if int(level.max()) + 1 > len(cells) // 2:
            said.append(f"{name!r} is left out: hardly any two images share a value.")
            continue
        twin = next((other for other, (its, _) in kept.items() if _same(its, level)), None)
        if twin == "label":
            del kept["label"]
        elif twin is not None:
            said.append(f"{name!r} is left out: it parts the images as {twin!r} does.")
            continue
        kept[name] = level, found.categorical[0]
    levels = np.stack([level for level, _ in kept.values()], 1) if kept else np.zeros((n, 0), np.int64)
    return Columns(tuple(kept), levels, tuple(words for _, words in kept.values()), tuple(said))


def _is_known(cell: Any) -> bool:
    if isinstance(cell, int | float | np.number):
        return bool(np.isfinite(cell))
    return str(cell).strip().lower() not in ("", "nan")


def _same(a: Array, b: Array) -> bool:
    """Whether two columns part images alike, whatever they call the parts."""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))
