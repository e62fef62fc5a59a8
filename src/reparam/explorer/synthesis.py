"""What the page asks for to be made: means, paths, directions, and files of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..downstream.directions import find_direction
from ..downstream.geometry import shortest_legs
from ..errors import UsageError, nearest
from ..parts.ranges import Within
from .explored import Explored
from .questions import Answer, Array, Question
from .saving import KINDS, Chosen, file_of
from .views import decoded_in_pieces, with_image

FRAMES = Within(2, 480, whole=True)
STOPS = 64
"""Codes that a path leads through at most."""


def mean(run: Explored, question: Question) -> Answer:
    """The mean of the codes of some points."""
    rows = question.rows(len(run.some_codes()))
    return with_image(run, run.placed(run.codes[rows].mean(0, dtype=np.float64)[None]))


def path(run: Explored, question: Question) -> Iterator[Answer | None]:
    """Frames from each of some codes to the next."""
    stops, frames = run.placed(question.codes(run.d, most=STOPS)), question.whole("frames", FRAMES, 24)
    if question.flag("geodesic", False):
        way: list[Array] = []
        for leg in shortest_legs(run.model, run.shaped(stops)):
            way.append(leg)
            yield None
        stops = np.concatenate(way)
    codes = run.placed(run.model.along(stops, frames))
    for images in decoded_in_pieces(run, codes):
        yield None if images is None else Answer(arrays={"images": images, "codes": codes})


def direction(run: Explored, question: Question) -> Answer:
    """From the points `a` to the points `b`, or one that is kept with the model."""
    if "name" in question:
        name = question.text("name")
        if name not in run.directions:
            raise UsageError(f"no direction {name!r} is kept with this model{nearest(name, run.directions)}")
        found = run.directions[name]
    else:
        n = len(run.some_codes())
        a, b = question.rows(n, "a"), question.rows(n, "b")
        if np.intersect1d(a, b).size:
            raise UsageError("the two groups share images, which cannot tell them apart")
        has = np.concatenate([np.zeros(len(a), bool), np.ones(len(b), bool)])
        found = find_direction("the second group", run.codes[np.concatenate([a, b])], has)
    low, high = found.interval
    return Answer({"accuracy": found.accuracy, "interval": [low, high], "n": found.n},
                  {"vector": np.asarray(found.vector, np.float32)[None]})


def save(run: Explored, question: Question) -> Answer:
    """A file of points, or of codes and their images."""
    kind = question.text("kind")
    if kind not in KINDS:
        raise UsageError(f"unknown kind of file {kind!r}{nearest(kind, KINDS)}. There are {', '.join(KINDS)}")
    if "rows" in question:
        points = run.some_points()
        rows = question.rows(len(points), most=None if kind == "csv" else STOPS * 16)
        chosen = Chosen(run.shaped(run.codes[rows]) if len(run.codes) else None, lambda: points.pixels(rows),
                        points.subset(rows))
    else:
        codes = run.placed(question.codes(run.d))
        chosen = Chosen(run.shaped(codes), lambda: run.decoded(codes, detail=question.flag("detail", True)), None)
    name, mime, content = file_of(kind, chosen)
    return Answer({"name": name, "type": mime}, {"file": np.frombuffer(content, np.uint8)})
