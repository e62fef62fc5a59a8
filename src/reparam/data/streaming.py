"""Training on shards as they are read: groups are read ahead, mixed, and decoded by processes before their step comes."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .decode import Named
from .imageset import Labelled, Shape, Streamed
from .order import MIXED, Block, Numbers, Order
from .pixels import Pixels, UnreadableImage
from .plan import DecodePlan, Skips
from .shards import Labelling, Member, Place, Shard, name_of, read_group
from .workers import Workers

CHUNK = 64
"""Images that a process decodes at a time."""
BATCHES_AHEAD = 3
"""Batches that are decoded, or about to be, while one is trained on."""


class Group(NamedTuple):
    """A group of a shard, and the rows of it that are not trained on."""

    shard: int
    group: int
    left_out: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Shards(Streamed):
    """The training images of some shards."""

    shards: Sequence[Shard]
    groups: Sequence[Group]
    plan: DecodePlan
    labelling: Labelling
    skips: Skips  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def total(self) -> int:
        return sum(sum(shard.sizes) for shard in self.shards)

    @property
    def count(self) -> int:
        return sum(self.sizes)

    @property
    def shape(self) -> Shape:
        return self.plan.size[1], self.plan.size[0], self.plan.channels

    @property
    def sizes(self) -> list[int]:
        """Images to train on in each group."""
        return [self.shards[g.shard].sizes[g.group] - len(g.left_out) for g in self.groups]

    @property
    def weights(self) -> list[int]:
        """Bytes of each group."""
        return [self.shards[g.shard].weights[g.group] for g in self.groups]

    def rows(self, number: int) -> list[_Row]:
        """The images of a group; of one that cannot be read, each says so.

        Raises:
            DataError: it cannot be read, with `--on-bad error`.
        """
        group = self.groups[number]
        shard = self.shards[group.shard]
        members = read_group(shard, group.group)
        if isinstance(members, UnreadableImage):
            begin, n = sum(shard.sizes[: group.group]), shard.sizes[group.group]
            self.skip(f"{shard.name}, images {begin} to {begin + n - 1}", members.reason)
            members = [Member(UnreadableImage(""), "", None)] * n
        return [_Row(name_of(shard, Place(*group[:2], i)), member, self.labelling.numbers.get(member.label, -1))
                for i, member in enumerate(members) if i not in group.left_out]

    def skip(self, name: str, reason: str) -> None:
        """Lists an image once, or ends the work."""
        if all(name != each.name for each in self.skips):
            self.skips.skip(name, reason)

    def batches(self, size: int, seed: int, start: int, process: int, processes: int) -> Iterator[Labelled]:
        """As `Streamed.batches`; in place of an image that cannot be read comes the next one that can."""
        order = Order(self.sizes, self.weights, seed, process, processes)
        images, labels = list[Pixels](), list[Numbers]()
        for piece, numbers in self._pieces(order.blocks(start * size), ahead=-(-BATCHES_AHEAD * size // CHUNK)):
            images.append(piece)
            labels.append(numbers)
            while sum(map(len, images)) >= size:
                x, y = np.concatenate(images), np.concatenate(labels)
                images, labels = [x[size:]], [y[size:]]
                yield x[:size], y[:size]

    def _pieces(self, blocks: Iterator[Block], ahead: int) -> Iterator[Labelled]:
        """Images and labels, as many as are decoded together, of block after block; `ahead` such pieces are under way."""
        cores = max((os.cpu_count() or 1) - 1, 1)  # one is for training
        with Workers(cores) as workers, ThreadPoolExecutor(MIXED) as reader, ThreadPoolExecutor(cores) as callers:
            waiting: deque[_Chunk] = deque()
            try:
                for block, rows in _read_ahead(self, blocks, reader):
                    for begin in range(block.first // CHUNK * CHUNK, len(rows), CHUNK):
                        part = rows[begin : begin + CHUNK]
                        task = callers.submit(workers.call, decode_all, self.plan, [row.member.file for row in part])
                        waiting.append(_Chunk(part, max(block.first - begin, 0), task))
                        if len(waiting) > cores + ahead:
                            yield _finished(self, waiting.popleft())
            finally:
                workers.close()
                for pool in (reader, callers):
                    pool.shutdown(cancel_futures=True)


class _Row(NamedTuple):
    name: str
    member: Member
    label: int


class _Chunk(NamedTuple):
    """Images that are decoded together, and how many of them came before the position that was asked for."""

    rows: list[_Row]
    first: int
    decoded: Future[tuple[Pixels, Numbers, dict[int, str]]]


def _read_ahead(shards: Shards, blocks: Iterator[Block], reader: ThreadPoolExecutor) -> Iterator[tuple[Block, list[_Row]]]:
    """Blocks and their images in order, one of them being read while the one before is used."""
    waiting: deque[tuple[Block, list[Future[list[_Row]]]]] = deque()
    for block in blocks:
        waiting.append((block, [reader.submit(shards.rows, number) for number in block.groups.tolist()]))
        if len(waiting) > 1:
            first, groups = waiting.popleft()
            rows = [row for group in groups for row in group.result()]
            yield first, [rows[i] for i in first.rows.tolist()]


def _finished(shards: Shards, chunk: _Chunk) -> Labelled:
    images, source, bad = chunk.decoded.result()
    for i, reason in bad.items():
        path = chunk.rows[i].member.path
        if reason:  # or else it has been told of all of its group
            shards.skip(chunk.rows[i].name, f"{reason} ({path})" if path else reason)
    if not len(images):
        raise DataError(f"none of {len(bad)} images that lie together could be read, the first of them "
                        f"{chunk.rows[0].name}" + (f": {bad[0]}" if bad[0] else ""))
    labels = np.array([row.label for row in chunk.rows], np.int64)[source]
    return images[chunk.first:], labels[chunk.first:]


def decode_all(plan: DecodePlan, files: Sequence[Named | UnreadableImage]
               ) -> tuple[Pixels, Numbers, dict[int, str]]:
    """As many images as files, the next good one in place of a bad one; which file each is of; why some are bad."""
    images, bad = dict[int, Pixels](), dict[int, str]()
    for i, result in enumerate(map(plan.pixels, files)):
        if isinstance(result, UnreadableImage):
            bad[i] = result.reason
        else:
            images[i] = result
    if not images:
        return np.empty((0, 0, 0, 0), np.uint8), np.empty(0, np.int64), bad
    good = list(images)
    source = [good[bisect_left(good, i) % len(good)] for i in range(len(files))]
    return np.stack([images[i] for i in source]), np.array(source, np.int64), bad
