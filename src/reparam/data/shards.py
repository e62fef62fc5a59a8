"""Shards: files that hold many images each, in groups that are read at once."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from .addresses import Address
from .archives import Members, Skipped
from .decode import File, Named
from .folders import TESTING, TRAINING, VALIDATION, Said
from .labels import about_factors, numbered, telling
from .pixels import UnreadableImage

READERS = 8
"""Shards that are opened at a time: the network is what is waited for."""

LABELS = ("label", "labels", "class", "category", "cls", "target", "y", "fine_label")
"""What labels are called in shards, the first name of which there is one counting."""

Value: TypeAlias = int | str | None
"""A label as it stands in a shard."""


class Member(NamedTuple):
    """One image of a shard."""

    file: Named | UnreadableImage
    path: str
    """What it was called where it came from, if that is noted and not its name."""
    label: Value


class Shard(ABC):
    """A file of many images, in groups; images of a group lie together and are read at once.

    Attributes:
        name: of its file, relative to that of all shards.
        sizes: images in each group.
        weights: bytes of each group.
        classes: names of the classes that labels number, where they are noted.
        digest: of what the file says of its contents.
    """

    name: str
    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    classes: tuple[str, ...] = ()
    digest: bytes

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether its images have labels."""

    @abstractmethod
    def read(self, group: int) -> list[Member]:
        """The images of a group.

        Raises:
            Exception: of any kind, when the file cannot be read.
        """

    @abstractmethod
    def labels(self) -> list[Value]:
        """The label of each image, None for none, without reading the images."""

    def called(self, number: int) -> str:
        """What one of its images is called, where that is known without reading it."""
        return ""

    def factors(self) -> dict[str, list[Any]]:
        """What else the file says of each image, in columns by name, without reading the images."""
        return {}

    @property
    def part(self) -> str:
        """'train', 'validation' or 'test', as its name says."""
        words = re.split(r"[/\-_.]+", self.name.lower())
        known = {**dict.fromkeys(VALIDATION, "validation"), **dict.fromkeys(TESTING, "test"),
                 **dict.fromkeys(TRAINING, "train")}
        return next((known[word] for word in words if word in known), "train")


class Place(NamedTuple):
    """Where an image lies."""

    shard: int
    group: int
    row: int


class ShardMembers(Members[Place]):
    """Some images of some shards as the files of one source."""

    in_sequence = True

    def __init__(self, source: str, shards: Sequence[Shard], places: Iterable[Place], skipped: Iterable[Skipped] = ()
                 ) -> None:
        super().__init__(Path(source), 0)
        self.shards, self.labelling = shards, labelling(shards)
        self.entries = {name_of(shards[place.shard], place): place for place in places}
        self.skipped = list(skipped)
        self._at: tuple[int, int] | None = None
        self._group: list[Member] | UnreadableImage = []

    def said(self, names: Sequence[str]) -> Said:
        places = [self.entries[name] for name in names]
        columns = {i: self.shards[i].labels() for i in sorted({place.shard for place in places})}
        starts = [np.cumsum([0, *shard.sizes]) for shard in self.shards]
        values = [columns[p.shard][starts[p.shard][p.group] + p.row] for p in places]
        numbers = self.labelling.of(values) if self.labelling.classes else None
        parts = parts_of(self.shards)
        kinds = np.array([parts[place.shard] for place in places])
        columns = {i: self.shards[i].factors() for i in columns}
        shared = [name for name in next(iter(columns.values())) if all(name in each for each in columns.values())]
        factors = telling({name: np.array([columns[p.shard][name][starts[p.shard][p.group] + p.row] for p in places])
                           for name in shared})
        notes = [self.labelling.note, about_factors([*factors]) if factors else ""]
        return Said(numbers, self.labelling.classes, kinds == "validation", kinds == "test",
                    "; ".join(note for note in notes if note), factors or None)

    def _hash(self, whole: Any) -> None:
        for shard in self.shards:
            whole.update(f"{shard.name!r} ".encode() + shard.digest)
        whole.update(repr((len(self.entries), self.skipped)).encode())

    def _place(self, entry: Place) -> Any:
        return entry

    def _fetch(self, name: str, entry: Place) -> File:
        shard = self.shards[entry.shard]
        if self._at != (entry.shard, entry.group):
            self._at, self._group = entry[:2], read_group(shard, entry.group)
        found = self._group if isinstance(self._group, UnreadableImage) else self._group[entry.row].file
        if isinstance(found, UnreadableImage):
            raise OSError(found.reason)
        return Named(name, found.data)


def places_in(shards: Sequence[Shard]) -> list[Place]:
    """The place of every image."""
    return [Place(i, group, row) for i, shard in enumerate(shards)
            for group, size in enumerate(shard.sizes) for row in range(size)]


def name_of(shard: Shard, place: Place) -> str:
    """What an image is called: its shard, its number in it, and what it is called there."""
    number = sum(shard.sizes[:place.group]) + place.row
    return f"{shard.name}#{number} {shard.called(number)}".rstrip()


def read_group(shard: Shard, group: int) -> list[Member] | UnreadableImage:
    """The images of a group, or why it cannot be read."""
    try:
        return shard.read(group)
    except Exception as e:  # each format and each file system has errors of its own
        return UnreadableImage(f"its shard cannot be read: {str(e) or type(e).__name__}")


def parts_of(shards: Sequence[Shard]) -> list[str]:
    """What each shard is for; where none is to train on, all are."""
    parts = [shard.part for shard in shards]
    return parts if "train" in parts else ["train"] * len(parts)


def open_shards(addresses: Sequence[Address], opener: Callable[[Address], Shard], skip: Callable[[str, str], None]
                ) -> list[Shard]:
    """The shards in these files; `skip` is told of those that cannot be opened, and why.

    Raises:
        DataError: none can.
    """
    def opened(address: Address) -> Shard | str:
        try:
            return opener(address)
        except UsageError:
            raise
        except DataError as e:
            return str(e)
        except Exception as e:  # each format and each file system has errors of its own
            return f"it cannot be opened: {str(e) or type(e).__name__}"

    with ThreadPoolExecutor(READERS) as pool:
        found = list(zip(addresses, pool.map(opened, addresses), strict=True))
    why = ""
    for address, result in found:
        if isinstance(result, str):
            why = why or result
            skip(address.name, result)
    shards = [shard for _, shard in found if isinstance(shard, Shard) and sum(shard.sizes)]
    if not shards:
        raise DataError(f"none of {len(addresses)} shards holds images that can be read: {why or 'they are empty'}")
    return shards


class Labelling(NamedTuple):
    """Which class a label of the shards stands for."""

    numbers: dict[Value, int] = {}  # noqa: RUF012 (never changed)
    classes: tuple[str, ...] = ()
    note: str = ""

    def of(self, values: Sequence[Value]) -> npt.NDArray[np.int64]:
        """The number of each label's class, −1 for none."""
        return np.array([self.numbers.get(value, -1) for value in values], np.int64)


def labelling(shards: Sequence[Shard]) -> Labelling:
    """The classes of all shards: by the names that they note, or else by all the labels in them."""
    shards = [shard for shard in shards if shard.labelled]
    if not shards:
        return Labelling()
    if names := shards[0].classes:
        return Labelling({i: i for i in range(len(names))}, names)
    with ThreadPoolExecutor(READERS) as pool:
        columns = list(pool.map(lambda shard: shard.labels(), shards))
    values = [value for column in columns for value in column if value not in (None, -1, "")]
    found = numbered(np.array(values), len(values))
    if found.numbers is None or not values:
        return Labelling(note=found.note)
    return Labelling(dict(zip(values, found.numbers.tolist(), strict=True)), found.classes, found.note)
