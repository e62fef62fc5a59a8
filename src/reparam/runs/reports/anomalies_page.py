"""The page of odd images, the oddest first, and its table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ...downstream.measures import STATISTICS
from ...files.tables import write_table
from ...files.writing import write_text
from ...pretrained.pictures import grid, visible
from ...text import Html, counted, joined, markup
from ..anomalies import Anomalies
from .latents_page import embedded_picture, heat
from .run_page import STYLE, page

ALONE = 0.01
"""A p-value that the page counts by itself."""
BRIGHT = 0.9
"""Maps are brightest at their own maximum, or at this quantile of all images' maxima: what differs little stays dark."""
LOOKS = STYLE + """
.odd { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.4rem 1.6rem; }
.odd figure { margin: 0; } .odd img { width: 100%; } .odd figcaption { overflow-wrap: anywhere; }
"""
HOW = (
    "Each picture shows an image, its reconstruction, and where the two differ more than held-out images usually do there. "
    "A p-value is the share of held-out images that are at least as odd; what is unusual is told by the share of held-out "
    "images below or above.")


def write_anomalies(found: Anomalies, title: str, out: Path, table: Path) -> None:
    """Writes the page, which stands alone, and the table of all images, the oddest first.

    Raises:
        ReparamError: one of them cannot be written.
    """
    write_text(out, anomalies_html(found, title))
    judged, order = found.oddness, found.order
    write_table(table, {
        "name": [found.images.names[i] for i in order], "odd": found.odd[order], "p_value": judged.p_value[order],
        "score": judged.score[order],
        **{f"{name}{ending}": values[order, i] for ending, values in
           (("", judged.statistics), (" percentile", judged.percentiles), (" p_value", judged.p_values))
           for i, name in enumerate(judged.names)}})


def sentence_of(found: Anomalies) -> str:
    """What was found, in a sentence."""
    n, alone = len(found.odd), int((found.oddness.p_value <= ALONE).sum())
    said = (f"{counted(int(found.odd.sum()), 'image')} of {n:,} called odd, at a false discovery rate of {found.rate:.0%}; "
            f"{alone} {'has' if alone == 1 else 'have'} a p-value of {ALONE} or less, and chance alone would give "
            f"{ALONE * n:.3g} (by {found.calibrated_on:,} held-out images)")
    needed = math.ceil(n / (found.rate * (1 + found.calibrated_on)))
    if found.odd.any() or needed < 2:
        return said
    return f"{said}. Fewer than {needed} odd images among so many cannot be told from chance: judge fewer at a time"


def unusual(found: Anomalies, row: int) -> str:
    """The statistics of an image that lie beyond nearly all held-out ones, in words; three at most."""
    shares = found.oddness.percentiles[row]
    extreme = sorted(zip(found.oddness.names, shares, strict=True), key=lambda each: -abs(each[1] - 0.5))
    beyond = [f"{STATISTICS[name].meaning} {'above' if share > 0.5 else 'below'} {_most(max(share, 1 - share))}"
              for name, share in extreme[:3] if not 0.025 < share < 0.975]
    return "; ".join(beyond) or "each number by itself is usual"


def _most(share: float) -> str:
    return "all" if share >= 0.9995 else f"{share:.1%}"


def anomalies_html(found: Anomalies, title: str) -> str:
    """The page."""
    bright = float(np.quantile(found.oddness.where.flatten(1).amax(1).clamp(min=1).log().numpy(), BRIGHT)) or 1.0
    cards = joined(_card(found, int(i), rebuilt, bright) for i, rebuilt in zip(found.order, found.rebuilt, strict=False))
    return page(f"Odd images for {title}", LOOKS, markup(
        "<p>{}.</p><p class='soft'>{}</p><div class='odd'>{}</div>", sentence_of(found), HOW, cards))


def _card(found: Anomalies, i: int, rebuilt: np.ndarray, bright: float) -> Html:
    where = np.log(np.maximum(found.oddness.where[i].numpy(), 1.0))
    strip = np.stack([visible(found.images.images[i][None])[0], visible(rebuilt[None])[0], np.asarray(heat(where, bright))])
    name = found.images.names[i]
    return markup("<figure>{}<figcaption><b>{}</b> {}p = {:.3g}: {}.</figcaption></figure>",
                  embedded_picture(grid(strip, 3), f"{name}, its reconstruction, and where it is odd"), name,
                  "odd, " if found.odd[i] else "", found.oddness.p_value[i], unusual(found, i))
