"""Codes read back from the files that hold them: those of `reparam encode` and of the explorer."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from ..files.tables import read_cells

CODES = (".npz", ".npy", ".csv", ".parquet")


def read_codes(path: str | Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Codes (n, *shape): an array, the array `z` of an .npz, or a table's columns z0, z1, ….

    Raises:
        UsageError: another kind of file.
        DataError: no such file, a damaged one, or codes of another shape.
    """
    form = Path(path).suffix.lower()
    if form not in CODES:
        raise UsageError(f"codes are read from {', '.join(CODES[:-1])} or {CODES[-1]}; got {str(path)!r}")
    if not Path(path).is_file():
        raise DataError(f"there is no file {path}")
    try:
        found = _of_table(path, math.prod(shape)) if form in (".csv", ".parquet") else _of_arrays(path)
        return np.asarray(found, np.float32).reshape(-1, *shape)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        wanted = "×".join(map(str, shape))
        raise DataError(f"{path} holds no codes of {wanted} numbers: name a file that 'reparam encode' wrote for this "
                        "model") from e


def _of_arrays(path: str | Path) -> npt.NDArray[np.float32]:
    found = np.load(path, allow_pickle=False)
    return found if isinstance(found, np.ndarray) else found["z"]


def _of_table(path: str | Path, d: int) -> npt.NDArray[np.float32]:
    head, *lines = read_cells(path)
    at = [head.index(f"z{i}") for i in range(d)] if d > 1 or "z" not in head else [head.index("z")]
    return np.array([[float(line[i]) for i in at] for line in lines], np.float32)
