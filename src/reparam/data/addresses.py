"""Files by their address: on this machine, in a bucket, or in a data set of the Hugging Face hub, all through fsspec."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

from ..errors import DataError, UsageError
from .folders import made_by_a_device

TRIES = 3
PAUSE = 1.0
"""Seconds before what failed is tried again; four times as long before each further try."""
HUB, CONVERTED = "hf://datasets/", "@refs%2Fconvert%2Fparquet"
"""Data sets of the hub, and the revision in which it keeps them as Parquet."""
_SHORT = re.compile(r"hf:(?!//)(.+)")
_MAGIC = re.compile(r"[*?\[]")

Out = TypeVar("Out")


@dataclass(frozen=True)
class Address:
    """A file in some file system."""

    system: Any
    """fsspec's."""
    path: str
    name: str
    """Relative to the folder that all files of the source lie in."""

    def open(self) -> IO[bytes]:
        return cast(IO[bytes], self.system.open(self.path, "rb"))

    def size(self) -> int:
        return int(self.system.size(self.path))


def is_remote(source: str) -> bool:
    """Whether a source is an address, not a path of this machine."""
    return "://" in source or _SHORT.fullmatch(source) is not None


def files_at(source: str, endings: Sequence[str]) -> list[Address]:
    """Files below an address, or that match its wildcards: those of the first ending of which there are any.

    `hf:owner/name` stands for the data set of that name, or for the hub's copy of it as Parquet where it has no such files.

    Raises:
        UsageError: an address of an unknown kind, or one that needs a package that is missing.
        DataError: nothing can be found there.
    """
    short = _SHORT.fullmatch(source)
    places = [source] if short is None else [HUB + short[1], HUB + short[1] + CONVERTED]
    for place in places:
        listed = _listed(place)
        for ending in endings:
            if found := [(system, path) for system, path in listed if path.lower().endswith(ending)]:
                return _named(found)
    return []


def retried(work: Callable[[], Out]) -> Out:
    """What the work returns; what fails for reasons of the network or of a disk is tried again."""
    for attempt in range(TRIES):
        try:
            return work()
        except OSError:
            if attempt == TRIES - 1:
                raise
            time.sleep(PAUSE * 4**attempt)
    raise AssertionError("unreachable")


def _listed(place: str) -> list[tuple[Any, str]]:
    import fsspec  # a dependency of torch

    try:
        system, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as e:
        raise UsageError(f"{place} cannot be opened: {e}") from e
    try:
        paths = retried(lambda: _below(system, path))
    except FileNotFoundError:
        return []
    except Exception as e:  # each file system has errors of its own
        raise DataError(f"{place} cannot be listed: {str(e) or type(e).__name__}") from e
    return [(system, each) for each in paths]


def _below(system: Any, path: str) -> list[str]:
    if _MAGIC.search(path):
        return sorted(each for each in system.glob(path))
    return [path] if system.isfile(path) else sorted(system.find(path))


def _named(found: list[tuple[Any, str]]) -> list[Address]:
    """Addresses with names that begin where their paths differ; what devices leave behind is none."""
    parts = [path.split("/") for _, path in found]
    same = 0
    while all(len(p) > same + 1 and p[same] == parts[0][same] for p in parts):
        same += 1
    return [Address(system, path, "/".join(p[same:])) for (system, path), p in zip(found, parts, strict=True)
            if not made_by_a_device(p[same:])]
