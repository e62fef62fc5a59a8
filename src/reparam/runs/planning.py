"""What a training would do, take and give, found by a short one that leaves nothing behind."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.imageset import ImageSet
from ..data.options import DataOptions
from ..errors import ReparamError, UsageError
from ..parts.presets import find
from ..parts.profiles import FEW, of_few, result_of
from ..parts.recipe import Recipe
from ..progress import Reporter
from ..runtime import watched
from ..trainer.autotune import LEAST
from .folder import Run, open_data
from .journal import parts_of
from .settling import DEFAULT_MINUTES, open_settled, settle_size, starting_recipe

PROBE_MINUTES, PROBE_STEPS = 0.1, 40
"""Of training, in the trial; what follows training is done whole."""
SHORTEST = 0.05
"""Seconds of training at least: what a run tells is rounded to tenths."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is to be expected of a training."""

    reason: str
    """What was chosen and why; of a preset that was named, its name."""
    recipe: Recipe
    images: int
    seconds: float
    """Of all of it, reading and what follows training included."""
    after: float
    """Seconds of these besides training, those of measuring held-out images meanwhile among them."""
    memory: float | None
    """GiB of main memory at most; None where the system does not say."""
    passes: float
    """How often training sees each image."""
    parameters: int
    threads: int
    precision: str
    result: str
    """What kind of model comes of it."""
    probe: float
    """Seconds that finding out took."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"recipe": self.recipe.to_dict()}


def plan(data: str, *, preset: str, options: DataOptions, device: str, report: Reporter, fields: Mapping[str, Any]
         ) -> TrainingPlan:
    """What `train` would do with the same arguments. It trains for a few seconds in a process of its own, does all that
    follows training, and reckons from that; nothing is kept but the cache of decoded images.

    Raises:
        UsageError, DataError: as `train` would.
        ReparamError: the trial failed; with the reason.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reparam-plan-") as folder:
        run = Run(Path(folder) / "run", data, options, starting_recipe(preset, dict(fields)))
        settle_size(run, preset, device)
        images = open_settled(run, preset, fields, device, options, lambda o: open_data(data, o, report), report)
        chosen = str(run.facts["auto"]["preset"] if "auto" in run.facts else preset)
        report.say("trying it for a few seconds")
        trial = _tried(data, chosen, run.recipe, run.folder, run.options, device)
        told = str(run.facts["auto"]["reason"]) if "auto" in run.facts else preset
        return _reckoned(told, chosen, run.recipe, images, trial, time.perf_counter() - began)


@dataclass(frozen=True)
class _Trial:
    run: Run
    seconds: float
    memory: float | None


def _tried(data: str, preset: str, recipe: Recipe, out: Path, options: DataOptions, device: str) -> _Trial:
    """Trains briefly in a process of its own, whose memory is that of the whole training."""
    by_time = recipe.steps is None and recipe.epochs is None
    end = {"minutes": min(PROBE_MINUTES, recipe.minutes or DEFAULT_MINUTES)} if by_time else {
        "steps": min(PROBE_STEPS, recipe.steps or PROBE_STEPS)}
    brief = recipe.but(**{"minutes": None, "steps": None, "epochs": None} | end)
    command = [sys.executable, "-m", "reparam", "train", data, "--out", str(out), "--json", "--device", device,
               "--preset", preset, *_flags(brief.to_dict(), find(preset).recipe.to_dict()),
               *_flags(vars(options), vars(DataOptions()))]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as process:
        try:
            memory = watched(process)
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            said.seek(0)
            why = said.read().decode(errors="replace").strip().removeprefix("error: ") or f"exit code {process.returncode}"
            raise UsageError(why) if process.returncode == 2 else ReparamError(f"the trial failed: {why}")
    return _Trial(Run.read(out), time.perf_counter() - began, memory)


def _flags(values: Mapping[str, Any], usual: Mapping[str, Any]) -> Sequence[str]:
    """Flags of the command for values that are not the usual ones."""
    def flag(name: str, value: Any) -> str:
        name = name.replace("_", "-")
        if isinstance(value, bool):
            return f"--{'' if value else 'no-'}{name}"
        return f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"  # pyright: ignore

    return [flag(name, value) for name, value in values.items() if value != usual[name] and value is not None]


def _reckoned(told: str, preset: str, recipe: Recipe, images: ImageSet, trial: _Trial, probe: float) -> TrainingPlan:
    run, outcome = trial.run, trial.run.facts["outcome"]
    after = max(trial.seconds - outcome["training_seconds"], 0.0)
    n, batch = images.trained_on, min(run.recipe.batch_size or recipe.batch_size, images.trained_on)
    each = max(outcome["training_seconds"], SHORTEST) / max(outcome["steps"], 1)
    by_epochs = math.ceil(recipe.epochs * n / batch) if recipe.epochs else None
    steps = min((s for s in (recipe.steps, by_epochs) if s), default=None)
    minutes = recipe.minutes or (DEFAULT_MINUTES if steps is None else None)
    training = min(60 * minutes if minutes else math.inf, each * steps if steps else math.inf)
    measured, to_measure = (parts_of(r.minutes) + 1 for r in (run.recipe, recipe))
    after += run.facts.get("measuring_seconds", 0.0) * (to_measure / measured - 1)
    text = result_of(preset) + (f" {of_few(n)}" if n < FEW else "")
    return TrainingPlan(told, recipe, n, training + after, after, trial.memory, training / each * batch / n,
                        int(run.facts["parameters"]), run.threads, run.precision, text, probe)


def compiler_is_tried(plan: TrainingPlan) -> bool:
    """Whether the training is so long that the compiler is tried, of which the trial knows nothing."""
    return plan.recipe.compile == "auto" and plan.seconds - plan.after >= LEAST
