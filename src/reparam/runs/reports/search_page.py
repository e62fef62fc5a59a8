"""The pages of a search: each query with its nearest images, and duplicates in groups; and their tables."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...downstream.duplicates import Duplicates, Group
from ...downstream.image_index import thumbnail
from ...downstream.recognition import Recogniser
from ...files.tables import Column, write_table
from ...files.writing import write_text
from ...functional.intervals import wilson
from ...text import Html, counted, joined, markup, short
from ..searching import FoundDuplicates, Searched
from .run_page import STYLE, page

SHOWN, GROUPS, MEMBERS = 100, 200, 60
"""Queries and groups on a page, and images of a group."""
UNRELATED = "Distances go from 0 to 2, and are 1.41 between images that have nothing in common."
WORDS = {"codes": "codes", "features": "image features", "both": "codes and image features"}
LOOKS = STYLE + """
.query { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: 1.2rem; border-top: 1px solid var(--line);
         padding: 1.1rem 0; }
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.6rem, 1fr)); gap: .8rem; align-content: start; }
.found figure, .query > figure { min-width: 0; }
.found figcaption { font-size: .78rem; line-height: 1.3; margin-top: .2rem; }
figcaption { overflow-wrap: anywhere; } figcaption b { color: var(--ink); font-variant-numeric: tabular-nums; }
.group { border-top: 1px solid var(--line); padding: .9rem 0; } .group h2 { margin: 0 0 .5rem; font-size: 1rem; }
@media (max-width: 42rem) { .query { grid-template-columns: 5.6rem minmax(0, 1fr); gap: .7rem; } }
"""


def write_search(found: Searched, title: str, out: Path, table: Path) -> None:
    """Writes the page, which stands alone, and the table: of who the queries are, or of the nearest of each.

    Raises:
        ReparamError: one of them cannot be written.
    """
    write_text(out, search_html(found, title))
    write_table(table, _answers(found) if found.recognised is not None else _neighbours(found))


def write_duplicates(found: FoundDuplicates, title: str, out: Path, table: Path) -> None:
    """Writes the page, which stands alone, and the table of all duplicates.

    Raises:
        ReparamError: one of them cannot be written.
    """
    write_text(out, duplicates_html(found, title))
    of = [(i, group) for i, group in enumerate(found.duplicates.groups, 1)]
    write_table(table, {
        "group": [i for i, group in of for _ in group.rows],
        "name": [found.names[row] for _, group in of for row in group.rows],
        "kind": [_kind(group, j) for _, group in of for j in range(len(group.rows))],
        "distance": [float(d) for _, group in of for d in group.distance]})


def _kind(group: Group, j: int) -> str:
    return "first" if j == 0 else "same pixels" if group.exact[j] else "near"


def _neighbours(found: Searched) -> dict[str, Column]:
    rows, k, index = found.found.rows, found.found.rows.shape[1], found.index
    flat = rows.ravel().tolist()
    labels: dict[str, Column] = {"label": [index.label(i) for i in flat]} if index.has_labels else {}
    return {"query": [name for name in found.queries.names for _ in range(k)], "rank": list(range(1, k + 1)) * len(rows),
            "name": [index.names[i] for i in flat], **labels, "distance": found.found.distance.ravel()}


def _answers(found: Searched) -> dict[str, Column]:
    who, classes = found.recognised, found.index.classes
    if who is None:
        return {}
    return {"query": list(found.queries.names), "known": [bool(k) for k in who.known],
            "class": [classes[i] for i in who.answer], "confidence": who.confidence, "distance": who.distance,
            "nearest": [found.index.names[i] for i in found.found.rows[:, 0]]}


def sentence_of(found: Searched) -> str:
    """What was searched, in a sentence."""
    n, k = found.found.rows.shape
    near = f"{' each' if n > 1 else ''} with the {counted(k, 'nearest image', 'nearest')}"
    return (f"{counted(n, 'image')},{near} of the {len(found.index):,} of {Path(found.index.source).name}, by "
            f"{WORDS[found.by]}")


def about_unknown(by: Recogniser) -> str:
    """How far answers can be trusted, in sentences."""
    c = by.calibration
    shares = c.refused_of_class()
    near = "its nearest image" if by.k == 1 else f"its {by.k} nearest on average"
    said = (f"An image is called unknown when it lies farther than {c.threshold:.2f} from {near}, as {c.refused:.0%} do of "
            f"{counted(len(c.unknown), 'image')} whose class was left out of the index")
    if shares:
        low, high = min(shares.values()), max(shares.values())
        mean = sum(shares.values()) / len(shares)
        said += (f". Of a class that had no part in this threshold, {mean:.0%} are to be expected to ({low:.0%} to "
                 f"{high:.0%} by class)")
    if math.isnan(c.kept):
        return f"{said}. How many of known classes are kept cannot be told: no class has two images."
    interval = " to ".join(f"{v:.1%}" for v in wilson(c.kept, len(c.known)))
    return (f"{said}. Of {counted(len(c.known), 'image')} of known classes {c.kept:.1%} are kept ({interval}), and "
            f"{c.right_of_kept:.1%} of these told right.")


def who_of(found: Searched, i: int) -> str:
    """Who a query is, in words."""
    who = found.recognised
    if who is None:
        return ""
    name = found.index.classes[int(who.answer[i])]
    return f"{name}, {who.confidence[i]:.0%}" if who.known[i] else f"unknown; nearest to {name}"


def search_html(found: Searched, title: str) -> str:
    """The page."""
    trust = markup("<p class='soft'>{}</p>", about_unknown(found.recogniser)) if found.recogniser is not None else ""
    more = len(found.queries) - SHOWN
    rest = markup("<p>{} more in the table.</p>", counted(more, "image")) if more > 0 else ""
    return page(f"Search with {title}", LOOKS, markup(
        "<p>{}.</p><p class='soft'>{}</p>{}{}{}", sentence_of(found), UNRELATED, trust,
        joined(_query(found, i) for i in range(min(len(found.queries), SHOWN))), rest))


def _query(found: Searched, i: int) -> Html:
    index, name = found.index, found.queries.names[i]
    near = joined(_figure(index.thumbnails[row], index.names[row], f"{distance:.3f}", index.label(row))
                  for row, distance in zip(found.found.rows[i].tolist(), found.found.distance[i].tolist(), strict=True))
    return markup("<section class='query'>{}<div class='found'>{}</div></section>",
                  _figure(thumbnail(found.queries.images[i]), name, who_of(found, i), ""), near)


def _figure(picture: bytes, name: str, bold: str, label: str) -> Html:
    strong = markup("<b>{}</b> ", bold) if bold else ""
    said = markup("{}<br>", label) if label else ""
    return markup("<figure><img class='pixels' src='data:image/webp;base64,{}' alt='{}'><figcaption>{}{}<span title='{}'>{}"
                  "</span></figcaption></figure>", base64.b64encode(picture).decode("ascii"), name, strong, said, name,
                  short(name, 40))


def sentence_of_duplicates(found: FoundDuplicates) -> str:
    """What was found, in sentences."""
    d, of = found.duplicates, Path(found.index.source if found.images is None else found.images.source).name
    exact = sum(bool(group.exact.all()) for group in d.groups)
    images = sum(len(group.rows) for group in d.groups)
    return (f"{counted(len(d.groups), 'group')} of duplicates, {counted(images, 'image')}, among {d.n:,} of {of}: {exact:,} "
            f"of the same pixels alone, {len(d.groups) - exact:,} with near-duplicates by {WORDS[found.by]}. {_about(d)}")


def _about(d: Duplicates) -> str:
    t = d.threshold
    if t.distance < 0:
        return (f"Near-duplicates were not looked for: with {counted(t.calibrated_on, 'held-out image')} in the index it "
                "cannot be told how near different images are; a larger --rate needs fewer of them")
    return (f"Near is up to {t.distance:.3f}: of images without a duplicate at most {100 * t.rate:.3g}% are called one by "
            f"mistake, here up to {d.mistakes:.0f} (by {counted(t.calibrated_on, 'held-out image')}). In a group "
            "each image is that near to another, not always to the first")


def duplicates_html(found: FoundDuplicates, title: str) -> str:
    """The page."""
    groups = found.duplicates.groups
    pictures: Callable[[int], bytes] = found.index.thumbnails.__getitem__
    if found.images is not None:
        images = found.images.images
        pictures = lambda row: thumbnail(np.asarray(images[row]))  # noqa: E731
    rest = markup("<p>{} more in the table.</p>", counted(len(groups) - GROUPS, "group")) if len(groups) > GROUPS else ""
    return page(f"Duplicates by {title}", LOOKS, markup(
        "<p>{}.</p>{}{}", sentence_of_duplicates(found),
        joined(_of_group(found, i, group, pictures) for i, group in enumerate(groups[:GROUPS], 1)), rest))


def _of_group(found: FoundDuplicates, number: int, group: Group, picture: Callable[[int], bytes]) -> Html:
    kind = "same pixels" if group.exact.all() else f"up to {group.distance.max():.3f} from the first"
    cards = joined(_figure(picture(row), found.names[row], "" if j == 0 else "same pixels" if group.exact[j]
                           else f"{group.distance[j]:.3f}", "") for j, row in enumerate(group.rows[:MEMBERS].tolist()))
    return markup("<section class='group'><h2>{}. {} <span class='soft'>· {}</span></h2><div class='found'>{}</div>"
                  "</section>", number, counted(len(group.rows), "image"), kind, cards)


def search_dict(found: Searched) -> dict[str, Any]:
    """What `search --json` prints."""
    index, who = found.index, found.recognised
    near = [[{"name": index.names[row], **({"label": index.label(row)} if index.has_labels else {}),
              "distance": round(distance, 6)} for row, distance in zip(rows, distances, strict=True)]
            for rows, distances in zip(found.found.rows.tolist(), found.found.distance.tolist(), strict=True)]
    answers: list[dict[str, Any]] = [{} for _ in near] if who is None else [
        {"known": bool(who.known[i]), "class": index.classes[int(who.answer[i])],
         "confidence": round(float(who.confidence[i]), 4), "distance": round(float(who.distance[i]), 6)}
        for i in range(len(near))]
    said: dict[str, Any] = {"by": found.by, "images": len(index), "queries": [
        {"name": name, **answer, "found": each}
        for name, answer, each in zip(found.queries.names, answers, near, strict=True)]}
    return said if found.recogniser is None else {**said, "unknown": _calibration_dict(found.recogniser)}


def _calibration_dict(by: Recogniser) -> dict[str, Any]:
    c = by.calibration
    kept, right = (None if math.isnan(v) else v for v in (c.kept, c.right_of_kept))
    return {"threshold": c.threshold, "refused": c.refused, "kept_of_known": kept, "right_of_kept": right,
            "calibrated_on": {"known": len(c.known), "unknown": len(c.unknown)}}


def duplicates_dict(found: FoundDuplicates) -> dict[str, Any]:
    """What `search --duplicates --json` prints."""
    d = found.duplicates
    return {"by": found.by, "images": d.n, "threshold": d.threshold.distance if d.threshold.distance >= 0 else None,
            "rate": d.threshold.rate, "mistakes_at_most": d.mistakes, "groups": [
                {"same_pixels": bool(g.exact.all()), "names": [found.names[row] for row in g.rows]} for g in d.groups]}
