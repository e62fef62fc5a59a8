"""Disentanglement scores of a model whose images' factors are known, and how a table of factors is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError, UsageError, nearest
from ..files.tables import read_cells
from ..functional.disentanglement import dci, factor_vae_score, mig, sap
from ..functional.intervals import wilson
from ..parts.registry import metric
from ..text import counted
from .catalogue import FigureType, measures
from .evaluation import Evaluation, FactorTable, Unavailable
from .figures import Figure
from .latents import ACTIVE, active_share

LEVELS = 20
"""Numbers with more values than this are cut into as many ranges with equally many images."""
GROUPS = 10
"""Of images, each left out once for a standard error."""
LEAST = 1000
"""Images without which a FactorVAE score has no interval."""
HALVES = 12
"""Random halves of the images, for the standard error of votes."""


@dataclass(frozen=True)
class Table:
    """A file of factors: what every image was drawn from."""

    names: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    """Values as written, by the image's name."""
    source: str


def read_table(path: str | Path) -> Table:
    """Reads a .csv or .parquet whose columns are the factors, after a first one of the images' names as in the data.

    Raises:
        DataError: no such file, no factor, a row of another length, or an image named twice.
    """
    lines = read_cells(path)
    if len(lines) < 2 or len(lines[0]) < 2:
        raise DataError(f"{path} is no table of factors: its first row names a column of image names and the factors, "
                        "such as 'file,colour,size', and a row for each image follows")
    rows: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(lines[0]):
            raise DataError(f"row {number} of {path} has {len(line)} cells, and its first row {len(lines[0])}")
        if line[0] in rows:
            raise DataError(f"{path} names {line[0]!r} twice (row {number})")
        rows[line[0]] = tuple(cell.strip() for cell in line[1:])
    return Table(tuple(lines[0][1:]), rows, str(path))


def match(table: Table, names: Sequence[str]) -> FactorTable:
    """The table's factors of the named images, in that order; factors that do not change among them are left out.

    Words become a level each. Numbers do too, or 20 ranges of equally many images when they have more values. A name is
    found as it stands, or by its last part ('00007.png') where no two rows of the table end in the same.

    Raises:
        DataError: an image that the table does not name, or no factor that changes.
    """
    columns = zip(*_found(table, names), strict=True)
    found = of_columns(dict(zip(table.names, columns, strict=True)))
    if found is None:
        raise DataError(f"no factor of {table.source} changes among these {len(names)} images")
    return found


def known_column(table: Table, name: str, names: Sequence[str]) -> list[str]:
    """A column's cells for the named images, in that order; "" for an image that the table does not name.

    Raises:
        DataError: no such column, or none of the images is named.
    """
    if name not in table.names:
        raise DataError(f"{table.source} has no column {name!r}{nearest(name, table.names)}; it has "
                        f"{', '.join(table.names)}")
    rows = rows_for(table, names)
    if not any(rows):
        raise unknown_name(table, names[0])
    at = table.names.index(name)
    return ["" if row is None else row[at] for row in rows]


def of_columns(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> FactorTable | None:
    """The factors of some images, a column each, as `match` gives them; None where none changes among the images."""
    kept: list[tuple[str, np.ndarray, bool]] = []
    for name, column in columns.items():
        levels, words = _levels(column)
        if levels.max(initial=0) > 0:
            kept.append((name, levels, words))
    if not kept:
        return None
    return FactorTable(tuple(k[0] for k in kept), torch.from_numpy(np.stack([k[1] for k in kept], 1)),
                       tuple(k[2] for k in kept))


def rows_for(table: Table, names: Sequence[str]) -> list[tuple[str, ...] | None]:
    """The table's row for each image, as it is named or by the last part of its name where no two images and no two rows
    end in the same; None where it has none."""
    by_last = {name.rsplit("/", 1)[-1]: row for name, row in table.rows.items()}
    ends = [name.rsplit("/", 1)[-1] for name in names]
    if len(by_last) < len(table.rows) or len(set(ends)) < len(ends):
        by_last = {}
    return [table.rows.get(name, by_last.get(end)) for name, end in zip(names, ends, strict=True)]


def unknown_name(table: Table, name: str) -> DataError:
    """What to say of an image that a table does not name."""
    return DataError(f"{table.source} does not name {name!r}; its first names are "
                     f"{', '.join(repr(n) for n in list(table.rows)[:3])}. Its first column holds the images' names as in "
                     "the data: files by their path in the folder or archive, images of arrays by their number from 0")


def _found(table: Table, names: Sequence[str]) -> list[tuple[str, ...]]:
    found = list[tuple[str, ...]]()
    for name, row in zip(names, rows_for(table, names), strict=True):
        if row is None:
            raise unknown_name(table, name)
        found.append(row)
    return found


def _levels(column: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, bool]:
    """A column as levels from 0, and whether its values are words."""
    try:
        numbers = np.array([float(cell) for cell in column])
        if not np.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        return np.unique(np.array(column), return_inverse=True)[1].astype(np.int64), True
    values, levels = np.unique(numbers, return_inverse=True)
    if len(values) > LEVELS:
        edges = np.quantile(numbers, np.arange(1, LEVELS) / LEVELS)
        levels = np.unique(np.searchsorted(edges, numbers, "right"), return_inverse=True)[1]
    return levels.astype(np.int64), False


def _score(name: str, meaning: str, unit: str = "from 0 to 1") -> FigureType:
    return FigureType(name, "Factors", unit, meaning, "higher", least=0.0, most=1.0)


MIG = _score("mig", "one latent for each factor, by mutual information")
SAP = _score("sap", "one latent for each factor, by prediction")
DISENTANGLEMENT = _score("dci disentanglement", "latents that depend on one factor only")
COMPLETENESS = _score("dci completeness", "factors captured by one latent only")
INFORMATIVENESS = _score("dci informativeness", "factors predicted from the codes", "accuracy")
VOTES = _score("factor_vae_score", "factors identified by the latent that varies least", "accuracy")


@metric("factors")
@measures(MIG, SAP, DISENTANGLEMENT, COMPLETENESS, INFORMATIVENESS, VOTES)
def factors(evaluation: Evaluation) -> list[Figure]:
    """MIG, SAP, DCI and the FactorVAE score of posterior means, for images with a table of their factors.

    Intervals of MIG and SAP are by leaving out each tenth of the images; of DCI's accuracy and of the FactorVAE score they
    are over images and votes. (Chen et al., 2018, arXiv:1802.04942; Kumar et al., 2018, arXiv:1711.00848; Eastwood &
    Williams, 2018; Kim & Mnih, 2018, arXiv:1802.05983)
    """
    table = evaluation.factors
    if table is None:
        raise Unavailable("these scores need factors: labels of several columns in the data, or --factors factors.csv")
    codes, levels = evaluation.codes.mean.double().numpy(), table.levels.numpy()
    n = len(codes)
    if len(levels) != n:
        raise UsageError(f"the table of factors has {len(levels)} rows for {n} images")
    if n < 200:
        raise Unavailable(counted(n, "image is", "images are")
                          + " too few for scores of factors; 200 at least, and a few thousand to trust them",
                          report_reason=True)
    words = tuple(int(k) for k in np.flatnonzero(table.categorical))
    note = "over " + ", ".join(table.names)
    gap, separated = mig(codes, levels), sap(codes, levels, categorical=words)
    predicted = dci(codes[: n // 2], levels[: n // 2], codes[n // 2 :], levels[n // 2 :])
    active = active_share(evaluation.codes).numpy() > ACTIVE
    votes = factor_vae_score(codes, levels, active=active)
    chance = 1 / levels.shape[1]
    left_out = [np.arange(n) % GROUPS != g for g in range(GROUPS)]
    of_mig = _jackknife(gap.value, [mig(codes[k], levels[k]).value for k in left_out])
    of_sap = _jackknife(separated.value, [sap(codes[k], levels[k], categorical=words).value for k in left_out])
    of_accuracy = INFORMATIVENESS.mean(predicted.right, share=False).interval
    return [
        MIG.of(gap.value, n, of_mig, note, detail=gap.each),
        SAP.of(separated.value, n, of_sap, note, detail=separated.each),
        DISENTANGLEMENT.of(predicted.disentanglement, n, None, note),
        COMPLETENESS.of(predicted.completeness, n, None, note),
        INFORMATIVENESS.of(predicted.informativeness, predicted.n, of_accuracy, note, detail=predicted.accuracy),
        VOTES.of(votes.value, n, None if n < LEAST else wilson(votes.value, votes.n, _error_of_votes(codes, levels, active)),
                 f"{note}; {votes.n} votes" + (f"; no interval of fewer than {LEAST:,} images, since half of so few make "
                                               "other votes" if n < LEAST else ""), detail=votes.each, null=chance,
                 unit=f"accuracy, chance is {chance:.2g}")]


def _jackknife(value: float, without: Sequence[float]) -> tuple[float, float]:
    """Value ± 1.96 standard errors from values without each of g groups: (g − 1)/g Σ (v_i − v̄)²."""
    v = np.array(without)
    half = 1.96 * float(np.sqrt((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum()))
    return value - half, value + half


def _error_of_votes(codes: np.ndarray, levels: np.ndarray, active: np.ndarray) -> float:
    """The standard error of a FactorVAE score over images and votes, by random halves of the images, each with votes of its
    own. (Shao & Wu, 1989, doi:10.1214/aos/1176347263)"""
    rng = np.random.default_rng(0)
    halves = [rng.permutation(len(codes))[: len(codes) // 2] for _ in range(HALVES)]
    return float(np.std([factor_vae_score(codes[half], levels[half], active=active, seed=i).value
                         for i, half in enumerate(halves, 1)], ddof=1))
