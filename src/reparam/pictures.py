"""Grids of images and curves of training, as PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .files import replacing
from .text import for_plot

GAP = 2
PAPER = 255


def visible(images: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W[, C]) as (n, H, W, 3): grey is repeated, an alpha channel is laid on white, further ones left out."""
    x = images[..., None] if images.ndim == 3 else images
    c = x.shape[-1]
    if c in (2, 4):
        alpha = x[..., -1:].astype(np.float32) / 255
        x = (x[..., :-1] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3]


def grid(images: np.ndarray, columns: int | None = None, *, side: int = 64) -> Image.Image:
    """Images (n, H, W[, C]) uint8 in rows, small ones enlarged by a whole factor to about `side` pixels."""
    x = visible(images)
    n, h, w, _ = x.shape
    columns = columns or math.ceil(n**0.5)
    zoom = max(1, side // max(h, w))
    x = x.repeat(zoom, 1).repeat(zoom, 2)
    h, w, rows = h * zoom, w * zoom, -(-n // columns)
    paper = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, 3), PAPER, np.uint8)
    for i, image in enumerate(x):
        top, left = GAP + i // columns * (h + GAP), GAP + i % columns * (w + GAP)
        paper[top : top + h, left : left + w] = image
    return Image.fromarray(paper)


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG atomically."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)


def pairs(originals: np.ndarray, rebuilt: np.ndarray, columns: int = 8) -> np.ndarray:
    """Rows of originals, each above the row of its reconstructions."""
    columns, rows = min(columns, len(originals)), list[np.ndarray]()
    for i in range(0, len(originals), columns):
        for row in (originals[i : i + columns], rebuilt[i : i + columns]):
            blank = [(0, columns - len(row))] + [(0, 0)] * (row.ndim - 1)
            rows.append(np.pad(row, blank, constant_values=PAPER))
    return np.concatenate(rows)


def curves(records: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]], terms: Sequence[str]) -> Image.Image:
    """Each term over training, held-out −ELBO, gradient norm and learning speed, from `metrics.jsonl`; with gaps where no
    step of a record had a finite value."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    total, rate, norm = figure.subplots(1, 3)
    steps, losses = [r["step"] for r in records], _numbers(r["loss"] for r in records)
    total.plot(steps, losses, label="training", lw=1)
    bounds = [(r["step"], r["held_out"]["-elbo"]) for r in held_out if "-elbo" in r["held_out"]]
    if bounds:
        total.plot(*zip(*bounds, strict=True), label="held out −ELBO", lw=1.5)
    total.set_ylabel("nats per image")
    settled = np.append(losses[len(records) // 10:], [v for _, v in bounds[1:]])
    settled = settled[np.isfinite(settled)]
    if len(settled):
        low, high = float(settled.min()), float(np.quantile(settled, 0.98))
        total.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.15 * (high - low) + 1e-3)
    for name in terms:
        if name != "nll":
            rate.plot(steps, _numbers(r["terms"].get(name) for r in records), label=for_plot(name), lw=1)
    judged = [(r["step"], r["critic"]) for r in records if r.get("critic") is not None]
    if judged:
        rate.plot(*zip(*judged, strict=True), label="critic", lw=1)
    rate.set_ylabel("nats per image")
    norms = _numbers(r["grad_norm"] for r in records)
    norm.plot(steps, norms, label="gradient norm", lw=1)
    if (norms > 0).any():
        norm.set_yscale("log")
    for axis in (total, rate, norm):
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer)


def _numbers(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    """Values with NaN where there is none."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
