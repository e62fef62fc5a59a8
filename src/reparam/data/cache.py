"""The memory map that image files are decoded into once, and what is kept beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ReparamError
from ..files.writing import replacing
from ..text import for_json
from .archives import BROKEN
from .decode import HEADER
from .pixels import Pixels

ARRAYS = ("digests", "groups", "validation", "test")
WORDS = ("classes", "skipped", "notes", "fingerprint", "names")
"""What is kept of every set beside its images and labels."""
PROGRESS = "progress.npz"
NOTE_EVERY = 2.0
NOTE_SHARE = 20
"""Seconds between notes of how far a build got, at least; and so many times what noting takes."""
KEEP_FOR = 7 * 24 * 3600.0
"""Seconds for which an interrupted build waits to be taken up again."""
_BUFFER = 1 << 20
_NOBODY = 0


class Rows:
    """An .npy file of n images (uint8) filled in any order, with their digests; rows never put are dropped at the end.

    How far it got is noted every few seconds, so that what a kill interrupts goes on from there, if it is to be decoded
    under the same `plan`. Written through a plain file: writing to a memory map on a full disk kills the process.

    Attributes:
        done: how many files were worked on, in the order in which they lie, when it was last noted.
        words: what was noted then.
        headers: (n, HEADER) of all files worked on, in numbers; 0 where there is none.
    """

    def __init__(self, entry: Path, n: int, shape: tuple[int, int, int], plan: list[Any]) -> None:
        self._path, self._progress = entry / "images.npy", entry / PROGRESS
        self._shape, self._row = shape, int(np.prod(shape))
        self._filled, self.digests, self.done = np.zeros(n, np.bool_), np.zeros(n, np.uint64), 0
        self.headers, self.words = np.zeros((n, HEADER), np.int32), noted(entry)
        begun = self.words.get("plan") == plan and self._begun()
        if not begun:
            self._progress.unlink(missing_ok=True)
        self._file: IO[bytes] = self._path.open("r+b" if begun else "w+b", buffering=_BUFFER)
        self._start = self._at = self._write_header(n)
        self._noted, self._pause = time.monotonic(), NOTE_EVERY

    def _begun(self) -> bool:
        """Takes over what an interrupted build noted, if there is such and it is of the same images."""
        try:
            with np.load(self._progress, allow_pickle=False) as found:
                filled, digests, headers, done = found["filled"], found["digests"], found["headers"], int(found["done"])
        except (*BROKEN, KeyError):
            return False
        if not (filled.shape == digests.shape == self._filled.shape and headers.shape == self.headers.shape
                and self._path.exists()):
            return False
        self._filled, self.digests, self.headers, self.done = filled, digests, headers, done
        return True

    def put(self, index: int, image: Pixels, digest: int) -> None:
        begin = self._start + index * self._row
        if begin != self._at:  # seeking writes what is buffered
            self._file.seek(begin)
        self._file.write(np.ascontiguousarray(image).data)
        self._at = begin + self._row
        self._filled[index], self.digests[index] = True, digest

    def note(self, done: int, words: Callable[[], dict[str, Any]]) -> None:
        """Says that so many files are done, and more `words`; kept from time to time."""
        began = time.monotonic()
        if began - self._noted < self._pause:
            return
        self._flush()
        with replacing(self._progress) as temporary, temporary.open("wb") as file:
            np.savez(file, filled=self._filled, digests=self.digests, headers=self.headers, done=done,
                     words=np.array(for_json(words())))
        self._noted = time.monotonic()
        self._pause = max(NOTE_EVERY, NOTE_SHARE * (self._noted - began))

    def finish(self) -> npt.NDArray[np.int64]:
        """Drops the rows never put, flushes to disk, and says which rows are left."""
        kept = np.flatnonzero(self._filled)
        if len(kept) < len(self._filled):
            self._progress.unlink(missing_ok=True)  # from here on rows move
        for to, source in enumerate(kept.tolist()):
            if to != source:
                self._file.seek(self._start + source * self._row)
                row = self._file.read(self._row)
                self._file.seek(self._start + to * self._row)
                self._file.write(row)
        self._write_header(len(kept))
        self._file.truncate(self._start + len(kept) * self._row)
        self._flush()
        return kept

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write_header(self, n: int) -> int:
        # NumPy pads its header so that the number of rows can be changed in place.
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (n, *self._shape)})
        return self._file.tell()


def noted(entry: Path) -> dict[str, Any]:
    """The words that an interrupted build noted; none of a new one."""
    try:
        with np.load(entry / PROGRESS, allow_pickle=False) as found:
            return json.loads(str(found["words"]))
    except (*BROKEN, KeyError):
        return {}


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
    """A temporary folder that becomes the entry `key` when the block ends well, and vanishes when it fails.

    What a kill or Ctrl-C leaves behind is given to the next build of this key.

    Raises:
        ReparamError: the disk is full, or the cache folder cannot be written.
    """
    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        temporary = _taken_up(root, key) or Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-{key}-", dir=root))
        try:
            yield temporary
            _install(temporary, root / key)
        except Exception:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:  # of an interruption
            with contextlib.suppress(OSError):
                temporary.rename(_renamed(temporary, _NOBODY))
    except OSError as e:
        raise ReparamError(f"cannot keep decoded images in {root}: {e.strerror or e}. Free some "
                           "space, or set REPARAM_CACHE to a folder that has some.") from e


def _taken_up(root: Path, key: str) -> Path | None:
    """What is left of an interrupted build of this key, now of this process."""
    for left in root.glob(f"{_prefix()}*-{key}-*"):
        if not _owned(left):
            own = _renamed(left, os.getpid())
            with contextlib.suppress(OSError):  # another process was quicker
                left.rename(own)
                return own
    return None


def _renamed(left: Path, pid: int) -> Path:
    return left.with_name(f"{_prefix()}{pid}-{left.name.removeprefix(_prefix()).partition('-')[2]}")


def _owned(left: Path) -> bool:
    """Whether a process is at work on it, as far as its name says."""
    pid = left.name.removeprefix(_prefix()).partition("-")[0]
    return not pid.isdigit() or (int(pid) != _NOBODY and _alive(int(pid)))


def save(temporary: Path, arrays: dict[str, Any], words: dict[str, Any]) -> None:
    """Writes what stands beside images.npy in an entry that is being built."""
    np.savez(temporary / "arrays.npz", **arrays)
    (temporary / "words.json").write_text(json.dumps(words), encoding="utf-8")
    (temporary / PROGRESS).unlink(missing_ok=True)


def _install(temporary: Path, entry: Path) -> None:
    old = temporary.with_name(f"{temporary.name}-old")
    with contextlib.suppress(FileNotFoundError):
        entry.rename(old)  # damaged, or just built by another process; the new one is as good
    temporary.rename(entry)
    shutil.rmtree(old, ignore_errors=True)


def _prefix() -> str:
    return f".{socket.gethostname()}-"  # several machines may share one home


def _sweep(root: Path) -> None:
    """Removes what builds of this machine left behind, where it cannot be taken up or nobody did for long."""
    for left in root.glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            waits = (left / PROGRESS).exists() and time.time() - left.stat().st_mtime < KEEP_FOR
            if not _owned(left) and not waits:
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
