"""The page of a map: every image comes up under the pointer, and more of them show as one looks closer."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np

from ...files.writing import write_text
from ...pretrained.pictures import sprite, thumbnails
from ...text import Html, for_json, joined, markup, printable
from ..mapping import Mapped
from .map_picture import UNKNOWN, colours_of, sentence_of
from .run_page import STYLE, page

SIDE = 48
"""Pixels of an image within the page."""
LOOKS = STYLE + """
body { max-width: 100rem; }
#map { position: relative; border: 1px solid var(--line); border-radius: .4rem; overflow: hidden; }
canvas { display: block; width: 100%; height: min(74vh, 52rem); touch-action: none; cursor: crosshair; }
#sprite { display: none; }
#card { position: absolute; pointer-events: none; display: none; background: var(--paper); border: 1px solid var(--line);
        border-radius: .4rem; padding: .5rem; max-width: 13rem; font-size: .85rem; line-height: 1.3; overflow-wrap: anywhere;
        box-shadow: 0 .2rem .8rem rgb(0 0 0 / .25); }
#card canvas { width: 9rem; height: auto; image-rendering: pixelated; margin-bottom: .35rem; }
#legend { display: flex; flex-wrap: wrap; gap: .2rem .5rem; margin: .7rem 0; }
#legend button { font: inherit; font-size: .9rem; color: inherit; background: none; border: 1px solid var(--line);
                 border-radius: 1rem; padding: .05rem .7rem; cursor: pointer; }
#legend button[aria-pressed=false] { opacity: .35; } #legend i { display: inline-block; width: .7rem; height: .7rem;
                 border-radius: 50%; margin-right: .35rem; }
#legend .shades { width: 14rem; height: .8rem; border-radius: .3rem; align-self: center; }
"""
HOW = ("Point at a dot to see its image; turn the wheel to look closer, drag to move, double-click to see all.")
BUTTONS = " A class goes away and comes back by its button."
SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent);
const canvas = document.querySelector('#map > canvas'), pen = canvas.getContext('2d');
const card = document.getElementById('card'), shown = card.querySelector('canvas'), text = card.querySelector('div');
const sprite = document.getElementById('sprite'), [w, h] = data.size, hidden = new Set();
const large = Math.max(1, 28 / Math.max(w, h));
let view = null, held = null, over = -1;
const width = () => canvas.clientWidth, height = () => canvas.clientHeight;
function whole() {
  const [x0, y0, x1, y1] = data.bounds;
  const scale = 0.92 * Math.min(width() / (x1 - x0 || 1), height() / (y1 - y0 || 1));
  return {scale, x: width() / 2 - scale * (x0 + x1) / 2, y: height() / 2 + scale * (y0 + y1) / 2};
}
const place = i => [view.x + view.scale * data.x[i], view.y - view.scale * data.y[i]];
const visible = i => !hidden.has(data.colour[i]);
function image(on, i, x, y, tall, wide) {
  on.drawImage(sprite, (i % data.columns) * w, Math.floor(i / data.columns) * h, w, h, x, y, wide, tall);
}
function draw() {
  const zoom = window.devicePixelRatio || 1;
  canvas.width = zoom * width(); canvas.height = zoom * height();
  pen.setTransform(zoom, 0, 0, zoom, 0, 0);
  pen.imageSmoothingEnabled = large === 1;
  pen.globalAlpha = .8;
  const inside = data.order.filter(i => { const [x, y] = place(i);
    return visible(i) && x > -w && y > -h && x < width() + w && y < height() + h; });
  for (const i of inside) {
    const [x, y] = place(i);
    pen.fillStyle = data.colours[data.colour[i]]; pen.beginPath(); pen.arc(x, y, 3, 0, 7); pen.fill();
  }
  pen.globalAlpha = 1;
  const taken = new Map(), space = 1.9 * large * Math.max(w, h);
  for (const i of inside) {
    const [x, y] = place(i), a = Math.floor(x / space), b = Math.floor(y / space);
    let free = true;
    for (let p = a - 1; p <= a + 1 && free; p++) for (let q = b - 1; q <= b + 1 && free; q++) {
      const at = taken.get(p + ',' + q);
      if (at && Math.max(Math.abs(at[0] - x), Math.abs(at[1] - y)) < space) free = false;
    }
    if (free) { taken.set(a + ',' + b, [x, y]); framed(i, x, y, large); }
  }
  if (over >= 0) framed(over, ...place(over), 1.5 * large);
}
function framed(i, x, y, by) {
  pen.fillStyle = data.colours[data.colour[i]];
  pen.fillRect(x - by * w / 2 - 3, y - by * h / 2 - 3, by * w + 6, by * h + 6);
  image(pen, i, x - by * w / 2, y - by * h / 2, by * h, by * w);
}
function point(e) {
  const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
  let best = 20 * 20, found = -1;
  for (let i = 0; i < data.x.length; i++) if (visible(i)) {
    const [a, b] = place(i), away = (a - x) ** 2 + (b - y) ** 2;
    if (away < best) { best = away; found = i; }
  }
  if (found !== over) { over = found; draw(); }
  card.style.display = found < 0 ? 'none' : 'block';
  if (found < 0) return;
  shown.width = w; shown.height = h;
  image(shown.getContext('2d'), found, 0, 0, h, w);
  text.textContent = data.names[found] + (data.known ? '\\n' + data.known + ': ' + (data.cells[found] || '–') : '');
  card.style.left = Math.max(0, Math.min(x + 18, width() - card.offsetWidth - 4)) + 'px';
  card.style.top = Math.max(0, Math.min(y + 18, height() - card.offsetHeight - 4)) + 'px';
}
canvas.addEventListener('pointermove', e => {
  if (!held) return point(e);
  view.x += e.clientX - held[0]; view.y += e.clientY - held[1]; held = [e.clientX, e.clientY]; draw();
});
canvas.addEventListener('pointerdown', e => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener('pointerup', () => { held = null; });
canvas.addEventListener('pointerleave', () => { over = -1; card.style.display = 'none'; draw(); });
canvas.addEventListener('wheel', e => {
  e.preventDefault();
  const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
  const by = Math.exp(-e.deltaY / 500);
  view = {scale: view.scale * by, x: x + by * (view.x - x), y: y + by * (view.y - y)}; draw();
}, {passive: false});
canvas.addEventListener('dblclick', () => { view = whole(); draw(); });
for (const button of document.querySelectorAll('#legend button')) button.addEventListener('click', () => {
  const k = Number(button.dataset.colour), gone = hidden.delete(k) || !hidden.add(k);
  button.setAttribute('aria-pressed', gone); draw();
});
function start() { view = whole(); draw(); }
sprite.decode().then(start);
window.addEventListener('resize', start);
"""


def write_map_page(found: Mapped, title: str, out: Path) -> None:
    """Writes the page, which stands alone.

    Raises:
        ReparamError: it cannot be written.
    """
    write_text(out, map_html(found, title))


def map_html(found: Mapped, title: str) -> str:
    """The page."""
    pictures = thumbnails(found.pixels, SIDE)
    written = io.BytesIO()
    sprite(pictures).save(written, "WEBP", quality=82)
    encoded = base64.b64encode(written.getvalue()).decode("ascii")
    notes = joined(markup("<p class='soft'>{}.</p>", note) for note in found.notes)
    return page(f"Map of {title}", LOOKS, markup(
        "<p>{}.</p>{}<p class='soft'>{}</p><div id='legend'>{}</div>"
        "<div id='map'><canvas role='img' aria-label='a map of images'></canvas><div id='card'><canvas></canvas><div "
        "style='white-space: pre-line'></div></div></div><img id='sprite' alt='' src='data:image/webp;base64,{}'>"
        "<script type='application/json' id='data'>{}</script><script>{}</script>", sentence_of(found), notes,
        HOW + (BUTTONS if found.known is not None and found.known.classes else ""), _legend(found),
        Html(encoded), _data(found, pictures.shape[1:3]), Html(SCRIPT)))


def _data(found: Mapped, size: tuple[int, ...]) -> Html:
    """What the script reads; no '<' in it can end the element that it stands in."""
    colours, which = colours_of(found)
    xy, known = found.map.xy.round(5), found.known
    order = np.random.default_rng(0).permutation(len(xy))
    facts = {"x": xy[:, 0].tolist(), "y": xy[:, 1].tolist(), "bounds": [*xy.min(0).tolist(), *xy.max(0).tolist()],
             "order": order.tolist(), "size": [size[1], size[0]], "columns": math.ceil(len(xy) ** 0.5),
             "names": list(map(printable, found.names)), "known": printable(known.name) if known else "",
             "cells": list(map(printable, known.cells)) if known else [], "colours": colours, "colour": which.tolist()}
    return Html(for_json(facts).replace("<", "\\u003c"))


def _legend(found: Mapped) -> Html:
    known, (colours, _) = found.known, colours_of(found)
    if known is None:
        return Html()
    if not known.classes:
        low, high = known.span
        return markup("<span>{} {:.3g}</span><span class='shades' style='background: linear-gradient(to right, {})'></span>"
                      "<span>{:.3g}</span>", known.name, low, ", ".join(colours[:-1:7]), high)
    names = [*enumerate(known.classes), *([(len(known.classes), f"no {known.name}")] if known.unknown else [])]
    return joined(markup("<button type='button' aria-pressed='true' data-colour='{}'><i style='background: {}'></i>{}"
                         "</button>", i, colours[i] if i < len(known.classes) else UNKNOWN, name) for i, name in names)
