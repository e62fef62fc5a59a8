"""Decoding all files of a source once, into the cache, from where an interrupted build stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import DataError
from . import cache
from .archives import Members, Skipped
from .decode import Header
from .folders import Said
from .formats import accepted
from .imageset import FEWEST, Array, ImageSet, assemble, enough, in_colour
from .labels import Labels
from .parallel import in_parallel, workers_for
from .pixels import UnreadableImage
from .plan import DecodePlan, Joining, Plan, Settings, Skips, header_of, plan_of
from .workers import Workers

Progress: TypeAlias = Callable[[int, int], None]


def open_files(found: Members[Any], name: str, settings: Settings, on_bad: str, progress: Progress | None) -> ImageSet:
    """The images of a source of files, from the cache; what it lacks is decoded into it."""
    if not found.entries:
        raise DataError(_nothing_in(found, name))
    key = found.key(repr(settings))
    stored = cache.load(key)
    if stored is None:
        with cache.building(key) as temporary, workers_for(len(found.entries)) as workers:
            build = _Build(found, name, settings, temporary, workers)
            cache.save(temporary, *_packed(build.images(Skips(on_bad, found.skipped), progress)))
        stored = cache.load(key)
    if stored is None:
        raise DataError(f"the images of {name} vanished from {cache.folder()} while being opened; "
                        "run the command again")
    words, arrays = stored.words, stored.arrays
    skipped = Skips(on_bad, (Skipped(*each) for each in words["skipped"]))
    return ImageSet(stored.images, arrays.get("labels"), tuple(words["classes"]), arrays["digests"], arrays["groups"],
                    arrays["validation"], arrays["test"], tuple(skipped), tuple(words["notes"]), name, words["fingerprint"],
                    tuple(words["names"]))


def _packed(built: ImageSet) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays: dict[str, Array] = {key: getattr(built, key) for key in cache.ARRAYS}
    if built.labels is not None:
        arrays["labels"] = built.labels
    return arrays, {key: getattr(built, key) for key in cache.WORDS}


def _nothing_in(found: Members[Any], name: str) -> str:
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(3))
    bad = "".join(f"; {count} × {reason}" for reason, count in Counter(s.reason for s in found.skipped).most_common(3))
    said = "".join(f"; {note}" for note in found.notes)
    return (f"no images in {name}{f', which holds {kinds} files' if kinds else ''}{bad}{said}. Accepted "
            f"are {accepted()} files.")


class _Chosen(NamedTuple):
    """What was chosen for all files of a source, once their headers had been read."""

    plan: Plan
    names: list[str]
    """Of the files that are decoded."""
    notes: list[str]


class _Build:
    """One source on its way into an entry of the cache."""

    def __init__(self, found: Members[Any], name: str, settings: Settings, entry: Path, workers: Workers | None) -> None:
        self.found, self.name, self.settings, self.entry, self.workers = found, name, settings, entry, workers

    def images(self, skips: Skips, progress: Progress | None) -> ImageSet:
        """Decodes every readable file into images.npy of the entry, which the result maps."""
        found, least = self.found, FEWEST if self.settings.like is None else 1
        chosen = self._chosen(skips)
        enough(len(chosen.names), skips, self.name, least)
        kept, digests, coloured = self._decode(chosen, skips, progress)
        enough(len(kept), skips, self.name, least)
        said = found.said(chosen.names)
        return assemble(np.load(self.entry / "images.npy", mmap_mode="r"), digests[kept], _labels_of(said, kept),
                        said.validation[kept], said.test[kept], tuple(sorted(skips)),
                        chosen.notes + in_colour(coloured) + found.notes, self.name, tuple(chosen.names[i] for i in kept),
                        joining=self.settings.like is not None)

    def _chosen(self, skips: Skips) -> _Chosen:
        """The plan: by the files' headers, as an interrupted build noted it, or that of a model's images."""
        found, settings = self.found, self.settings
        if settings.like is not None:
            return _Chosen(Joining(settings.like, settings), found.names, [])
        if noted := cache.noted(self.entry):
            size, channels, grey = noted["plan"]
            unread = [Skipped(*each) for each in noted["unread"]]
            skips.extend(unread)
            left_out = {each.name for each in unread}
            return _Chosen(DecodePlan(tuple(size), channels, grey, settings),
                           [each for each in found.names if each not in left_out], noted["notes"])
        headers = self._headers(skips)
        plan, notes = plan_of(headers, settings, skips)
        return _Chosen(plan, sorted(headers), notes)

    def _headers(self, skips: Skips) -> dict[str, Header]:
        work = partial(header_of, max_pixels=self.settings.max_pixels)
        headers: dict[str, Header] = {}
        for name, result in in_parallel(work, self.found.files(self.found.names), self.workers):
            if isinstance(result, UnreadableImage):
                skips.skip(name, result.reason)
            else:
                headers[name] = result
        return headers

    def _decode(self, chosen: _Chosen, skips: Skips, progress: Progress | None) -> tuple[Array, Array, int]:
        """Fills images.npy; which rows are left, the digests of all, and how many images a grey model reads in colour."""
        plan, names = chosen.plan, chosen.names
        index, order = {name: i for i, name in enumerate(names)}, self.found.in_order(names)
        noted, unread = cache.noted(self.entry), skips[len(self.found.skipped):]
        coloured = 0

        def words() -> dict[str, Any]:
            return {"plan": (plan.size, plan.channels, plan.grey if isinstance(plan, DecodePlan) else None),
                    "notes": chosen.notes, "coloured": coloured, "unread": unread,
                    "failed": skips[len(self.found.skipped) + len(unread):]}

        with cache.Rows(self.entry, len(names), (plan.size[1], plan.size[0], plan.channels)) as rows:
            if rows.done:
                skips.extend(Skipped(*each) for each in noted["failed"])
                coloured = int(noted["coloured"])
            files = self.found.files(order[rows.done:])
            for done, (name, result) in enumerate(in_parallel(plan.decode, files, self.workers), rows.done + 1):
                if isinstance(result, UnreadableImage):
                    skips.skip(name, result.reason)
                else:
                    rows.put(index[name], result.image, result.digest)
                    coloured += result.coloured
                rows.note(done, words)
                if progress:
                    progress(done, len(names))
            return rows.finish(), rows.digests, coloured


def _labels_of(said: Said, kept: Array) -> Labels:
    return Labels(None if said.labels is None else said.labels[kept], said.classes, said.note)
