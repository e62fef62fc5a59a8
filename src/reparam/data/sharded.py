"""Opening shards: decoded into the cache when they are few enough, or else streamed, with a part of them at hand."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Final

import numpy as np

from ..errors import DataError
from ..text import counted
from .addresses import Address
from .build import Progress, open_files
from .imageset import ImageSet
from .parquet import ParquetShard
from .pixels import UnreadableImage, choose_size
from .plan import DecodePlan, Settings, Skips, header_of
from .shards import Place, Shard, ShardMembers, labelling, open_shards, parts_of, places_in, read_group
from .streaming import Group, Shards
from .tars import TarShard

KINDS: Final[dict[str, type[ParquetShard] | type[TarShard]]] = {".parquet": ParquetShard, ".tar": TarShard}
"""What shards there are, by the endings of their files; of a source with several the first counts."""
MOST_DECODED = 4 << 30
"""Bytes of decoded images that are kept in the cache as a whole; more are streamed."""
AT_HAND, HELD_OUT_AT_HAND, AT_HAND_BYTES = 20_000, 5_000, 128 << 20
"""Of shards that are streamed: training images at hand, images of each other part, and bytes of either."""
GROUPS_READ = 64
"""Groups from which those are taken."""
_SEED = 0


def open_sharded(addresses: Sequence[Address], name: str, settings: Settings, on_bad: str, stream: bool | None,
                 progress: Progress | None) -> ImageSet:
    """The images of shards: all of them from the cache; or some, beside a source that streams those to train on.

    `stream` says which; by default they are streamed when they would take more than 4 GiB once decoded. Images that join a
    model's are never streamed.

    Raises:
        DataError: no shard can be read.
    """
    skips = Skips(on_bad)
    shards = open_shards(addresses, KINDS[PurePath(addresses[0].path).suffix.lower()], skips.skip)
    parts = parts_of(shards)
    each = _bytes_of_one(shards[0], settings)
    if stream is None:
        stream = each * sum(sum(shard.sizes) for shard in shards) > MOST_DECODED
    if settings.like is not None or not stream:
        return open_files(ShardMembers(name, shards, places_in(shards), skips), name, settings, on_bad, progress)
    places = [place for part, most in (("train", AT_HAND), ("validation", HELD_OUT_AT_HAND), ("test", HELD_OUT_AT_HAND))
              for place in _some(shards, [i for i, p in enumerate(parts) if p == part], min(most, AT_HAND_BYTES // each))]
    some = ShardMembers(name, shards, places, skips)
    at_hand = open_files(some, name, settings, on_bad, progress)
    return _beside_stream(at_hand, some, settings, Skips(on_bad, at_hand.skipped))


def _bytes_of_one(shard: Shard, settings: Settings) -> int:
    """Bytes of a decoded image, by the first shard's first group."""
    group = next(i for i, size in enumerate(shard.sizes) if size)
    members = read_group(shard, group)
    headers = [members] if isinstance(members, UnreadableImage) else [
        header_of(member.file, settings.max_pixels) for member in members]
    read = [header for header in headers if not isinstance(header, UnreadableImage)]
    if not read:
        why = "; ".join({each.reason: "" for each in headers if isinstance(each, UnreadableImage)})
        raise DataError(f"no image of the first group of {shard.name} can be read: {why}")
    width, height = choose_size(Counter(header.size for header in read), settings.image_size, settings.largest)[0]
    return width * height * max(header.channels for header in read)


def _some(shards: Sequence[Shard], chosen: Sequence[int], most: int) -> list[Place]:
    """At most so many places in some shards: of a few groups drawn by chance, rows that are evenly spaced."""
    groups = [(i, group) for i in chosen for group, size in enumerate(shards[i].sizes) if size]
    drawn = np.random.default_rng(_SEED).permutation(len(groups))[:GROUPS_READ]
    share, places = most // max(len(drawn), 1), list[Place]()
    for i, group in (groups[k] for k in drawn):
        size = shards[i].sizes[group]
        places += [Place(i, group, k * size // min(share, size)) for k in range(min(share, size))]
    return places


def _beside_stream(at_hand: ImageSet, some: ShardMembers, settings: Settings, skips: Skips) -> ImageSet:
    """Images at hand, with the source from which all training images are streamed but those that are held out."""
    shards, members = some.shards, [some.entries[name] for name in at_hand.names]
    held_out: dict[tuple[int, int], set[int]] = defaultdict(set)
    for row in at_hand.split()[1].tolist():
        held_out[members[row][:2]].add(members[row].row)
    groups = [Group(i, group, frozenset(held_out.get((i, group), ())))
              for i, (shard, part) in enumerate(zip(shards, parts_of(shards), strict=True)) if part == "train"
              for group, size in enumerate(shard.sizes) if size > len(held_out.get((i, group), ()))]
    _, height, width, channels = at_hand.images.shape
    keep = settings.background == "keep"
    grey = channels == 1 + keep if channels in (1 + keep, 3 + keep) else None
    streamed = Shards(shards, groups, DecodePlan((width, height), channels, grey, settings), labelling(shards), skips)
    whole = hashlib.blake2b(at_hand.fingerprint.encode(), digest_size=16)
    for shard in shards:
        whole.update(shard.digest)
    said = (f"{counted(streamed.total, 'image')} in {counted(len(shards), 'shard')} are decoded while they are trained on; "
            f"{len(at_hand):,} are at hand to be held out, measured and shown, and copies are looked for among these alone")
    return replace(at_hand, notes=(said, *at_hand.notes), fingerprint=whole.hexdigest(), streamed=streamed)
