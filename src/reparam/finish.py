"""What follows training: the prior, the figures, the pictures, the verdict and the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .checkpoint import Config, save_model
from .data import ImageSet
from .data.stream import binarized, to_batch
from .diagnose import History, Verdict, diagnose
from .errors import DataError
from .files import write_json, write_text
from .fitting import calibrate_likelihood, fit_prior, latent_axes
from .generate import ImageModel, load
from .loop import State
from .metrics import PROTOCOL, QUICK, STANDARD, Evaluation, Figure, measure
from .pictures import curves, grid, pairs, save_png
from .report import model_card, report_html
from .reporting import Reporter
from .run import DataOptions, Run, open_data, read_metrics

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
    figures = evaluate_arrays(ImageModel(model, config, device), images, _spread(measured, MOST_MEASURED), QUICK, report)
    records = read_metrics(run.folder / "metrics.jsonl")
    verdict = diagnose(figures, History(state.step, state.guard.skipped, state.rollbacks,
                                        [r["held_out"]["-elbo"] for r in records if "held_out" in r]))
    run.facts["outcome"] = {
        "steps": state.step, "images_seen": state.images, "training_seconds": round(state.seconds, 1),
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


def evaluate_arrays(model: ImageModel, images: ImageSet, chosen: np.ndarray, metrics: str,
                    report: Reporter) -> list[Figure]:
    """Measures a model on the chosen ones of some images."""
    x = to_batch(images.images[chosen], model.device)
    x = binarized(x) if model.config.recipe.binarize else x
    y = None if images.labels is None else torch.from_numpy(images.labels[chosen]).to(model.device)
    return measure(Evaluation(model.vae, x, y), metrics, lambda name: report.say(f"measuring {name}"))


def write_evaluation(run: Run, figures: list[Figure], verdict: Verdict, kind: str) -> None:
    """Writes `evaluation.json`."""
    write_json(run.folder / "evaluation.json", evaluation_dict(figures) | verdict.to_dict() | {"measured_on": kind})


def evaluation_dict(figures: Sequence[Figure]) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "metrics": [f.to_dict() for f in figures]}


def draw(run: Run, model: ImageModel, originals: np.ndarray, records: list[dict[str, Any]]) -> None:
    """Writes samples, reconstructions beside their originals, traversals and curves."""
    folder = run.folder
    save_png(grid(model.sample(64, seed=run.recipe.seed), 8), folder / "samples.png")
    if run.recipe.binarize:
        originals = (binarized(to_batch(originals)).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    save_png(grid(pairs(originals, model.reconstruct(originals)), min(8, len(originals))),
             folder / "reconstructions.png")
    rows = model.traverse(originals[0], dims=8, steps=9)
    save_png(grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]), folder / "traversals.png")
    if records:
        save_png(curves(records, [r for r in records if "held_out" in r], list(records[-1]["terms"])),
                 folder / "curves.png")


def evaluate_run(folder: str, data: str | None, metrics: str | None, device: str,
                 report: Reporter) -> tuple[list[Figure], str]:
    """Measures the model in `folder` on `data`, or on the test or held-out images of its own data.

    Returns the figures and what they were measured on. Without `metrics`, the standard ones; `evaluation.json` is
    rewritten when they were measured on the run's own data.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed.
    """
    model = load(folder, device=device)
    if data is not None:
        images = open_for(model, data, report)
        chosen = np.flatnonzero(images.test) if images.test.any() else np.arange(len(images.images))
        return evaluate_arrays(model, images, chosen, metrics or STANDARD, report), f"{data}'s"
    run = Run.read(folder)
    images = open_data(run.source, run.options, report)
    if images.fingerprint != model.config.data["fingerprint"]:
        raise DataError(f"{run.source} changed since this model was trained; name images to measure it on: reparam "
                        f"evaluate {folder} DATA")
    _, validation_set, test_set = images.split()
    measured, kind = (test_set, "test") if len(test_set) else (validation_set, "held-out")
    return evaluate_arrays(model, images, measured, metrics or STANDARD, report), kind


def open_for(model: ImageModel, data: str, report: Reporter) -> ImageSet:
    """Images of a source, read as the model's training images were.

    Raises:
        DataError: their shape does not fit the model.
    """
    made = model.config.data
    c, h, w = model.config.image_shape
    bounds = made.get("value_range")
    options = DataOptions(h if h == w else None, made.get("background", "white"), tuple(bounds) if bounds else None)
    images = open_data(data, options, report)
    if images.images.shape[1:] != (h, w, c):
        raise DataError(f"the images of {data} are {images.images.shape[2]}×{images.images.shape[1]} with "
                        f"{images.images.shape[3]} channels; the model takes {w}×{h} with {c}")
    return images
