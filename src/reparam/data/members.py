"""Where image files lie: in a folder, a zip or a tar, and what their folders say of them."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import PIL

from ..errors import DataError
from .reading import File, Named
from .samples import UnreadableImage

_TRAINING = frozenset({"train", "training"})
_TESTING = frozenset({"test", "testing", "val", "valid", "validation"})
VERSION = 1  # raised whenever the same files would decode to other pixels
SUFFIXES = frozenset({".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff",
                      ".bmp", ".dib", ".gif", ".npy"})
# What a broken archive, of images or of arrays, raises when it is read.
BROKEN = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile,
          tarfile.TarError, zlib.error, lzma.LZMAError)
_BATCH_FILES, _BATCH_BYTES = 64, 8 << 20

Entry = TypeVar("Entry")
In = TypeVar("In")
Out = TypeVar("Out")


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    name: str
    reason: str


class Members(ABC, Generic[Entry]):
    """The image files of one source, by their sorted names, relative and with "/"."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.entries: dict[str, Entry] = {}
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()  # suffixes of the files that are not images

    @property
    def names(self) -> list[str]:
        return sorted(self.entries)

    def files(self, names: Iterable[str]) -> Iterator[tuple[str, File | UnreadableImage]]:
        """Each of the named members, in the order in which they lie, read when its turn comes."""
        for name in sorted(names, key=lambda n: self._place(self.entries[n])):
            try:
                file = self._fetch(name, self.entries[name])
            except BROKEN as e:
                file = UnreadableImage(str(e) or type(e).__name__)
            yield name, file

    def key(self, settings: str) -> str:
        """Hash of everything that the decoded images depend on."""
        start = f"{VERSION} {PIL.__version__} {settings}\n"
        whole = hashlib.blake2b(start.encode(), digest_size=16)
        self._hash(whole)
        return whole.hexdigest()

    def _hash(self, whole: hashlib.blake2b) -> None:
        with self.path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, hashlib.blake2b).digest())

    def _add(self, name: str, entry: Entry, odd: str | None = None) -> None:
        """Takes a member in unless it is hidden, no image, or `odd` says what is wrong with it."""
        pure = PurePosixPath(name)
        if any(part != ".." and part.startswith((".", "__MACOSX")) for part in pure.parts):
            return
        if pure.suffix.lower() not in SUFFIXES:
            self.ignored[pure.suffix.lower() or "no suffix"] += 1
        elif odd or pure.is_absolute() or ".." in pure.parts:
            self.skipped.append(Skipped(name, odd or "its path leads out of the archive"))
        elif str(pure) in self.entries:
            self.skipped.append(Skipped(name, "a second file of this name"))
        else:
            self.entries[str(pure)] = entry

    def _oversized(self, size: int) -> str | None:
        return f"{size:,} bytes are too many for --max-pixels" if size > self.max_bytes else None

    @abstractmethod
    def _place(self, entry: Entry) -> Any: ...

    @abstractmethod
    def _fetch(self, name: str, entry: Entry) -> File: ...


class _Folder(Members[Path]):
    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, max_bytes)
        seen: set[tuple[int, int]] = set()

        def closed(e: OSError) -> None:
            self.skipped.append(Skipped(str(e.filename), (e.strerror or "unreadable").lower()))

        for folder, below, names in os.walk(path, onerror=closed, followlinks=True):
            at = Path(folder).stat()
            if (at.st_dev, at.st_ino) in seen:  # a link to a folder above or beside
                below.clear()
                continue
            seen.add((at.st_dev, at.st_ino))
            inside = Path(folder).relative_to(path).as_posix()
            for name in names:
                file = Path(folder, name)
                odd = None if file.is_file() else "not a regular file, or a broken link"
                self._add(name if inside == "." else f"{inside}/{name}", file, odd)

    def _hash(self, whole: hashlib.blake2b) -> None:
        for name, digest in in_parallel(_digest_file, self.files(self.names)):
            whole.update(f"{name!r} ".encode() + digest)
        whole.update(repr(self.skipped).encode())

    def _place(self, entry: Path) -> Any:
        return str(entry)

    def _fetch(self, name: str, entry: Path) -> File:
        return entry


class _Zip(Members[zipfile.ZipInfo]):
    def __init__(self, path: Path, max_bytes: int, archive: zipfile.ZipFile) -> None:
        super().__init__(path, max_bytes)
        self._archive = archive
        for info in archive.infolist():
            if not info.is_dir():
                odd = ("it is encrypted" if info.flag_bits & 1 else
                       "a link" if info.external_attr >> 28 == 0xA else
                       self._oversized(info.file_size))
                self._add(info.filename, info, odd)

    def _place(self, entry: zipfile.ZipInfo) -> Any:
        return entry.header_offset

    def _fetch(self, name: str, entry: zipfile.ZipInfo) -> File:
        return Named(name, self._archive.read(entry))


class _Tar(Members[tarfile.TarInfo]):
    def __init__(self, path: Path, max_bytes: int, archive: tarfile.TarFile) -> None:
        super().__init__(path, max_bytes)
        self._archive = archive
        for info in archive:
            if not info.isdir():
                odd = None if info.isreg() and not info.issparse() else "not a regular file"
                self._add(info.name, info, odd or self._oversized(info.size))

    def _place(self, entry: tarfile.TarInfo) -> Any:
        return entry.offset_data  # in this order a compressed tar is read once, front to back

    def _fetch(self, name: str, entry: tarfile.TarInfo) -> File:
        stream = self._archive.extractfile(entry)
        data = stream.read() if stream else b""
        if len(data) != entry.size:
            raise EOFError("the archive is truncated")
        return Named(name, data)


@contextlib.contextmanager
def members(path: Path, max_bytes: int) -> Generator[Members[Any]]:
    """The image files below a folder, or in a zip or tar that is never extracted to disk.

    Raises:
        DataError: the archive is broken, or `path` is neither.
    """
    with contextlib.ExitStack() as stack:
        try:
            if path.is_dir():
                found: Members[Any] = _Folder(path, max_bytes)
            elif zipfile.is_zipfile(path):
                found = _Zip(path, max_bytes, stack.enter_context(zipfile.ZipFile(path)))
            elif tarfile.is_tarfile(path):
                found = _Tar(path, max_bytes, stack.enter_context(tarfile.open(path)))
            else:
                raise DataError(f"{path} is neither a folder nor a zip or tar of images. Accepted "
                                "are those, an .npy, an .npz and the bundled name 'digits'.")
        except BROKEN as e:
            if isinstance(e, DataError):
                raise
            raise DataError(f"{path} cannot be read: {e or type(e).__name__}") from e
        yield found


def read_folders(names: Sequence[str]) -> tuple[
        npt.NDArray[np.int64] | None, tuple[str, ...], npt.NDArray[np.bool_]]:
    """Labels, their names and test flags, read off the folders in which files lie."""
    folders = _without_shared([tuple(name.split("/")[:-1]) for name in names])
    tops = {parts[0].lower() for parts in folders if parts}
    test = np.zeros(len(names), np.bool_)
    if tops <= _TRAINING | _TESTING or (tops & _TRAINING and tops & _TESTING):
        test = np.array([bool(p) and p[0].lower() in _TESTING for p in folders])
        test &= not test.all()
        folders = _without_shared(
            [p[1:] if p and p[0].lower() in _TRAINING | _TESTING else p for p in folders])
    found = {parts[0] for parts in folders if parts}
    if len(found) < 2:
        return None, (), test
    classes = sorted(found, key=lambda c: (not c.isdecimal(), int(c) if c.isdecimal() else 0, c))
    number = {label: i for i, label in enumerate(classes)}
    labels = np.array([number[p[0]] if p else -1 for p in folders], np.int64)
    return labels, tuple(classes), test


def _without_shared(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    while folders and folders[0] and all(p[:1] == folders[0][:1] for p in folders):
        folders = [parts[1:] for parts in folders]
    return folders


def in_parallel(work: Callable[[In], Out],
                files: Iterable[tuple[str, In]]) -> Iterator[tuple[str, Out]]:
    """(name, work(file)) in order, over all cores; what waits is bounded in number and bytes."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[tuple[str, Out]]]] = deque()
        try:
            for batch in _batches(files):
                waiting.append(pool.submit(lambda batch: [(n, work(f)) for n, f in batch], batch))
                if len(waiting) > workers + 1:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(files: Iterable[tuple[str, In]]) -> Iterator[list[tuple[str, In]]]:
    batch: list[tuple[str, In]] = []
    held = 0
    for name, file in files:
        batch.append((name, file))
        held += len(file.data) if isinstance(file, Named) else 0
        if len(batch) == _BATCH_FILES or held > _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _digest_file(file: File | UnreadableImage) -> bytes:
    try:
        if isinstance(file, (str, Path)):
            with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 (three times as fast)
                whole = hashlib.blake2b()
                while piece := stream.read(1 << 20):
                    whole.update(piece)
                return whole.digest()
    except OSError as e:
        return repr(e).encode()
    return repr(file).encode()
