"""The memory map that image files are decoded into once, and what is kept beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ReparamError
from .archives import BROKEN
from .pixels import Pixels

ARRAYS = ("digests", "groups", "validation", "test")
WORDS = ("classes", "skipped", "notes", "fingerprint", "names")
"""What is kept of every set beside its images and labels."""


class Rows:
    """An .npy file of n images (uint8) filled in any order; rows never put are dropped at the end.

    Written through a plain file: writing to a memory map on a full disk kills the process.
    """

    def __init__(self, path: Path, n: int, shape: tuple[int, int, int]) -> None:
        self._file: IO[bytes] = path.open("w+b")
        self._shape = shape
        self._row = int(np.prod(shape))
        self._filled = np.zeros(n, np.bool_)
        self._start = self._write_header(n)

    def put(self, index: int, image: Pixels) -> None:
        self._file.seek(self._start + index * self._row)
        self._file.write(np.ascontiguousarray(image).data)
        self._filled[index] = True

    def finish(self) -> npt.NDArray[np.int64]:
        """Drops the rows never put, flushes to disk, and says which rows are left."""
        kept = np.flatnonzero(self._filled)
        for to, source in enumerate(kept.tolist()):
            if to != source:
                self._file.seek(self._start + source * self._row)
                row = self._file.read(self._row)
                self._file.seek(self._start + to * self._row)
                self._file.write(row)
        self._write_header(len(kept))
        self._file.truncate(self._start + len(kept) * self._row)
        self._file.flush()
        os.fsync(self._file.fileno())
        return kept

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write_header(self, n: int) -> int:
        # NumPy pads its header so that the number of rows can be changed in place.
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (n, *self._shape)})
        return self._file.tell()


def folder() -> Path:
    """Where decoded images are kept: `$REPARAM_CACHE`, or ~/.cache/reparam."""
    return Path(os.environ.get("REPARAM_CACHE") or Path.home() / ".cache" / "reparam")


class Stored(NamedTuple):
    """One entry of the cache: the images, arrays beside them, and words about them."""

    images: Pixels
    arrays: dict[str, npt.NDArray[Any]]
    words: dict[str, Any]


def load(key: str) -> Stored | None:
    """The entry of this key; None if there is none, or if it is damaged."""
    entry = folder() / key
    try:
        with np.load(entry / "arrays.npz", allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        words = json.loads((entry / "words.json").read_text(encoding="utf-8"))
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
    except (*BROKEN, KeyError):
        return None
    whole = (images.ndim == 4 and images.dtype == np.uint8
             and arrays.keys() >= {*ARRAYS} and words.keys() >= {*WORDS}
             and all(len(each) == len(images) for each in (*arrays.values(), words["names"])))
    return Stored(images, arrays, words) if whole else None


@contextlib.contextmanager
def building(key: str) -> Generator[Path]:
    """A temporary folder that becomes the entry `key` when the block ends well, and else vanishes.

    Raises:
        ReparamError: the disk is full, or the cache folder cannot be written.
    """
    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=root))
        try:
            yield temporary
            _install(temporary, root / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as e:
        raise ReparamError(f"cannot keep decoded images in {root}: {e.strerror or e}. Free some "
                           "space, or set REPARAM_CACHE to a folder that has some.") from e


def save(temporary: Path, arrays: dict[str, Any], words: dict[str, Any]) -> None:
    """Writes what stands beside images.npy in an entry that is being built."""
    np.savez(temporary / "arrays.npz", **arrays)
    (temporary / "words.json").write_text(json.dumps(words), encoding="utf-8")


def _install(temporary: Path, entry: Path) -> None:
    old = temporary.with_name(f"{temporary.name}-old")
    with contextlib.suppress(FileNotFoundError):
        entry.rename(old)  # damaged, or just built by another process; the new one is as good
    temporary.rename(entry)
    shutil.rmtree(old, ignore_errors=True)


def _prefix() -> str:
    return f".{socket.gethostname()}-"  # several machines may share one home


def _sweep(root: Path) -> None:
    """Removes what builds of this machine left behind when their process died."""
    for left in root.glob(f"{_prefix()}*"):
        pid = left.name.removeprefix(_prefix()).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
