"""The page of a description of latents, and its table: what each latent moves, and what it goes along with."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...downstream.description import Described, Description
from ...downstream.meaning import Association, place_of
from ...files.tables import write_table
from ...files.writing import write_text
from ...metrics.figures import Figure
from ...pretrained.pictures import grid
from ...text import Html, counted, joined, markup
from .run_page import STYLE, interval_text, page, with_arrow

LISTED = 3
"""Associations of each direction that its card lists."""
NUMBERS = ("changed", "brightness", "size", "x", "y", "hue", "background_hue")
"""Of an effect, in the table's order."""
LOOKS = STYLE + """
.scroll { overflow-x: auto; } table.matrix { width: auto; } .matrix th, .matrix td { padding: .25rem .7rem .25rem 0; }
.matrix td.cell, .matrix th.cell { text-align: right; padding: .25rem .5rem; white-space: nowrap; }
.matrix td.cell { background: color-mix(in srgb, var(--bar) var(--share), transparent); }
.matrix th[scope] { white-space: nowrap; } table.scores { max-width: 44rem; } .scroll + p { margin-top: 1.4rem; }
.matrix td.none { color: var(--soft); }
article { border-top: 1px solid var(--line); padding: 1rem 0 1.1rem; }
h3 { font-size: 1.05rem; margin: 0 0 .15rem; } h3 .soft { font-weight: 400; }
.walk { display: grid; grid-template-columns: minmax(0, 1fr) 4.6rem; gap: .7rem; margin: .5rem 0; max-width: 54rem;
        align-items: center; }
.goes { display: flex; flex-wrap: wrap; gap: .1rem 1.6rem; list-style: none; margin: .3rem 0 0; padding: 0;
        font-size: .92rem; }
@media (max-width: 42rem) { .walk { grid-template-columns: minmax(0, 1fr) 2.6rem; gap: .4rem; } }
"""
SECTIONS = (
    ("Latents", "Single numbers of the code, those that carry most information about an image first.", "latents"),
    ("Principal components", "Directions along which the codes vary most, across all latents.", "components"),
    ("Visible directions", "Directions along which the decoder's images change most, for one standard deviation of the "
     "codes: the leading right singular vectors of its Jacobian, at several codes together.", "visible"))


def write_latents(found: Description, title: str, out: Path, table: Path) -> None:
    """Writes the page, which stands alone, and the table.

    Raises:
        ReparamError: one of them cannot be written.
    """
    write_text(out, latents_html(found, title))
    write_table(table, columns_of(found))


def columns_of(found: Description) -> dict[str, list[object]]:
    """The table's columns, a row for each direction: four for each column of what is known of the images."""
    every = list(found.all)
    columns: dict[str, list[object]] = {
        "direction": [each.name for each in every], "kind": [each.kind for each in every],
        "place": [each.place for each in every], "amount": [_short(each.amount) for each in every],
        "goes with": [each.best.column if each.best else "" for each in every],
        **{name: [_short(getattr(each.effect, name)) for each in every] for name in NUMBERS},
        "moves": [each.moves for each in every]}
    for name in found.columns:
        known = [next((a for a in each.associations if a.column == name), None) for each in every]
        columns |= {f"{name} share": [a and _short(a.explained) for a in known],
                    f"{name} low": [a and _short(a.interval[0]) for a in known],
                    f"{name} high": [a and _short(a.interval[1]) for a in known],
                    f"{name} found": [a and a.found for a in known]}
    return columns


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def description_dict(found: Description) -> dict[str, Any]:
    """What `describe --json` prints."""
    return {"images": found.n, "measured_on": found.kind, "columns": list(found.columns), "carrying": found.carrying,
            "notes": list(found.notes), "scores": [f.to_dict() for f in found.scores],
            **{name: [_described_dict(each) for each in group] for name, group in
               (("latents", found.latents), ("components", found.components), ("visible", found.visible))}}


def _described_dict(each: Described) -> dict[str, Any]:
    return {"name": each.name, "place": each.place, "amount": _short(each.amount), "moves": each.moves,
            "goes_with": each.best.column if each.best else None,
            "effect": {name: _short(getattr(each.effect, name)) for name in NUMBERS},
            "associations": [{"column": a.column, "share": _short(a.explained), "interval": list(map(_short, a.interval)),
                              "found": a.found} for a in each.associations]}


def sentence_of(found: Description) -> str:
    """What was found, in a sentence."""
    total = counted(found.carrying, "latent")
    if not found.n:
        return f"{total}, by how much they change an image"
    carry = f"{total} {'carries' if found.carrying == 1 else 'carry'} 0.01 nats or more about an image"
    if not found.columns:
        return f"{carry}; nothing is known of the {found.n:,} {found.kind} that they could go along with"
    with_one = sum(each.best is not None for each in found.latents)
    return (f"{carry}; of the {len(found.latents)} shown {with_one} {'goes' if with_one == 1 else 'go'} along with "
            f"something that is known of {found.n:,} {found.kind}")


def latents_html(found: Description, title: str) -> str:
    """The page."""
    notes = joined(markup("<li>{}</li>", note) for note in found.notes)
    sections = joined(markup("<section><h2>{}</h2><p class='soft'>{}</p>{}</section>", heading, about,
                             joined(map(_card, getattr(found, name))))
                      for heading, about, name in SECTIONS if getattr(found, name))
    return page(f"Latents of {title}", LOOKS, markup(
        "<p>{}.</p>{}{}<p class='soft'>{}</p>{}{}", sentence_of(found),
        markup("<ul class='soft'>{}</ul>", notes) if notes else "", _matrix(found), HOW, sections, _scores(found.scores)))


HOW = (
    "Each row of pictures walks along one direction, from the first to the last percentile of the codes, through a typical "
    "image: the one whose code is nearest to the mean. The square beside it shows where pixels change: bright where most, "
    "each by its own measure. What moves is told from the first picture to the last; the foreground is what differs from "
    "the colours of the border.")


def _matrix(found: Description) -> Html:
    """Latents by columns: the share of each latent's variance that a column explains."""
    if not found.columns:
        return Html()
    head = joined(markup("<th class='cell'>{}</th>", name) for name in found.columns)
    rows = joined(markup("<tr><th scope='row'>{}</th>{}</tr>", each.name, joined(
        _cell({a.column: a for a in each.associations}[name]) for name in found.columns)) for each in found.latents)
    return markup(
        "<h2>What goes along with what</h2><p class='soft'>{}</p><div class='scroll'><table class='matrix'><thead><tr>"
        "<th></th>{}</tr></thead><tbody>{}</tbody></table></div>", SHARES, head, rows)


SHARES = ("The share of a latent's variance that lies between the levels of a column, less what chance adds. Faint: none "
          "that could be told from chance, at a rate of false discoveries of 5 % over all latents and columns.")


def _cell(a: Association) -> Html:
    if not a.found:
        return markup("<td class='cell none' style='--share: 0%'>{:.0%}</td>", a.explained)
    return markup("<td class='cell' style='--share: {:.0f}%' title='{}'>{:.0%}</td>", 70 * a.explained, _interval(a),
                  a.explained)


def _interval(a: Association) -> str:
    return f"{100 * a.interval[0]:.0f} … {100 * a.interval[1]:.0f} %"


def _scores(scores: Sequence[Figure]) -> Html:
    rows = joined(markup("<tr><td>{}</td><td class='number'>{:.3f}</td><td class='number'>{}</td><td>{}</td></tr>",
                         with_arrow(f), f.value, interval_text(f), f.unit) for f in scores)
    return markup("<h2>Scores of disentanglement</h2><div class='scroll'><table class='scores'><thead><tr><th>figure</th>"
                  "<th class='number'>value</th><th class='number'>95 % interval</th><th>unit</th></tr></thead>"
                  "<tbody>{}</tbody></table></div>", rows) if rows else rows


def _card(each: Described) -> Html:
    goes = joined(markup("<li>{} <b>{:.0%}</b> <span class='soft'>{}</span></li>", a.column, a.explained, _interval(a))
                  for a in each.associations[:LISTED] if a.found)
    facts = " · ".join(filter(None, (each.place, amount_of(each))))
    title = f"{each.name.capitalize()}{f': {each.best.column}' if each.best else ''}"
    return markup(
        "<article><h3>{} <span class='soft'>· {}</span></h3><p>Moves: {}. <span class='soft'>Pixels change by {:.1%} "
        "of black to white, {}.</span></p><div class='walk'>{}{}</div>{}</article>", title, facts, each.moves,
        each.effect.changed, place_of(each.effect.where),
        embedded_picture(grid(each.walk, len(each.walk)), f"a walk along {each.name}"),
        embedded_picture(heat(each.effect.where), f"where {each.name} changes pixels"),
        markup("<ul class='goes'>{}</ul>", goes) if goes else "")


def amount_of(each: Described) -> str:
    """How much a direction matters, with its unit."""
    if each.kind == "latent":
        return f"{each.amount:.2f} nats" if each.amount else "no information is known"
    if each.kind == "component":
        return f"{each.amount:.0%} of the codes' variance"
    return f"{each.amount:.3f} of black to white for one standard deviation, root mean square"


def heat(where: np.ndarray, at_least: float = 1e-12) -> Image.Image:
    """A map (H, W) in colours, from dark to bright at its own maximum, or at a value that is larger."""
    from matplotlib import colormaps

    share = where / max(float(where.max()), at_least)
    return Image.fromarray((255 * np.asarray(colormaps["inferno"](share))[..., :3]).astype(np.uint8))


def embedded_picture(picture: Image.Image, alt: str) -> Html:
    """A picture within a page."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return markup("<img class='pixels' src='data:image/png;base64,{}' alt='{}'>", text, alt)
