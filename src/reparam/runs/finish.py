"""What follows training: the stages, the figures, the pictures, the verdict and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..chunks import from_first, shared_out
from ..data.imageset import ImageSet
from ..data.stream import binarized, keep_labels, to_batch
from ..doctor.case import History, as_made, history_of
from ..doctor.diagnosis import Diagnosis, Finding, diagnose
from ..errors import TrainingDiverged
from ..files.untrusted import not_finite
from ..files.writing import write_text
from ..metrics import OF_GANS, quick
from ..metrics.figures import Figure
from ..models.calibration import calibrate_likelihood
from ..models.codes import Axis, latent_axes
from ..models.sampler import Sampler
from ..models.sampling import Sampling
from ..models.vae import Model
from ..parallel import Processes, is_main_process
from ..pretrained.config import Config
from ..pretrained.files import save_model
from ..pretrained.image_model import ImageModel
from ..pretrained.pictures import grid, pairs, save_png, thumbnails
from ..progress import Attempts, Failure, Reporter
from ..tensors import at_once, evenly
from ..trainer.stages.base import Data, Stage, StageBudget, stage_data
from ..trainer.stages.sequence import STAGES, TimeSplit, fit_stages
from ..trainer.state import State
from .choosing import Trained, sampling_of
from .evaluate import Evaluated, Options, evaluate_arrays, measured_rows
from .evaluations import OWN, figure_of, file_of, forget, keep
from .folder import Run
from .records import read_metrics
from .reports.copies import copies
from .reports.curves import curves
from .reports.model_card import model_card
from .reports.run_page import report_html
from .reports.traversals import ROWS, rows_of

MOST_MEASURED = 2000
"""Images of up to 64×64 pixels that are measured at the end of training, fewer of larger ones; `evaluate` takes all."""
SHOWN, ORIGINALS, LEAST_SHOWN = 64, 16, 4
"""Samples in the picture of them, and originals beside their reconstructions; fewer of large images, down to the last."""
LARGE = 128
"""Pixels a side beyond which fewer images are shown, and traversals are made smaller."""
NOT_JUDGED = Diagnosis((Finding("not judged", "the figures could not be judged", "see what failed after training"),), ())


def _keep(run: Run, sampler: Sampler, config: Config) -> None:
    """Saves a model that can be loaded again."""
    if (name := not_finite(sampler.tensors())) is not None:
        raise TrainingDiverged(f"training left values in {name} that are not finite, so that this model was not saved. "
                               "Lower the learning rate, or try another likelihood or prior")
    if is_main_process():
        save_model(run.folder, sampler, config)


def _remove_diverged(sampler: Sampler, stages: dict[str, str], attempt: Attempts) -> None:
    """Takes out of a sampler and its config the stages whose weights are not finite."""
    for stage in STAGES:
        if stage.name in sampler.stages and not_finite(sampler.stages[stage.name].state_dict()) is not None:
            attempt.failed(stage.doing, TrainingDiverged("its weights are not finite"))
            del stages[stage.name], sampler.stages[stage.name]


def finish(run: Run, images: ImageSet, state: State[Model], report: Reporter, processes: Processes, *, interrupted: bool
           ) -> None:
    """Completes a run's folder from the state that its training ended in.

    What follows training may fail, each figure and picture by itself: the model is kept, and `run.json` and the report list
    what is missing. Processes share the stages and the measuring; the first one writes.

    Raises:
        TrainingDiverged: weights of the model are not finite.
        ProcessLost: another process ended.
    """
    began, attempt = time.perf_counter(), Attempts(report)
    with shared_out():
        sampler, config = _completed(run, images, state, processes, attempt)
        figures = _measured(run, images, sampler, config, attempt)
    if is_main_process():
        _write(run, images, sampler, config, figures, attempt)
        run.facts["outcome"]["finishing_seconds"] = round(time.perf_counter() - began, 1)
        run.status = "interrupted" if interrupted else "finished"
        run.save()


def _completed(run: Run, images: ImageSet, state: State[Model], processes: Processes, attempt: Attempts
               ) -> tuple[Sampler, Config]:
    """Trains what follows the model, and notes in the run what all of it took."""
    model, device = state.ema.eval(), next(state.ema.parameters()).device
    data = train_images(run, images, device)
    subset = data.x[evenly(len(data.x), at_once(data.x.shape, 2000))]
    with attempt("estimating the likelihood's scale"):
        calibrate_likelihood(model, subset)
    axes: tuple[Axis, ...] = ()
    with attempt("sorting the latents by their information"):
        axes = latent_axes(model, subset)
    sampler = Sampler(model)
    _keep(run, sampler, config_of(run, images, axes, {}))  # saved first: a failure below still leaves a usable model
    spent: list[State[Any]] = [state]
    split = TimeSplit.of(run.recipe, model)

    def budget(stage: Stage) -> StageBudget:
        attempt.report.say(stage.doing)
        given = from_first(lambda: split.budget(stage, run.recipe, state, run.precision or "float32"))
        return replace(reported(given, stage.doing, attempt.report, spent), processes=processes)

    stages = fit_stages(sampler, run.recipe, data, budget, attempt=attempt)
    _remove_diverged(sampler, stages, attempt)
    run.facts["parameters"] = sum(p.numel() for p in sampler.parameters())
    run.facts["outcome"] = {
        "steps": state.step, "images_seen": state.images,
        "training_seconds": round(sum(s.seconds for s in spent), 1),
        "second_stage_seconds": round(sum(s.seconds for s in spent[1:]), 1),
        "cpu_seconds": round(sum(s.cpu_seconds for s in spent), 1),
        "skipped_steps": state.guard.skipped, "rollbacks": state.rollbacks}
    sampling = sampling_of(run, images, sampler, Trained.of(run), attempt)
    return sampler, config_of(run, images, axes, stages, sampling)


def train_images(run: Run, images: ImageSet, device: torch.device) -> Data:
    """Training images, evenly spaced where there are many, and those of their labels that training may see."""
    rows, labels = images.split()[0], images.labels
    visible = keep_labels(labels, rows, run.recipe.labelled, run.recipe.seed) if labels is not None else None
    return stage_data(images.images, rows, visible, device, binarize=run.recipe.binarize)


def reported(budget: StageBudget, doing: str, report: Reporter, spent: list[State[Any]]) -> StageBudget:
    """The budget of a fit whose progress is reported and whose state is added to `spent`."""
    def follow(state: State[Any]) -> None:
        if state.step == 1:
            spent.append(state)
        report.count(doing, int(1000 * state.progress), 1000)

    return replace(budget, follow=follow)


def config_of(run: Run, images: ImageSet, axes: tuple[Axis, ...], stages: dict[str, str], sampling: Sampling | None = None
              ) -> Config:
    _, h, w, c = images.images.shape
    data = {"name": Path(images.source).name or images.source, "fingerprint": images.fingerprint,
            "images": images.trained_on, "background": run.options.background, "value_range": run.options.value_range}
    data |= {"factors": tuple(images.factors)} if images.factors else {}
    return Config(run.recipe, (c, h, w), axes=axes, classes=images.classes, data=data, stages=stages,
                  sampling=sampling)


def conclude(run: Run, images: ImageSet, sampler: Sampler, config: Config, attempt: Attempts) -> None:
    """Saves the model, measures it, and writes figures, pictures, verdict and report."""
    figures = _measured(run, images, sampler, config, attempt)
    _write(run, images, sampler, config, figures, attempt)


def _measured(run: Run, images: ImageSet, sampler: Sampler, config: Config, attempt: Attempts) -> list[Figure]:
    """Saves the model and measures it."""
    _keep(run, sampler, config)
    if is_main_process():
        forget(run.folder)  # what was measured of the model as it was before
    metrics, options = ((quick(config.image_shape), Options()) if config.recipe.has_encoder else
                        (OF_GANS, Options(features="wavelets")))
    rows, figures = _rows(images), list[Figure]()
    with attempt("measuring the model"):
        figures = evaluate_arrays(_image_model(sampler, config), images, rows, metrics, attempt.report, options=options,
                                  attempt=attempt, skip_unavailable=True)
    return figures


def _rows(images: ImageSet) -> np.ndarray:
    """Those that a model is measured on at the end of training."""
    measured, _ = measured_rows(images)
    return measured[evenly(len(measured), at_once(images.images.shape[1:3], MOST_MEASURED))]


def _image_model(sampler: Sampler, config: Config) -> ImageModel:
    return ImageModel(sampler, config, next(sampler.parameters()).device)


def _write(run: Run, images: ImageSet, sampler: Sampler, config: Config, figures: Sequence[Figure], attempt: Attempts
           ) -> None:
    """Writes figures, pictures, verdict and report."""
    measured, kind = measured_rows(images)
    records, outcome = read_metrics(run.folder / "metrics.jsonl"), run.facts["outcome"]
    outcome["measured_on"] = kind
    diagnosis = _judged(figures, history_of(images, _rows(images), records, outcome), config, attempt)
    keep(run.folder / OWN, figures, diagnosis.to_dict() | {"measured_on": kind, "unavailable": attempt.unavailable})
    attempt.report.say("drawing pictures")
    draw(run, _image_model(sampler, config), images, measured, records, attempt)
    _write_pages(run, config, figures, diagnosis, attempt)


def _judged(figures: Sequence[Figure], history: History, config: Config, attempt: Attempts) -> Diagnosis:
    with attempt("judging the model"):
        return diagnose(figures, history, as_made(config))
    return NOT_JUDGED


def _write_pages(run: Run, config: Config, figures: Sequence[Figure], diagnosis: Diagnosis, attempt: Attempts) -> None:
    """Writes the report and the model card."""
    run.facts["failures"] = attempt.failures  # those of the two pages, which list them, are added as they come
    with attempt("writing the report", instead_of=run.folder / "report.html"):
        write_text(run.folder / "report.html", report_html(run, config, figures, diagnosis))
    with attempt("writing the model card", instead_of=run.folder / "README.md"):
        write_text(run.folder / "README.md", model_card(run, config, figures, diagnosis))


def keep_figures(run: Run, config: Config, found: Evaluated, report: Reporter, facts: Mapping[str, Any] | None = None
                 ) -> dict[str, Any]:
    """Keeps what was measured in a run's folder, judges its model anew by all figures of its own data, and writes its pages
    again. Returns what then stands in the file of these images; `facts` are more to stand there."""
    if not found.own:
        return keep(file_of(run.folder, found.source, found.fingerprint), found.figures, {
            "measured_on": found.kind, "data": found.source, "fingerprint": found.fingerprint,
            "unavailable": found.unavailable} | dict(facts or {}))
    attempt = Attempts(report)
    kept = keep(run.folder / OWN, found.figures, {"measured_on": found.kind, "unavailable": found.unavailable}
                | dict(facts or {}))
    figures = [figure_of(m) for m in kept["metrics"]]
    diagnosis = _judged(figures, found.history, config, attempt)
    kept = keep(run.folder / OWN, (), {"measured_on": found.kind} | diagnosis.to_dict())
    if "outcome" in run.facts:
        attempt.failures += [each for each in run.facts.get("failures", ()) if not _made_good(each, figures)]
        _write_pages(run, config, figures, diagnosis, attempt)
        run.save()
    return kept


def _made_good(failure: Failure, figures: Sequence[Figure]) -> bool:
    """Whether what failed after training has been measured or written since."""
    what = failure["what"]
    return what.startswith(("writing", "judging")) or what.removeprefix("measuring ") in {f.name for f in figures}


def shown(images: ImageSet, most: int) -> int:
    """How many images a picture shows, so that it takes no more pixels than `most` of `LARGE`×`LARGE`."""
    _, h, w, _ = images.images.shape
    return max(LEAST_SHOWN, min(most, most * LARGE**2 // (h * w)))


def draw(run: Run, model: ImageModel, images: ImageSet, measured: np.ndarray, records: list[dict[str, Any]],
         attempt: Attempts) -> None:
    """Writes samples, reconstructions beside their originals, traversals and curves; each may fail by itself.

    The samples are compared with training images, and images of the rows `measured` with them for scale.
    """
    with_encoder = model.network.has_encoder
    originals = images.images[measured[evenly(len(measured), shown(images, ORIGINALS))]]
    if run.recipe.binarize:
        originals = (binarized(to_batch(originals)).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)

    def picture(what: str, make: Callable[[], Image.Image]) -> None:
        path = run.folder / f"{what}.png"
        with attempt(f"drawing {what}", instead_of=path):
            save_png(make(), path)

    def samples() -> Image.Image:
        drawn = model.sample(shown(images, SHOWN), seed=run.recipe.seed)
        real = images.images[measured[evenly(len(measured), len(drawn))]]
        run.facts["outcome"]["copies"] = copies(drawn, real, images.images, images.split()[0])
        return grid(drawn)

    def traversals() -> Image.Image:
        rows = model.traverse(originals[0] if with_encoder else None, dims=ROWS, steps=9)
        if with_encoder:
            run.facts["outcome"]["traversals"] = rows_of(model, images, measured)
        return grid(thumbnails(rows.reshape(-1, *rows.shape[2:]), LARGE), rows.shape[1])

    for of_an_earlier_prior in ("copies", "traversals"):
        run.facts["outcome"].pop(of_an_earlier_prior, None)
    picture("samples", samples)
    if with_encoder:
        picture("reconstructions", lambda: grid(
            pairs(originals, model.reconstruct(originals, sample=True, seed=run.recipe.seed)), min(8, len(originals))))
    picture("traversals", traversals)
    if records:
        terms = dict.fromkeys(name for r in records for name in r["terms"])
        picture("curves", lambda: curves(records, [r for r in records if "held_out" in r], list(terms)))
