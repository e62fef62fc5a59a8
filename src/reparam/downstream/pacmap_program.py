"""A program that lays codes out in the plane by PaCMAP: codes in by its standard input, places out by its standard output.

It is a program of its own, for the compiler that PaCMAP is written for holds Python's lock for many seconds, and its search
for neighbours brings an OpenMP library, of which one process may not bear two. It runs at low priority, and ends with the
process that started it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

Array = npt.NDArray[Any]
SHAPE = struct.Struct("<QQ")
"""Of codes, float32, before their bytes; the places that come back are float32 (n, 2)."""
NEIGHBOURS = 10
LANDMARKS = 10_000
"""Codes that PaCMAP lays out; where there are more, evenly spaced ones among them."""
PLACED_BY = 7
"""Landmarks that place another code."""


def lay_out(codes: Array, landmarks: int = LANDMARKS) -> Array:
    """Places (n, 2) of codes (n, d): of the landmarks by PaCMAP, of others by the landmarks around them."""
    n = len(codes)
    rows = np.arange(min(n, landmarks)) * n // min(n, landmarks)
    pacmap = import_module("pacmap").PaCMAP(n_components=2, n_neighbors=NEIGHBOURS, random_state=0)
    places = np.asarray(pacmap.fit_transform(codes[rows]), np.float32)
    if len(rows) == n:
        return places
    xy = placed(codes, codes[rows], places)
    xy[rows] = places
    return xy


def placed(codes: Array, known: Array, places: Array) -> Array:
    """Places (n, 2) of codes (n, d) by those, (m, 2), of the nearest `known` codes (m, d)."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(PLACED_BY, len(known)), algorithm="brute").fit(known)
    return amid(places[near.kneighbors(codes, return_distance=False)]).astype(np.float32)


def amid(places: Array) -> Array:
    """One place (n, 2) amid k others each, (n, k, 2): the mean of the three that are nearest to their median, which no stray
    one among them moves."""
    away = ((places - np.median(places, axis=1, keepdims=True)) ** 2).sum(2)
    return np.take_along_axis(places, away.argsort(1)[:, :3, None], 1).mean(1)


def main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _give_way()
    n, d = SHAPE.unpack(sys.stdin.buffer.read(SHAPE.size))
    codes = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(n, d)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what packages print is not for the one who reads the places
        out.write(lay_out(codes).tobytes())


def _give_way() -> None:
    """To all others, also where Linux shares processors between sessions first."""
    psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")


def _end_with(caller: int) -> None:
    """Ends this process when that one has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(caller).wait()
    os._exit(1)


if __name__ == "__main__":
    main()
