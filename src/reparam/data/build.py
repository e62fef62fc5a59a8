"""Decoding all files of a source once, into the cache, from where an interrupted build stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import DataError
from . import cache
from .archives import Members, Skipped
from .decode import Header, as_numbers, of_numbers
from .formats import accepted
from .imageset import FEWEST, Array, ImageSet, assemble, enough, in_colour
from .labels import Labels
from .parallel import in_parallel, workers_for
from .pixels import UnreadableImage
from .plan import Decoded, DecodePlan, Joining, Plan, Settings, Skips, header_of, plan_of
from .workers import Workers

_FACTOR = "factor: "
LOOKED_AT = 64
"""Files by whose headers it is guessed what all are like."""

Progress: TypeAlias = Callable[[int, int], None]


def open_files(found: Members[Any], name: str, settings: Settings, on_bad: str, progress: Progress | None) -> ImageSet:
    """The images of a source of files, from the cache; what it lacks is decoded into it."""
    if not found.entries:
        raise DataError(_nothing_in(found, name))
    key = found.key(repr(settings))
    stored = cache.load(key)
    if stored is None:
        with cache.building(key) as temporary, workers_for(len(found.entries)) as workers:
            build = _Build(found, name, settings, on_bad, temporary, workers)
            cache.save(temporary, *_packed(build.images(progress)))
        stored = cache.load(key)
    if stored is None:
        raise DataError(f"the images of {name} vanished from {cache.folder()} while being opened; "
                        "run the command again")
    words, arrays = stored.words, stored.arrays
    factors = {each: arrays[_FACTOR + each] for each in words.get("factors", ())}
    skipped = Skips(on_bad, (Skipped(*each) for each in words["skipped"]))
    return ImageSet(stored.images, arrays.get("labels"), tuple(words["classes"]), arrays["digests"], arrays["groups"],
                    arrays["validation"], arrays["test"], tuple(skipped), tuple(words["notes"]), name, words["fingerprint"],
                    tuple(words["names"]), factors or None)


def _packed(built: ImageSet) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays: dict[str, Array] = {key: getattr(built, key) for key in cache.ARRAYS}
    if built.labels is not None:
        arrays["labels"] = built.labels
    factors = built.factors or {}
    arrays |= {_FACTOR + name: column for name, column in factors.items()}
    return arrays, {key: getattr(built, key) for key in cache.WORDS} | {"factors": [*factors]}


def _nothing_in(found: Members[Any], name: str) -> str:
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(3))
    bad = "".join(f"; {count} × {reason}" for reason, count in Counter(s.reason for s in found.skipped).most_common(3))
    said = "".join(f"; {note}" for note in found.notes)
    return (f"no images in {name}{f', which holds {kinds} files' if kinds else ''}{bad}{said}. Accepted "
            f"are {accepted()} files.")


class _Read(NamedTuple):
    """What was read of all files under one plan."""

    rows: Array
    """Numbers of the files whose images are in images.npy, one after the other."""
    digests: Array
    """Of all files."""
    coloured: int
    """How many images a grey model reads in colour."""
    headers: dict[str, Header]
    skips: Skips


class _Build:
    """One source on its way into an entry of the cache.

    Every file is read once: what is chosen for all of them is guessed by the first few, and only if the others show it to
    be wrong are all decoded again.
    """

    def __init__(self, found: Members[Any], name: str, settings: Settings, on_bad: str, entry: Path, workers: Workers | None
                 ) -> None:
        self.found, self.name, self.settings, self.on_bad = found, name, settings, on_bad
        self.entry, self.workers = entry, workers
        self.names = found.names

    def images(self, progress: Progress | None) -> ImageSet:
        """Decodes every readable file into images.npy of the entry, which the result maps."""
        found, plan, notes = self.found, self._plan(), list[str]()
        read = self._read(plan, progress)
        if isinstance(plan, DecodePlan):
            settled, notes = plan_of(read.headers, self.settings, read.skips)
            if settled != plan and read.headers:
                read = self._read(settled, progress)
                notes = plan_of(read.headers, self.settings, read.skips)[1]
        enough(len(read.rows), read.skips, self.name, FEWEST if self.settings.like is None else 1)
        names = tuple(self.names[i] for i in read.rows)
        said = found.said(names)
        labels = Labels(said.labels, said.classes, said.note, factors=said.factors)
        return assemble(np.load(self.entry / "images.npy", mmap_mode="r"), read.digests[read.rows], labels, said.validation,
                        said.test, tuple(sorted(read.skips)),
                        notes + in_colour(read.coloured) + found.notes, self.name, names,
                        joining=self.settings.like is not None)

    def _plan(self) -> Plan:
        """That of a model's images, or under which an interrupted build was at work, or one by the headers of some files."""
        settings = self.settings
        if settings.like is not None:
            return Joining(settings.like, settings)
        if noted := cache.noted(self.entry):
            width, height, channels, grey = noted["plan"]
            return DecodePlan((width, height), channels, grey, settings)
        names = self.found.in_order(self.names)
        some = names[:LOOKED_AT] if self.found.in_sequence else names[::max(len(names) // LOOKED_AT, 1)]
        headers = {name: header for name, file in self.found.files(some)
                   if not isinstance(header := header_of(file, settings.max_pixels), UnreadableImage)}
        plan = plan_of(headers, settings, Skips("skip"))[0]
        return plan if headers else DecodePlan((1, 1), 1, True, settings)

    def _read(self, plan: Plan, progress: Progress | None) -> _Read:
        """Fills images.npy under a plan, from where an interrupted build under it stopped."""
        names, skips, coloured = self.names, Skips(self.on_bad, self.found.skipped), 0
        index, order = {name: i for i, name in enumerate(names)}, self.found.in_order(names)
        said = [*plan.size, plan.channels, plan.grey if isinstance(plan, DecodePlan) else None]

        def words() -> dict[str, Any]:
            return {"plan": said, "coloured": coloured, "failed": skips[len(self.found.skipped):]}

        with cache.Rows(self.entry, len(names), (plan.size[1], plan.size[0], plan.channels), said) as rows:
            if rows.done:
                coloured = int(rows.words["coloured"])
                skips.extend(Skipped(*each) for each in rows.words["failed"])
            files = self.found.files(order[rows.done:])
            for done, (name, result) in enumerate(in_parallel(plan.decode, files, self.workers), rows.done + 1):
                if isinstance(result, UnreadableImage):
                    skips.skip(name, result.reason)
                else:
                    rows.headers[index[name]] = as_numbers(result.header)
                if isinstance(result, Decoded):
                    rows.put(index[name], result.image, result.digest)
                    coloured += result.coloured
                rows.note(done, words)
                if progress:
                    progress(done, len(names))
            headers = {names[i]: of_numbers(rows.headers[i]) for i in np.flatnonzero(rows.headers[:, 0])}
            return _Read(rows.finish(), rows.digests, coloured, headers, skips)
