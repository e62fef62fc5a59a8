"""What the page asks to see: planes, columns, images, codes and their neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UsageError, nearest
from ..parts.ranges import Within
from ..pretrained.inputs import read_input
from . import figures
from .explored import Explored
from .planes import Places
from .questions import FINITE, MOST_IMAGES, Answer, Array, Question

NEIGHBOURS = Within(1, 200, whole=True)


def plane(run: Explored, question: Question) -> Answer:
    found = run.plane(question.text("plane"))
    if found is None:
        return Answer({"computing": True})
    trust = found.map.trustworthiness
    return Answer({"titles": found.titles, "exact": run.is_plain and not found.by_neighbours,
                   "by_neighbours": found.by_neighbours, "trustworthiness": trust if np.isfinite(trust) else None},
                  {"xy": np.asarray(found.map.xy, np.float32)})


def at(run: Explored, question: Question) -> Answer:
    """What the model makes of a place of a map; nothing where there is nothing near it."""
    code = _shown(run, question).code_at(question.number("x", FINITE), question.number("y", FINITE))
    return Answer() if code is None else with_image(run, run.placed(code))


def places(run: Explored, question: Question) -> Answer:
    """Where codes lie on a map."""
    return Answer(arrays={"xy": _shown(run, question).places(question.codes(run.d)).astype(np.float32)})


def _shown(run: Explored, question: Question) -> Places:
    found = run.plane(question.text("plane"))
    if found is None:
        raise UsageError("this map is still being computed")
    return found


def decode(run: Explored, question: Question) -> Iterator[Answer | None]:
    """Images of codes, or what the model rebuilds of some of the images."""
    detail = question.flag("detail", True)
    codes = run.some_codes()[question.rows(len(run.codes), most=MOST_IMAGES)] if "rows" in question else \
        run.placed(question.codes(run.d))
    for images in decoded_in_pieces(run, codes, detail):
        yield None if images is None else Answer(arrays={"images": images})


def decoded_in_pieces(run: Explored, codes: Array, detail: bool = True) -> Iterator[Array | None]:
    """None between pieces of the work, and images of all codes at last."""
    pieces: list[Array] = []
    for begin in range(0, len(codes), run.piece):
        if begin:
            yield None
        pieces.append(run.decoded(codes[begin : begin + run.piece], detail=detail))
    yield np.concatenate(pieces)


def column(run: Explored, question: Question) -> Iterator[Answer | None]:
    """Numbers of classes, or values; NaN where nothing is known."""
    name, points = question.text("name"), run.some_points()
    measured = figures.titles_of(run)
    if name in points.known:
        known = points.known[name]
        values = known.values.astype(np.float32)
        yield Answer(arrays={"values": np.where(values < 0, np.float32(np.nan), values) if known.classes else values})
    elif name in measured:
        for values in figures.values_of(run, name):
            yield None if values is None else Answer(arrays={"values": values})
    else:
        raise UsageError(f"unknown column {name!r}{nearest(name, (*points.known, *measured))}")


def thumbs(run: Explored, question: Question) -> Answer:
    points = run.some_points()
    rows = question.rows(len(points), most=MOST_IMAGES)
    return Answer({"names": points.names(rows)}, {"images": points.pixels(rows)})


def of_row(run: Explored, question: Question) -> Answer:
    """One of the images, its code, and what becomes of it."""
    points = run.some_points()
    row = question.whole("row", Within(0, len(points) - 1, whole=True))
    image = points.pixels(np.array([row]))
    known = {name: each.cells[row] for name, each in points.known.items()}
    fields = {"name": points.names(np.array([row]))[0], "label": known.get("label", ""), "known": known}
    if not len(run.codes):
        return Answer(fields, {"image": image})
    code = run.codes[[row]]
    return Answer(fields, {"image": image, "code": code, "reconstruction": run.decoded(code), "nats": run.nats(image[0])})


def encode(run: Explored, question: Question) -> Answer:
    """A file of an image, its code, and what becomes of it."""
    _ = run.model.vae  # which tells a GAN
    image = read_input(run.model.config, question.file)[None]
    code = run.encoded(image)
    rebuilt = run.decoded(code)
    return Answer({"difference": float(figures.errors(image, rebuilt)[0])},
                  {"image": image, "code": code, "reconstruction": rebuilt, "nats": run.nats(image[0])})


def neighbours(run: Explored, question: Question) -> Answer:
    """The points whose codes are nearest to a code or to one of them."""
    index = run.index
    if "row" in question:
        query = run.codes[[question.whole("row", Within(0, len(run.codes) - 1, whole=True))]]
    else:
        query = question.code(run.d)
    found = index.search(query, min(question.whole("n", NEIGHBOURS, 12), len(run.codes)))
    return Answer(arrays={"rows": found.rows[0].astype(np.int32), "distances": found.distance[0]})


def training(run: Explored, question: Question) -> Answer:
    return run.training.answer(question)


def snapshot(run: Explored, question: Question) -> Answer:
    return run.snapshots.answer(question)


def with_image(run: Explored, code: Array) -> Answer:
    """A code (1, d) and its image."""
    return Answer(arrays={"code": code, "image": run.decoded(code)})
