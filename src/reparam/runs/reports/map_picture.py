"""The picture of a map: a point for each image in its colour, and images that stand for their surroundings."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...downstream.maps import Known, landmarks
from ...pretrained.pictures import scaled, visible
from ...text import counted, for_plot
from ..mapping import Mapped

PLAIN, UNKNOWN = "#3b73b9", "#9aa3ad"
SIZE, DPI = (12.0, 9.0), 120
SIDE, FRAME = 52, 3
"""Pixels of an image on the map, and of its frame."""
SPACING = 1.65 * SIDE
OF_COLOUR = re.compile("#[0-9a-fA-F]{6}")
"""A class whose name is a colour has that colour."""
SHADES = 64
"""Of numbers."""


def sentence_of(found: Mapped) -> str:
    """What the map is, and how far to trust it."""
    trust = found.map.trustworthiness
    how = "too few to say how far it can be trusted" if math.isnan(trust) else \
        f"trustworthiness {trust:.3f} (1: every image's neighbours here are its neighbours in the latent space)"
    return f"{counted(len(found.rows), 'image')} by {found.map.method}; {how}"


def colours_of(found: Mapped) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Colours, the last one for what is not known, and which of them each image has, (n,)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    known = found.known
    if known is None:
        return [PLAIN, UNKNOWN], np.zeros(len(found.rows), np.int64)
    if known.classes:
        chosen: Any = colormaps["tab10" if len(known.classes) <= 10 else "tab20"]
        colours = [name.lower() if OF_COLOUR.fullmatch(name) else to_hex(chosen(i)) for i, name in enumerate(known.classes)]
        return [*colours, UNKNOWN], np.where(known.values < 0, len(colours), known.values)
    low, high = known.span
    share = (known.values - low) / max(high - low, 1e-300) * (SHADES - 1)
    shade = np.where(np.isnan(share), SHADES, np.nan_to_num(share).round()).astype(np.int64)
    return [*(to_hex(colormaps["viridis"](i / (SHADES - 1))) for i in range(SHADES)), UNKNOWN], shade


def draw_map(found: Mapped) -> Image.Image:
    """The picture, with a legend."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    colours, which = colours_of(found)
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    xy = found.map.xy
    order = np.argsort(np.random.default_rng(0).random(len(xy)))  # no class lies on top of all others
    axes.scatter(*xy[order].T, c=[colours[i] for i in which[order]], s=float(np.clip(60_000 / len(xy), 8, 60)),
                          alpha=0.75, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.04)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.supxlabel(sentence_of(found), x=0.02, ha="left", fontsize=10, color="#5b6675")
    _legend(figure, axes, found.known, colours)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    picture = Image.open(written).convert("RGB")
    at = axes.transData.transform(xy) * [1, -1] + [0, picture.height]
    for row in landmarks(at, SPACING)[::-1]:
        _paste(picture, visible(found.images.images[found.rows[[row]]])[0], at[row], colours[which[row]])
    return picture


def _legend(figure: Any, axes: Any, known: Known | None, colours: list[str]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    if known is None:
        return
    if not known.classes:
        bar = figure.colorbar(ScalarMappable(Normalize(*known.span), "viridis"), ax=axes, shrink=0.5, aspect=30, pad=0.01)
        bar.set_label(for_plot(known.name))
        bar.outline.set_visible(False)
        return
    names = [*known.classes, *([f"no {known.name}"] if known.unknown else [])]
    shown = [colours[i] for i in range(len(known.classes))] + ([UNKNOWN] if known.unknown else [])
    marks = [Line2D([], [], marker="o", ls="", color=colour, label=for_plot(name)) for name, colour in
             zip(names, shown, strict=True)]
    figure.legend(handles=marks, title=for_plot(known.name), loc="outside right upper", frameon=False)


def _paste(picture: Image.Image, image: npt.NDArray[np.uint8], at: npt.NDArray[np.float64], colour: str) -> None:
    """An image in the middle of a place, in a frame of its colour."""
    small = scaled(image, SIDE)
    framed = Image.new("RGB", (small.width + 2 * FRAME, small.height + 2 * FRAME), colour)
    framed.paste(small, (FRAME, FRAME))
    picture.paste(framed, (round(at[0] - framed.width / 2), round(at[1] - framed.height / 2)))
