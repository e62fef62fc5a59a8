"""What follows training: the prior, the figures, the pictures, the verdict and the report."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .checkpoint import Config, save_model
from .data import ImageSet
from .data.stream import binarized, to_batch
from .diagnose import History, diagnose
from .evaluating import Options, evaluate_arrays, write_evaluation
from .files import write_text
from .fitting import calibrate_likelihood, fit_prior, latent_axes
from .generate import ImageModel
from .loop import State
from .metrics import OF_GANS, QUICK
from .metrics.evaluation import FEWEST
from .pictures import curves, grid, pairs, save_png
from .report import model_card, report_html
from .reporting import Reporter
from .run import Run, read_metrics
from .vae import VAE

MOST_MEASURED = 2000
"""Images that are measured at the end of training; `evaluate` takes all."""


def finish(run: Run, images: ImageSet, state: State, report: Reporter, *, interrupted: bool) -> None:
    """Completes a run's folder from the state that its training ended in."""
    began = time.perf_counter()
    training_set, validation_set, test_set = images.split()
    model = state.ema.eval()
    device = next(model.parameters()).device
    known = to_batch(images.images[_spread(training_set, 20_000)], device)
    known = binarized(known) if run.recipe.binarize else known
    if isinstance(model, VAE):
        report.say("fitting the prior to the codes")
    calibrate_likelihood(model, known[:2000])
    fitted = fit_prior(model, run.recipe, known, run.recipe.seed)
    _, h, w, c = images.images.shape
    config = Config(run.recipe, (c, h, w), fitted, latent_axes(model, known[:2000]), images.classes,
                    {"source": images.source, "fingerprint": images.fingerprint, "images": len(training_set),
                     "background": run.options.background, "value_range": run.options.value_range})
    save_model(run.folder, model, config)
    measured = test_set if len(test_set) else validation_set
    kind = "test" if len(test_set) else "held-out"
    quick = (QUICK, Options()) if isinstance(model, VAE) else (OF_GANS, Options(features="wavelets"))
    figures = evaluate_arrays(ImageModel(model, config, device), images, _spread(measured, MOST_MEASURED), quick[0], report,
                              options=quick[1]) if isinstance(model, VAE) or len(measured) >= FEWEST else []
    records = read_metrics(run.folder / "metrics.jsonl")
    verdict = diagnose(figures, History(state.step, state.guard.skipped, state.rollbacks,
                                        [r["held_out"]["-elbo"] for r in records if "-elbo" in r.get("held_out", {})]))
    run.facts["outcome"] = {
        "steps": state.step, "images_seen": state.images, "training_seconds": round(state.seconds, 1),
        "cpu_seconds": round(state.cpu_seconds, 1),
        "skipped_steps": state.guard.skipped, "rollbacks": state.rollbacks, "measured_on": kind,
        "finishing_seconds": round(time.perf_counter() - began, 1)}
    write_evaluation(run, figures, verdict, kind)
    report.say("drawing pictures")
    draw(run, ImageModel(model, config, device), images.images[_spread(measured, 16)], records)
    write_text(run.folder / "report.html", report_html(run, config, figures, verdict))
    write_text(run.folder / "README.md", model_card(run, config, figures, verdict))
    run.status = "interrupted" if interrupted else "finished"
    run.save()


def _spread(indices: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the indices, evenly spaced."""
    return indices[:: max(-(-len(indices) // most), 1)]


def draw(run: Run, model: ImageModel, originals: np.ndarray, records: list[dict[str, Any]]) -> None:
    """Writes samples, reconstructions beside their originals, traversals and curves."""
    folder = run.folder
    save_png(grid(model.sample(64, seed=run.recipe.seed), 8), folder / "samples.png")
    if run.recipe.binarize:
        originals = (binarized(to_batch(originals)).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    if isinstance(model.network, VAE):
        save_png(grid(pairs(originals, model.reconstruct(originals)), min(8, len(originals))),
                 folder / "reconstructions.png")
    rows = model.traverse(originals[0] if isinstance(model.network, VAE) else None, dims=8, steps=9)
    save_png(grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]), folder / "traversals.png")
    if records:
        save_png(curves(records, [r for r in records if "held_out" in r], list(records[-1]["terms"])),
                 folder / "curves.png")
