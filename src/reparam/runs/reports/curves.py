"""A picture of how training went."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...text import for_plot


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
