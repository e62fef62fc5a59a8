"""`metrics.jsonl`: what training reports of itself, and how held-out images do."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor

from ..features import get_features
from ..files.writing import write_text
from ..functional.distance import frechet
from ..metrics.likelihood import importance_nll
from ..models.calibration import calibrate_likelihood
from ..models.vae import VAE, Model
from ..progress import Attempts, Reporter
from ..tensors import at_once, forked_rng
from ..trainer.state import State
from .folder import Run
from .records import read_metrics

RECORDS = 400
"""Lines of metrics over a run."""
HELD_OUT = 30
"""Measurements of held-out images over a run, at most."""
APART = 5.0
"""Seconds of training between two of them, at least, where minutes end it: one takes a second or two of a busy machine."""


class Journal:
    """Writes `metrics.jsonl`: terms averaged since the last record, and from time to time held-out images."""

    def __init__(self, run: Run, watched: tuple[Tensor, Tensor], report: Reporter) -> None:
        self.run, self.path, self.watched, self.report = run, run.folder / "metrics.jsonl", watched, report
        self.since: dict[str, list[float]] = {}
        self.records, self.measured = -1, -1
        self.held_out, self.seconds = parts_of(run.recipe.minutes), 0.0
        self.held_out_line = ""
        self.opened = False
        self.attempt = Attempts(report)

    def note(self, state: State[Model]) -> None:
        """Takes in one step."""
        if not self.opened:
            self._forget_after(state.step)
        if state.event:
            self.report.say(f"step {state.step:,}: {state.event}")
        named = (*state.parts.items(), ("loss", state.loss), ("critic", state.critic_loss), ("grad_norm", state.grad_norm))
        for name, value in named:
            if math.isfinite(value):
                self.since.setdefault(name, []).append(value)
        if int(RECORDS * state.progress) > self.records or state.event:
            self.records = int(RECORDS * state.progress)
            self._write(state)
        self.report.step(state.progress, lambda: state.line(self.held_out_line))

    def _write(self, state: State[Model]) -> None:
        mean = {k: round(sum(v) / len(v), 5) for k, v in self.since.items()}
        record: dict[str, Any] = {
            "step": state.step, "images": state.images, "seconds": round(state.seconds, 3),
            "progress": round(state.progress, 6),
            "loss": mean.pop("loss", None), "critic": mean.pop("critic", None), "grad_norm": mean.pop("grad_norm", None),
            "terms": {name: mean.get(name) for name in state.parts},  # null where no step of these had a finite value
            "lr": state.rate, "skipped": state.guard.skipped}
        if state.weights:
            record["weights"] = {k: round(v, 6) for k, v in state.weights.items()}
        if state.event:
            record["event"] = state.event
        if int(self.held_out * state.progress) > self.measured:
            self.measured = int(self.held_out * state.progress)
            began = time.perf_counter()
            with self.attempt("measuring held-out images"):
                record["held_out"] = held_out_figures(state.ema, *self.watched)
                self.held_out_line = _held_out_line(record)
            self.seconds += time.perf_counter() - began
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(record) + "\n")
        self.since = {}

    def _forget_after(self, step: int) -> None:
        """Drops what a killed run wrote after its last saved state, and half a line if there is one."""
        self.opened = True
        kept = [r for r in read_metrics(self.path) if r["step"] < step]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(r) + "\n" for r in kept))
        for r in reversed(kept):
            if "held_out" in r:
                self.held_out_line = _held_out_line(r)
                break

    def close(self, state: State[Model]) -> None:
        if self.since:
            self._write(state)
        self.run.facts["measuring_seconds"] = round(self.run.facts.get("measuring_seconds", 0.0) + self.seconds, 2)


def parts_of(minutes: float | None) -> int:
    """Parts of a training, at whose ends held-out images are measured, as they are at its beginning: of one that so many
    minutes end, or of any other."""
    return HELD_OUT if minutes is None else min(HELD_OUT, max(1, round(60 * minutes / APART)))


_MEANT = {"fd (wavelets)": "fd of the model's own prior (wavelets)"}
"""Figures whose name in the record says less than a reader wants: no fitted prior stands yet while a model trains."""


def _held_out_line(record: dict[str, Any]) -> str:
    """What was last measured of held-out images, and when."""
    return f"held out at step {record['step']:,}: " + ", ".join(
        f"{_MEANT.get(k, k)} {v:.4g}" for k, v in record["held_out"].items())


def held_out_figures(model: Model, train_images: Tensor, held_out: Tensor) -> dict[str, float]:
    """How training goes, by held-out images: the −ELBO in nats, where there is one, with the likelihood's scale fixed on
    training images; and the Fréchet distance of as many samples from the model's own prior, by features that need no
    weights. Leaves random numbers alone."""
    was_training = model.training
    model.eval()
    figures: dict[str, float] = {}
    with forked_rng(), torch.inference_mode():
        torch.manual_seed(0)
        if isinstance(model, VAE):
            calibrate_likelihood(model, train_images)
            torch.manual_seed(0)
            figures["-elbo"] = round(float(importance_nll(model, held_out, 1).mean()), 4)
        if len(held_out) > 1:  # one image has no covariance
            embed = get_features("wavelets").embed
            chunks = held_out.split(at_once(held_out.shape))
            drawn = [embed(model.draw(len(chunk)).mean[0].clamp(0, 1)) for chunk in chunks]
            real = [embed(chunk) for chunk in chunks]
            figures["fd (wavelets)"] = round(frechet(*(torch.cat(each).cpu().numpy() for each in (drawn, real))), 5)
    model.train(was_training)
    return {k: v for k, v in figures.items() if math.isfinite(v)}
