"""What the page asks for to be made: means, paths, directions, samples, and files of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..downstream.directions import find_direction
from ..downstream.geometry import shortest_path
from ..errors import UsageError, nearest
from ..parts.ranges import GUIDANCE, SEED, TEMPERATURE, Within
from .explored import Explored
from .questions import Answer, Array, Question
from .saving import KINDS, Chosen, file_of
from .views import decoded_in_pieces, with_image

FRAMES = Within(2, 480, whole=True)
STOPS = 64
"""Codes that a path leads through at most."""
SAMPLES = Within(1, 256, whole=True)
GEODESIC_STEPS = 12
"""Points of the shortest path between two codes that are sought, between which it is straight."""


def mean(run: Explored, question: Question) -> Answer:
    """The mean of the codes of some points."""
    rows = question.rows(len(run.some_codes()))
    return with_image(run, run.placed(run.codes[rows].mean(0, dtype=np.float64)[None]))


def path(run: Explored, question: Question) -> Iterator[Answer | None]:
    """Frames from each of some codes to the next."""
    stops = run.placed(question.codes(run.d, most=STOPS))
    if len(stops) < 2:
        raise UsageError("a path leads through two codes at least")
    times = np.linspace(0, len(stops) - 1, question.whole("frames", FRAMES, 24))
    ways = [stops[i : i + 2] for i in range(len(stops) - 1)]
    if question.flag("geodesic", False):
        for i, way in enumerate(ways):
            ends = torch.from_numpy(way).unflatten(1, run.model.latent_shape)
            ways[i] = shortest_path(run.model, ends, GEODESIC_STEPS).codes.flatten(1).detach().numpy()
            yield None
    codes = run.placed(np.stack([_on_the_way(run, ways[i], t - i) for t in times.tolist()
                                 for i in [min(int(t), len(ways) - 1)]]))
    for images in decoded_in_pieces(run, codes):
        yield None if images is None else Answer(arrays={"images": images, "codes": codes})


def _on_the_way(run: Explored, way: Array, t: float) -> Array:
    """The code (d,) at the fraction t of a way through codes (k, d), as far apart in time from one to the next."""
    place = t * (len(way) - 1)
    i = min(int(place), len(way) - 2)
    ends = torch.from_numpy(way[i : i + 2]).unflatten(1, run.model.latent_shape)
    return run.model.between(ends, place - i).flatten().numpy()


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


def sample(run: Explored, question: Question) -> Answer:
    """New images and their codes."""
    model, label = run.model, question.said.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise UsageError("a label is the name or the number of a class")
    options = model.options(
        prior=question.text("prior", "") or None, label=label if label != "" else None,
        temperature=question.number("temperature", TEMPERATURE, 1.0),
        guidance=question.number("guidance", GUIDANCE, 1.0), resample=question.flag("resample", True),
        refine=question.flag("detail", True))
    codes, images = model.drawn(question.whole("n", SAMPLES, 16), options, seed=question.whole("seed", SEED, 0))
    return Answer(arrays={"images": run.written(images), "codes": codes.flatten(1).numpy().astype(np.float32)})


def save(run: Explored, question: Question) -> Answer:
    """A file of points, or of codes and their images."""
    kind = question.text("kind")
    if kind not in KINDS:
        raise UsageError(f"unknown kind of file {kind!r}{nearest(kind, KINDS)}. There are {', '.join(KINDS)}")
    if "rows" in question:
        points = run.some_points()
        rows = question.rows(len(points), most=None if kind == "csv" else STOPS * 16)
        chosen = Chosen(run.codes[rows] if len(run.codes) else None, lambda: points.pixels(rows), points.subset(rows))
    else:
        codes = run.placed(question.codes(run.d))
        chosen = Chosen(codes, lambda: run.decoded(codes), None)
    name, mime, content = file_of(kind, chosen)
    return Answer({"name": name, "type": mime}, {"file": np.frombuffer(content, np.uint8)})
