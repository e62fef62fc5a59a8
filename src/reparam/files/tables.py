"""Tables of named columns: written as .csv or .parquet, by the ending of the file, and read back as text."""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from ..text import for_csv, printable
from .writing import replacing

CSV, PARQUET = ".csv", ".parquet"
Column = Sequence[Any] | npt.NDArray[Any]
"""Of n rows: text, numbers, None for an empty cell; bytes, such as a picture's file; or an array (n, d)."""


def table_path(named: str, flag: str = "--table-out") -> Path:
    """Where a table is to be written, looked at before anything is made for it.

    Raises:
        UsageError: another ending, or a .parquet without the package that writes it.
    """
    path = Path(named)
    if path.suffix.lower() not in (CSV, PARQUET):
        raise UsageError(f"{flag} must be a .csv or a .parquet; got {named!r}")
    if path.suffix.lower() == PARQUET:
        need_parquet("write a .csv")
    return path


def need_parquet(instead: str) -> None:
    """Raises UsageError where the package that reads and writes .parquet is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f'.parquet needs the package pyarrow: pip install "reparam[parquet]", or {instead}')


def write_table(path: str | Path, columns: Mapping[str, Column]) -> None:
    """Columns of one length as a .csv or .parquet, in one step.

    A .csv has a column for each number of an array (n, d), numbers to nine digits, text that no spreadsheet takes for a
    formula, and no columns of bytes. A .parquet has all columns as they are, text as it can be shown.

    Raises:
        UsageError: a .parquet without the package that writes it.
        ReparamError: the disk is full or the folder cannot be written to. What stood there is untouched.
    """
    path = Path(path)
    if path.suffix.lower() == PARQUET:
        need_parquet("write a .csv")
        arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
        table = arrow.table({printable(name): _for_arrow(column) for name, column in columns.items()})
        with replacing(path) as temporary:
            parquet.write_table(table, temporary)
        return
    flat = [each for name, column in columns.items() for each in _for_csv(name, column)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow([for_csv(name) for name, _ in flat])
        rows.writerows(map(_cell, row) for row in zip(*(column for _, column in flat), strict=True))


def read_cells(path: str | Path) -> list[list[str]]:
    """The rows of a .csv or .parquet as text, the first of them the columns' names; empty rows and columns of bytes are left
    out.

    Raises:
        DataError: no such file, or none that can be read.
        UsageError: a .parquet without the package that reads it.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() == PARQUET:
        need_parquet("name a .csv")
        return _cells_of_parquet(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else e
        raise DataError(f"the table {path} cannot be read: {why}") from e


def _cells_of_parquet(file: Path) -> list[list[str]]:
    arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        table = parquet.ParquetFile(file).read()
    except (OSError, arrow.ArrowException) as e:
        raise DataError(f"the table {file} cannot be read: {e}") from e
    columns = [(name, table.column(i).to_pylist()) for i, name in enumerate(table.column_names)
               if not any(map(table.schema.field(i).type.equals, (arrow.binary(), arrow.large_binary())))]
    return [[name for name, _ in columns], *([_text(v) for v in row] for row in zip(*(c for _, c in columns), strict=True))]


def _text(value: Any) -> str:
    """A cell of another program's table; truth as in a .csv, and no fraction where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _for_arrow(column: Column) -> Any:
    if isinstance(column, np.ndarray):
        return list(column) if column.ndim > 1 else column
    return [printable(v) if isinstance(v, str) else v for v in column]


def _for_csv(name: str, column: Column) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(column, np.ndarray) and column.ndim > 1:
        yield from ((f"{name}{i}", each.tolist()) for i, each in enumerate(column.reshape(len(column), -1).T))
    elif not any(isinstance(v, bytes) for v in column):
        yield name, column.tolist() if isinstance(column, np.ndarray) else list(column)


def _cell(value: Any) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.9g}" if isinstance(value, float) else for_csv(value)
