"""The page of odd images, the oddest first, and its table."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from ...downstream.anomaly import STATISTICS
from ...files.writing import replacing, write_text
from ...pretrained.pictures import grid, visible
from ...text import Html, counted, for_csv, joined, markup
from ..anomalies import Anomalies
from .latents_page import embedded_picture, heat
from .run_page import STYLE, page

MEANING = {"rate": "nats in the code", "distortion": "error of its reconstruction",
           "corrected": "likelihood beside how simple it is", "code_distance": "distance of its code from training codes",
           "local": "one spot that is not reconstructed"}
"""Of each statistic, in a page's words."""
LOOKS = STYLE + """
.odd { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.4rem 1.6rem; }
.odd figure { margin: 0; } .odd img { width: 100%; } .odd figcaption { overflow-wrap: anywhere; }
"""
HOW = (
    "Each picture shows an image, its reconstruction, and where the two differ more than held-out images usually do there. "
    "A p-value is the share of held-out images that are at least as odd. Percentages are of held-out images.")


def write_anomalies(found: Anomalies, title: str, out: Path, table: Path) -> None:
    """Writes the page, which stands alone, and the table of all images, the oddest first.

    Raises:
        ReparamError: one of them cannot be written.
    """
    write_text(out, anomalies_html(found, title))
    with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["name", "odd", "p_value", "score", *STATISTICS, *(f"{name} percentile" for name in STATISTICS)])
        for i in found.order:
            rows.writerow([for_csv(found.images.names[i]), int(found.odd[i]), *(f"{v:.6g}" for v in (
                found.oddness.p_value[i], found.oddness.score[i], *found.oddness.statistics[i], *found.percentiles[i]))])


def sentence_of(found: Anomalies) -> str:
    """What was found, in a sentence."""
    n = len(found.odd)
    called = counted(int(found.odd.sum()), "image is", "images are")
    said = (f"{called} odd of {n:,}, of which {found.rate:.0%} are expected to be mistakes; p-values are shares of "
            f"{found.calibrated_on:,} held-out images")
    needed = math.ceil(n / (found.rate * (1 + found.calibrated_on)))
    if found.odd.any() or needed < 2:
        return said
    return f"{said}, so that fewer than {needed} odd images among so many cannot be told from chance: judge fewer at a time"


def unusual(found: Anomalies, row: int) -> str:
    """The statistics of an image that lie beyond nearly all held-out ones, in words."""
    shares = found.percentiles[row]
    beyond = [f"{MEANING[name]}: {'higher' if share > 0.5 else 'lower'} than {max(share, 1 - share):.1%}"
              for name, share in zip(STATISTICS, shares, strict=True) if not 0.025 < share < 0.975]
    return "; ".join(beyond) or "each number by itself is usual"


def anomalies_html(found: Anomalies, title: str) -> str:
    """The page."""
    cards = joined(_card(found, int(i), rebuilt) for i, rebuilt in zip(found.order, found.rebuilt, strict=False))
    return page(f"Odd images for {title}", LOOKS, markup(
        "<p>{}.</p><p class='soft'>{}</p><div class='odd'>{}</div>", sentence_of(found), HOW, cards))


def _card(found: Anomalies, i: int, rebuilt: np.ndarray) -> Html:
    where = np.log(np.maximum(found.oddness.where[i].numpy(), 1.0))
    heated = np.asarray(heat(where))
    strip = np.stack([visible(found.images.images[i][None])[0], visible(rebuilt[None])[0], heated])
    name = found.images.names[i]
    return markup("<figure>{}<figcaption><b>{}</b> {} p = {:.3g}. {}.</figcaption></figure>",
                  embedded_picture(grid(strip, 3), f"{name}, its reconstruction, and where it is odd"), name,
                  "odd," if found.odd[i] else "", found.oddness.p_value[i], unusual(found, i))
