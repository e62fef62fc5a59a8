"""Maps that keep neighbourhoods and no distances, by PaCMAP (Wang et al., 2021, arXiv:2012.04456), and their inverse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from ..errors import ReparamError, UsageError
from ..text import counted
from . import pacmap_program as program
from .maps import Map, trust

Array = npt.NDArray[Any]
METHOD = "PaCMAP"
INSTALL = 'pip install "reparam[map]"'
FEWEST = 2 * program.NEIGHBOURS
"""Codes that are laid out by their neighbours."""


def has_package() -> bool:
    """Whether the package pacmap is installed."""
    return find_spec("pacmap") is not None


def check_package() -> None:
    """Raises UsageError where the package is missing."""
    if not has_package():
        raise UsageError(f"a map of neighbourhoods needs a package: {INSTALL}, or take the principal components, pca")


def neighbour_map(codes: npt.ArrayLike) -> Map:
    """Codes (n, d) by PaCMAP; with more than 10,000, evenly spaced ones are laid out and place the others.

    Raises:
        UsageError: the package pacmap is missing, or there are too few codes.
        ReparamError: PaCMAP has failed.
    """
    computation = Computation.begin(codes)
    try:
        return computation.map.result()
    finally:
        computation.stop()


def map_of(codes: npt.ArrayLike, xy: npt.ArrayLike) -> Map:
    """The map on which codes (n, d) have the places (n, 2)."""
    places = np.asarray(xy, np.float64)
    return Map(places, METHOD, trust(np.asarray(codes, np.float64), places))


@dataclass(frozen=True)
class Computation:
    """A map that a process of its own computes, at low priority, while this one goes on."""

    process: subprocess.Popen[bytes]
    map: Future[Map] = field(default_factory=Future[Map])

    @staticmethod
    def begin(codes: npt.ArrayLike) -> Computation:
        """Raises UsageError where the package pacmap is missing, or there are too few codes (n, d)."""
        check_package()
        z = np.ascontiguousarray(codes, np.float32)
        if len(z) < FEWEST:
            raise UsageError(counted(len(z), "code is", "codes are") + f" too few for a map of neighbourhoods: {FEWEST} at "
                             "least")
        if (z == z[0]).all():
            raise UsageError("all of these images have the same code, which makes no map")
        begun = Computation(subprocess.Popen(
            [sys.executable, "-P", "-m", program.__name__], env=_environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True))
        threading.Thread(target=begun._wait, args=(z,), daemon=True).start()
        return begun

    def stop(self) -> None:
        """Ends the process, if it has not ended."""
        self.process.kill()
        self.process.wait()

    def _wait(self, codes: Array) -> None:
        try:
            places, said = self.process.communicate(program.SHAPE.pack(*codes.shape) + codes.tobytes())
            self.map.set_result(map_of(codes, _checked(places, len(codes), said)))
        except Exception as e:
            self.map.set_exception(e)


def _checked(places: bytes, n: int, said: bytes) -> Array:
    """Places (n, 2) from bytes; what the process `said` tells why there are none."""
    xy = np.frombuffer(places, np.float32) if len(places) == 8 * n else np.full(2, np.nan)
    if not np.isfinite(xy).all():
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ReparamError(f"the map of neighbourhoods could not be computed{f': {last}' if last else ''}")
    return xy.reshape(n, 2)


def _environment() -> dict[str, str]:
    """Of the process: this one's packages, and half of its processors."""
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}


@dataclass(frozen=True)
class Inverse:
    """From places of a map back to codes, by neighbours.

    The code at a place p is Σᵢ wᵢ zᵢ / Σᵢ wᵢ over the 8 points pᵢ nearest to it, with wᵢ = exp(−|p − pᵢ|² / 2h²): a kernel
    regression (Nadaraya, 1964) whose bandwidth h is the distance of the eighth. Where the nearest is farther than a tenth of
    the points' root mean square distance from their mean, there is nothing.
    """

    tree: Any
    codes: Array
    reach: float
    NEAR: ClassVar[int] = 8

    @staticmethod
    def of(xy: Array, codes: Array) -> Inverse:
        """Of points at (n, 2) with codes (n, d)."""
        return Inverse(KDTree(xy), codes, 0.1 * float(np.sqrt(xy.var(0).sum())))

    def code_at(self, x: float, y: float) -> Array | None:
        """The code (1, d) at a place; None where nothing is near."""
        away, rows = self.tree.query([x, y], k=min(self.NEAR, len(self.codes)))
        if away[0] > self.reach:
            return None
        weights = np.exp(-(away**2) / max(2 * away[-1] ** 2, 1e-300))
        return (weights @ self.codes[rows].astype(np.float64) / weights.sum())[None]
