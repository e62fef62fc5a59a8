"""What lies in a tar, compressed or not, without trusting what it claims."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from ..errors import DataError
from ..text import counted

MOST_BYTES = 128 << 20
"""A longer file is not read from an archive, where it would have to lie in memory as a whole."""
_PIECE = 1 << 16
MOST_HEADER = 1 << 20
"""Bytes of what a tar says of one file, in its own and extended headers."""
MOST_FILES = 3_000_000
"""Files in one tar."""


def files_in_tar(stream: IO[bytes], path: str | Path) -> Iterator[tarfile.TarInfo]:
    """What an uncompressed tar holds besides folders, in the order in which it lies.

    Raises:
        DataError: it claims too many files, or too much of one.
        tarfile.TarError: it is no tar, or truncated.
    """
    headers = _Headers(stream, path)
    archive: Any = tarfile.TarFile(fileobj=cast(IO[bytes], headers))
    with archive:
        for count in itertools.count():
            info = archive.next()
            headers.spent, archive.members = 0, []  # tarfile would keep all that it has seen
            if info is None:  # also where a header is broken or lacking
                if headers.last != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(f"it is broken, or truncated, after {counted(count, 'file')}")
                return
            if count >= MOST_FILES:
                raise DataError(f"{path} holds more than {MOST_FILES:,} files: unpack it, or divide it")
            if not info.isdir():
                yield info


class _Headers:
    """A stream of which tarfile reads the headers: of one file at most MOST_HEADER bytes, whatever they claim."""

    def __init__(self, stream: IO[bytes], path: str | Path) -> None:
        self._stream, self._path = stream, path
        self.spent, self.last = 0, b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self.spent + size > MOST_HEADER:
            raise DataError(f"{self._path} cannot be read: it has a header of more than {MOST_HEADER:,} bytes")
        self.spent += size
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _Xz(io.RawIOBase):
    """The bytes of an .xz file.

    Every stream and block of it names a dictionary of its own, which would lie in memory: one of more than MOST_BYTES is
    refused.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._at, self._rest, self._stream = 0, b"", lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_BYTES)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        while size:
            if self._stream.eof:  # another stream may follow, after zeros
                self._rest = self._stream.unused_data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_BYTES)
            elif self._stream.needs_input:
                self._rest = self._file.read(_PIECE)
                if not self._rest:
                    raise EOFError("the archive is truncated")
            found, self._rest = self._stream.decompress(self._rest, min(size, _PIECE) if size > 0 else _PIECE), b""
            if found:
                self._at += len(found)
                return found
        return b""

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        wanted = offset + (self._at if whence == io.SEEK_CUR else 0)
        if wanted < self._at:
            self._rewind()
        while self._at < wanted and self.read(min(wanted - self._at, _PIECE)):
            pass
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_xz(path: Path, mode: str) -> IO[bytes]:
    return cast(IO[bytes], io.BufferedReader(_Xz(path), _PIECE))


def unpacked(path: Path) -> IO[bytes]:
    """The bytes of a tar, of which gzip, bzip2 and xz compression is undone."""
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", _open_xz)):
        if start.startswith(magic):
            return cast(IO[bytes], opener(path, "rb"))
    return path.open("rb")
