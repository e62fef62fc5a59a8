"""The page of a classifier: how good it is, which classes it takes for which, and the images that it mistook."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...downstream.classifier import Classifier, about_codes
from ...downstream.scores import Judged, Score
from ...pretrained.pictures import grid
from ...text import Html, counted, joined, markup, short
from .run_page import STYLE, page

SHOWN = 12
"""Mistaken images of a confusion."""
CONFUSIONS = 8
MOST_CLASSES = 40
"""Whose confusions are shown as a table."""

LOOKS = STYLE + """
.wide { overflow-x: auto; }
.confusion { width: auto; }
.confusion th, .confusion td { padding: .25rem .5rem; text-align: right; border: 1px solid var(--line); }
.confusion th[scope=row] { text-align: right; white-space: nowrap; }
.confusion td { background: color-mix(in srgb, var(--hue) calc(var(--share) * 1%), var(--paper)); min-width: 2.6rem; }
.confusion td.right { --hue: var(--good); } .confusion td.wrong { --hue: var(--bad); }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1.4rem; }
"""


@dataclass(frozen=True)
class Measured:
    """A classifier, and its answers to images that it has not seen."""

    classifier: Classifier
    judged: Judged
    images: npt.NDArray[np.uint8]
    """(n, H, W, C), that were judged."""
    kind: str
    """Of them: 'test' or 'held-out'."""
    source: str
    left_out: Sequence[str] = ()
    """What had to be said of the data."""
    inferred: Sequence[Score] = ()
    """The same figures of the classes that a semi-supervised model infers itself."""


def classifier_html(run: str, measured: Measured) -> str:
    """The page."""
    c, judged = measured.classifier, measured.judged
    notes = joined(markup("<p class='soft'>{}.</p>", note) for note in measured.left_out)
    return page(f"{run}: {counted(len(c.classes), 'class').replace('classs', 'classes')}", LOOKS, markup(
        "<p class='soft'>{} learned from {} of <code>{}</code> and measured on {} {} images.</p>{}{}"
        "<h2>Figures</h2>{}<h2>Which class is taken for which</h2>{}<h2>The commonest mistakes</h2>{}"
        "<h2>How it was chosen</h2>{}",
        _named(c), counted(c.learned_from, "labelled image"), measured.source, f"{len(judged.truth):,}", measured.kind,
        notes, _verdict(judged),
        _figures(judged.scores(), measured.inferred),
        _confusion(judged, c.classes), _mistakes(measured), _choice(c)))


def _verdict(judged: Judged) -> Html:
    """The share of right answers, and whether it is surely more than the commonest class alone would give."""
    accuracy = judged.scores()[0]
    low, high = accuracy.interval or (accuracy.value, accuracy.value)
    commonest = float(np.bincount(judged.truth).max()) / len(judged.truth)
    better = low > commonest
    return markup("<div class='verdict{}'><strong>{:.1%} right</strong><p>Between {:.1%} and {:.1%}, with 95 % "
                  "confidence.{}</p></div>", "" if better else " problem", accuracy.value, low, high, "" if better else
                  f" The commonest class alone would give {commonest:.1%}: that this is better has not been shown.")


def _named(c: Classifier) -> str:
    said = {"linear": "Softmax regression", "discriminant": "A linear discriminant", "kernel": "A kernel classifier",
            "neighbours": "Nearest neighbours", "mlp": "A small network",
            "spread": "Labels passed on between near codes", "blend": "A kernel, and labels passed on between near codes,"}
    return f"{said[c.probe.kind]} on {about_codes(c.model)},"


def _figures(scores: Sequence[Score], inferred: Sequence[Score]) -> Html:
    """A row for each figure; of a semi-supervised model with its own beside those of the classifier of its codes."""
    columns = [scores, inferred] if inferred else [scores]
    heads = ("classifier of codes", "inferred by the model") if inferred else ("value",)
    rows = joined(markup("<tr><td>{}<br><span class='soft'>{}</span></td>{}</tr>", same[0].name, same[0].meaning, joined(
        markup("<td class='number'>{:.4g}</td><td class='number'>{}</td>", s.value, interval(s)) for s in same))
        for same in zip(*columns, strict=True))
    return markup("<table><thead><tr><th>figure</th>{}</tr></thead><tbody>{}</tbody></table>", joined(
        markup("<th class='number'>{}</th><th class='number'>95 % interval</th>", head) for head in heads), rows)


def interval(s: Score) -> str:
    return f"{s.interval[0]:.4g} … {s.interval[1]:.4g}" if s.interval else "–"


def _confusion(judged: Judged, classes: Sequence[str]) -> Html:
    """A row for each true class: counts, shaded by their share of the row."""
    if len(classes) > MOST_CLASSES:
        return markup("<p>{} classes are too many for a table.</p>", len(classes))
    counts = judged.confusion
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    heads = joined(markup("<th scope='col'>{}</th>", short(name, 16)) for name in classes)
    rows = joined(markup("<tr><th scope='row'>{}</th>{}</tr>", short(name, 24), joined(
        markup("<td class='{}' style='--share:{:.0f}' title='{} taken for {}: {:.1f} %'>{}</td>",
               "right" if i == j else "wrong", 0.7 * share[i, j], name, other, share[i, j], f"{n:,}" if n else "")
        for j, (other, n) in enumerate(zip(classes, counts[i].tolist(), strict=True)))) for i, name in enumerate(classes))
    return markup("<p class='soft'>A row for each true class, a column for each answer; shaded by the share of the row.</p>"
                  "<div class='wide'>"
                  "<table class='confusion'><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table>"
                  "</div>", heads, rows)


def _mistakes(measured: Measured) -> Html:
    classes, found = measured.classifier.classes, measured.judged.confused(CONFUSIONS)
    if not found:
        return markup("<p>None.</p>")
    return markup("<p class='soft'>The surest mistakes come first.</p><div class='mistakes'>{}</div>", joined(
        markup("<figure><img class='pixels' src='data:image/png;base64,{}' alt='{}'><figcaption>{} taken for {}: {} of {:,}"
               "</figcaption></figure>", _png(measured.images[rows[:SHOWN]]), f"{classes[i]} taken for {classes[j]}",
               classes[i], classes[j], len(rows), int((measured.judged.truth == i).sum())) for i, j, rows in found))


def _png(images: npt.NDArray[Any]) -> str:
    written = io.BytesIO()
    paper = np.full((-len(images) % 6, *images.shape[1:]), 255, np.uint8)
    grid(np.concatenate([images, paper]), 6, side=48).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


def _choice(c: Classifier) -> Html:
    if not c.probe.cross_validated:
        return markup("<p>No class had two labelled images, so nothing could be held out: it is taken as it comes.</p>")
    ranked = sorted(c.probe.cross_validated.items(), key=lambda item: item[1])
    rows = joined(markup("<tr><td>{}</td><td class='number'>{:.4g}</td></tr>", name, loss) for name, loss in ranked)
    return markup("<p>The least log loss on labelled training images that were held out won; temperature {:.3g}.</p>"
                  "<details><summary>{}</summary><table><thead><tr><th>candidate</th>"
                  "<th class='number'>log loss, nats</th></tr></thead>"
                  "<tbody>{}</tbody></table></details>", float(c.probe.arrays["temperature"]),
                  counted(len(ranked), "candidate"), rows)
