"""Shards of WebDataset: tars of which files that share a name but for the ending, 0001.png and 0001.cls, are one image."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..files.writing import replacing
from ..text import printable
from . import cache
from .addresses import Address, retried
from .archives import BROKEN
from .decode import Named
from .folders import made_by_a_device
from .formats import is_read
from .pixels import UnreadableImage
from .shards import LABELS, Member, Shard, Value
from .tarfiles import MOST_BYTES, files_in_tar

GROUP_ROWS, GROUP_BYTES = 256, 8 << 20
"""Images, and bytes of them, that are read at once, at most."""
MOST_SAID = 1 << 20
"""Bytes of a longer .cls or .json are not read."""
INDEX, VERSION = "tars", 1
"""The folder in the cache where indexes are kept, and what changes when they hold something else."""
_LONGEST = 200
"""Bytes of a name or a label that are kept."""
_TELLING = frozenset({"cls", "json", "txt"})
_PEEKED = 64
"""Files by which it is told whether a tar is of WebDataset."""


class Index(NamedTuple):
    """Where the images of a tar lie."""

    start: np.ndarray   # (n,) of its bytes
    size: np.ndarray    # (n,)
    names: np.ndarray   # (n,) in UTF-8
    labels: list[Value]
    digest: str
    """Of all that the headers say, and of the labels."""


class TarShard(Shard):
    """One tar, uncompressed, of which the index alone is held; it is kept in the cache, for the tar is read through to make
    it."""

    def __init__(self, address: Address) -> None:
        self.address, self.name = address, address.name
        self._index = retried(lambda: _index_of(address))
        self.digest = bytes.fromhex(self._index.digest)
        self._ends = _groups(self._index.size)
        starts = [0, *self._ends[:-1]]
        self.sizes = tuple(end - start for start, end in zip(starts, self._ends, strict=True))
        self.weights = tuple(int(self._index.size[a:b].sum()) for a, b in zip(starts, self._ends, strict=True))

    @property
    def labelled(self) -> bool:
        return any(label is not None for label in self._index.labels)

    def labels(self) -> list[Value]:
        return self._index.labels

    def called(self, number: int) -> str:
        return printable(bytes(self._index.names[number]).decode("utf-8", "replace"))

    def read(self, group: int) -> list[Member]:
        end = self._ends[group]
        return retried(lambda: self._members(range(end - self.sizes[group], end)))

    def _members(self, rows: range) -> list[Member]:
        index = self._index
        with self.address.open() as file:
            found = [_bytes_at(file, int(index.start[i]), int(index.size[i])) for i in rows]
        return [Member(data if isinstance(data, UnreadableImage) else Named(self.called(i), data), "", index.labels[i])
                for i, data in zip(rows, found, strict=True)]


def _bytes_at(file: IO[bytes], start: int, size: int) -> bytes | UnreadableImage:
    if size > MOST_BYTES:
        return UnreadableImage(f"{size:,} bytes are too many for a file in a shard, {MOST_BYTES:,} at most")
    file.seek(start)
    data = file.read(size)
    return data if len(data) == size else UnreadableImage(f"the shard ends after {len(data):,} of its {size:,} bytes")


def _groups(sizes: np.ndarray) -> list[int]:
    """Where each group ends, by the numbers of images."""
    ends, rows, held = list[int](), 0, 0
    for i, size in enumerate(sizes.tolist()):
        if rows == GROUP_ROWS or (rows and held + size > GROUP_BYTES):
            ends.append(i)
            rows, held = 0, 0
        rows, held = rows + 1, held + size
    return [*ends, len(sizes)] if rows else ends


def _index_of(address: Address) -> Index:
    """The index of a tar, from the cache where it was made of the same file before.

    Raises:
        DataError: it is no tar, is truncated, or holds too much.
    """
    said = f"{VERSION} {address.path} {address.system.ukey(address.path)}"
    kept = cache.folder() / INDEX / f"{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}.npz"
    try:
        with np.load(kept, allow_pickle=False) as found:
            labels, digest = json.loads(str(found["labels"])), str(found["digest"])
            return Index(found["start"], found["size"], found["names"], labels, digest)
    except (*BROKEN, KeyError):
        index = _made(address)
    with replacing(kept) as temporary, temporary.open("wb") as file:
        np.savez(file, start=index.start, size=index.size, names=index.names, labels=np.array(json.dumps(index.labels)),
                 digest=np.array(index.digest))
    return index


def _made(address: Address) -> Index:
    """The index, made by reading through the tar. What is no regular file, or a device's copy, is passed over."""
    images, labels, whole = list[tarfile.TarInfo](), list[Value](), hashlib.blake2b(digest_size=16)
    try:
        with address.open() as stream:
            files = (info for info in files_in_tar(stream, address.name) if info.isreg() and not info.issparse()
                     and not made_by_a_device(PurePosixPath(info.name).parts))
            for _, sample in itertools.groupby(files, lambda info: key_of(info.name)[0]):
                image, label = _sample(sample, stream, whole)
                if image is not None:
                    images.append(image)
                    labels.append(label)
    except tarfile.TarError as e:
        raise DataError(f"it is no tar, or is truncated: {e}") from e
    names = [info.name.encode("utf-8", "replace")[:_LONGEST] for info in images]
    start, size = np.array([(info.offset_data, info.size) for info in images], np.int64).reshape(-1, 2).T
    return Index(start, size, np.array(names, np.bytes_), labels, whole.hexdigest())


def _sample(files: Iterable[tarfile.TarInfo], stream: IO[bytes], whole: hashlib.blake2b
            ) -> tuple[tarfile.TarInfo | None, Value]:
    """The first image among files that share a key, and the first label."""
    image, label = None, None
    for info in files:
        ending = key_of(info.name)[1]
        if image is None and is_read(f".{ending.rpartition('.')[2]}"):
            image = info
        elif label is None and ending in ("cls", "json") and info.size <= MOST_SAID:
            stream.seek(info.offset_data)
            label = label_in(stream.read(info.size), ending)
        whole.update(f"{info.name!r} {info.size} {info.mtime} {label!r}\n".encode())
    return image, label


def label_in(data: bytes, ending: str) -> Value:
    """The label that a .cls holds, a number or a word, or a .json under one of the names of `LABELS`; None for none."""
    text = data.decode("utf-8", "replace").strip()
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        told = text if ending == "cls" else None
    if ending == "json":
        told = next((told[name] for name in LABELS if name in told), None) if isinstance(told, dict) else None
    if isinstance(told, int) and not isinstance(told, bool):
        return told if abs(told) < 2**63 else None
    return printable(told[:_LONGEST]) or None if isinstance(told, str) else None


def key_of(name: str) -> tuple[str, str]:
    """The key of a file and its ending, parted by the first point of its own name: 'a/1.seg.png' is ('a/1', 'seg.png')."""
    folder, slash, own = name.rpartition("/")
    base, _, ending = own.partition(".")
    return folder + slash + base, ending.lower()


def is_webdataset(path: Path) -> bool:
    """Whether a file is an uncompressed tar that tells of its first images in files of their own, such as 0001.cls."""
    try:
        with path.open("rb") as stream:
            endings: dict[str, set[str]] = {}
            for info in itertools.islice(files_in_tar(stream, path), _PEEKED):
                key, ending = key_of(info.name)
                endings.setdefault(key, set()).add(ending)
    except (*BROKEN, DataError):
        return False
    return any(found & _TELLING and any(is_read(f".{each.rpartition('.')[2]}") for each in found)
               for found in endings.values())
