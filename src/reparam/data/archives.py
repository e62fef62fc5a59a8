"""Where image files lie: in a folder, a zip or a tar."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import IO, Any, Generic, NamedTuple, TypeVar

from ..errors import DataError
from .decode import File, Named
from .folders import Said, is_below, made_by_a_device, read_folders, runs_among
from .formats import is_read, why_unread
from .parallel import in_parallel
from .pixels import UnreadableImage
from .tarfiles import MOST_BYTES, files_in_tar, unpacked

VERSION = 2  # raised whenever the same files would decode to other pixels
_DECODERS = ("Pillow", "tifffile", "pillow-heif")
# What a broken archive, of images or of arrays, raises when it is read.
BROKEN = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile,
          tarfile.TarError, zlib.error, lzma.LZMAError, MemoryError)

Entry = TypeVar("Entry")


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    name: str
    reason: str


class Members(ABC, Generic[Entry]):
    """The image files of one source, by their sorted names, relative and with "/"."""

    in_sequence = False
    """Whether files are read quickly only in the order in which they lie."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.entries: dict[str, Entry] = {}
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()  # suffixes of the files that are not images
        self.notes: list[str] = []
        self._all: list[str] = []               # names that tell whether a folder holds a run

    @property
    def names(self) -> list[str]:
        return sorted(self.entries)

    def files(self, names: Iterable[str]) -> Iterator[tuple[str, File | UnreadableImage]]:
        """Each of the named members, in the order in which they lie, read when its turn comes."""
        for name in self.in_order(names):
            try:
                file = self._fetch(name, self.entries[name])
            except BROKEN as e:
                file = UnreadableImage(str(e) or type(e).__name__)
            yield name, file

    def in_order(self, names: Iterable[str]) -> list[str]:
        """The names in the order in which their files lie."""
        return sorted(names, key=lambda name: self._place(self.entries[name]))

    def said(self, names: Sequence[str]) -> Said:
        """Labels and splits of the named members."""
        return read_folders(names)

    def key(self, settings: str) -> str:
        """Hash of everything that the decoded images depend on."""
        start = f"{VERSION} {[_version(each) for each in _DECODERS]} {settings}\n"
        whole = hashlib.blake2b(start.encode(), digest_size=16)
        self._hash(whole)
        return whole.hexdigest()

    def _hash(self, whole: hashlib.blake2b) -> None:
        with self.path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, hashlib.blake2b).digest())

    def _add(self, name: str, entry: Entry, odd: str | None = None) -> None:
        """Takes a member in unless it is no picture, a device's copy, or `odd` says what is wrong with it."""
        pure = PurePosixPath(name)
        if made_by_a_device(pure.parts):
            return
        if pure.suffix == ".json" or pure.suffix == ".jsonl":
            self._all.append(str(pure))
        unread = why_unread(pure.suffix)
        if not unread and not is_read(pure.suffix):
            self.ignored[pure.suffix.lower() or "no suffix"] += 1
        elif odd or unread or pure.is_absolute() or ".." in pure.parts:
            self.skipped.append(Skipped(name, odd or unread or "its path leads out of the archive"))
        elif str(pure) in self.entries:
            self.skipped.append(Skipped(name, "a second file of this name"))
        else:
            self.entries[str(pure)] = entry

    def finish(self) -> None:
        """A folder with a run in it holds what this product drew, not data."""
        runs = runs_among(self._all)
        if not runs:
            return
        found = len(self.entries)
        self.entries = {name: entry for name, entry in self.entries.items() if not is_below(name, runs)}
        self.skipped = [each for each in self.skipped if not is_below(each.name, runs)]
        first = runs[0] or "the folder itself"
        self.notes.append(f"{found - len(self.entries)} pictures lie in {len(runs)} folders that hold a run of reparam, "
                          f"such as {first}: they are no data and were left out")

    def _oversized(self, size: int) -> str | None:
        if size > self.max_bytes:
            return f"{size:,} bytes are too many for --max-pixels"
        return (f"{size:,} bytes are too many for a file in an archive, {MOST_BYTES:,} at most: unpack the archive"
                if size > MOST_BYTES else None)

    @abstractmethod
    def _place(self, entry: Entry) -> Any: ...

    @abstractmethod
    def _fetch(self, name: str, entry: Entry) -> File: ...


class _Folder(Members[Path]):
    """Files in a folder and below it. Links are followed after what they lead to: the real name of a folder counts, and
    nothing is read twice.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, max_bytes)
        self._seen: set[tuple[int, int]] = set()
        self._again = 0
        links = self._walk(path)
        while links:
            links = [link for each in sorted(links) for link in self._follow(each)]
        if self._again:
            self.notes.append(f"{self._again} links lead to files or folders that are read already, and were left out")

    def _walk(self, top: Path) -> list[Path]:
        """Takes in the real files and folders from `top`, and returns the links on the way."""
        links: list[Path] = []

        def closed(e: OSError) -> None:
            self.skipped.append(Skipped(str(e.filename), (e.strerror or "unreadable").lower()))

        for folder, below, names in os.walk(top, onerror=closed):
            if not self._is_new(Path(folder).stat()):
                below.clear()
                continue
            links += [Path(folder, name) for name in below if Path(folder, name).is_symlink()]
            inside = "" if Path(folder) == self.path else f"{Path(folder).relative_to(self.path).as_posix()}/"
            for name in names:
                file = Path(folder, name)
                found = _looked_at(file)
                if found is not None and stat.S_ISLNK(found.st_mode):
                    links.append(file)
                else:
                    self._take(inside + name, file, found)
        return links

    def _follow(self, link: Path) -> list[Path]:
        try:
            found = link.stat()
        except OSError:  # it leads nowhere, or to itself
            self._take(link.relative_to(self.path).as_posix(), link, None)
            return []
        if (found.st_dev, found.st_ino) in self._seen:
            self._again += not made_by_a_device(link.relative_to(self.path).parts)
            return []
        if stat.S_ISDIR(found.st_mode):
            return self._walk(link)
        self._take(link.relative_to(self.path).as_posix(), link, found)
        return []

    def _is_new(self, found: os.stat_result) -> bool:
        new = (found.st_dev, found.st_ino) not in self._seen
        self._seen.add((found.st_dev, found.st_ino))
        return new

    def _take(self, name: str, file: Path, found: os.stat_result | None) -> None:
        if found is not None:
            self._seen.add((found.st_dev, found.st_ino))
        regular = found is not None and stat.S_ISREG(found.st_mode)
        self._add(name, file, None if regular else "not a regular file, or a broken link")

    def _hash(self, whole: hashlib.blake2b) -> None:
        for name, digest in in_parallel(_digest_file, self.files(self.names)):
            whole.update(f"{name!r} ".encode() + digest)
        whole.update(repr((self.skipped, self.notes)).encode())

    def _place(self, entry: Path) -> Any:
        return str(entry)

    def _fetch(self, name: str, entry: Path) -> File:
        return entry


def _looked_at(file: Path) -> os.stat_result | None:
    try:
        return file.lstat()
    except OSError:  # it is gone again, or must not be looked at
        return None


class _Zip(Members[zipfile.ZipInfo]):
    def __init__(self, path: Path, max_bytes: int, archive: zipfile.ZipFile) -> None:
        super().__init__(path, max_bytes)
        self._archive = archive
        for info in archive.infolist():
            name = info.filename.replace("\\", "/")  # as archives made on Windows have it
            if not name.endswith("/"):
                odd = ("it is encrypted" if info.flag_bits & 1 else
                       "a link" if info.external_attr >> 28 == 0xA else
                       self._oversized(info.file_size))
                self._add(name, info, odd)

    def _place(self, entry: zipfile.ZipInfo) -> Any:
        return entry.header_offset

    def _fetch(self, name: str, entry: zipfile.ZipInfo) -> File:
        return Named(name, self._archive.read(entry))


class _Place(NamedTuple):
    """Where the bytes of a file lie in a tar."""

    start: int
    size: int


class _Tar(Members[_Place]):
    in_sequence = True

    def __init__(self, path: Path, max_bytes: int, stream: IO[bytes]) -> None:
        super().__init__(path, max_bytes)
        self._stream = stream
        found = files_in_tar(stream, path)
        try:
            first = next(found, None)
        except tarfile.ReadError as e:
            raise DataError(f"{path} is neither a folder nor a zip or tar of images. Accepted "
                            "are those, an .npy, an .npz and the bundled names 'digits' and 'shapes'.") from e
        for info in itertools.chain([] if first is None else [first], found):
            odd = None if info.isreg() and not info.issparse() else "not a regular file"
            self._add(info.name.replace("\\", "/"), _Place(info.offset_data, info.size), odd or self._oversized(info.size))

    def _place(self, entry: _Place) -> Any:
        return entry.start  # in this order a compressed tar is read once, front to back

    def _fetch(self, name: str, entry: _Place) -> File:
        self._stream.seek(entry.start)
        data = self._stream.read(entry.size)
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
            check_regular(path)
            if path.is_dir():
                found: Members[Any] = _Folder(path, max_bytes)
            elif zipfile.is_zipfile(path):
                found = _Zip(path, max_bytes, stack.enter_context(zipfile.ZipFile(path)))
            else:
                found = _Tar(path, max_bytes, stack.enter_context(unpacked(path)))
        except DataError:
            raise
        except BROKEN as e:
            raise DataError(f"{path} cannot be read: {e or type(e).__name__}") from e
        found.finish()
        yield found


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar, as far as its beginning and end say."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with unpacked(path) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except BROKEN:
        return False
    return True


def check_regular(path: Path) -> None:
    """Raises DataError for what would be waited on, or read, for ever: a pipe, a device."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is not a regular file or folder, but a pipe or a device")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


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
