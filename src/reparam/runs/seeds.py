"""Training presets from several seeds each, on the same data for the same time, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..data.options import DataOptions
from ..errors import ReparamError, TrainingDiverged, UsageError
from ..parts.presets import find
from ..parts.recipe import Recipe
from ..progress import Reporter, Silent
from ..trainer.autotune import check_threads
from .folder import Run
from .train import DEFAULT_MINUTES, resume, train

FAILED = "failed"
"""Status of a run whose training diverged."""


@dataclass(frozen=True)
class SeedPlan:
    """What to train: every preset from seeds 0, 1, … on the same data, each for the same time."""

    presets: tuple[str, ...]
    data: str
    minutes: float = DEFAULT_MINUTES
    seeds: int = 3
    threads: int | None = None
    """Of each run; by default what a recipe chooses."""
    options: DataOptions = field(default_factory=DataOptions)

    def recipes(self) -> dict[str, Recipe]:
        """By the name of the run's folder, one seed of all presets before the next.

        Raises:
            UsageError: an unknown preset, one named twice, or no seed.
        """
        if self.seeds < 1:
            raise UsageError(f"--seeds must be at least 1; got {self.seeds}")
        if len(set(self.presets)) < len(self.presets):
            raise UsageError(f"--presets names one twice: {','.join(self.presets)}. Name each once")
        budget = {"minutes": self.minutes, "steps": None, "epochs": None}
        check_threads(self.threads or 0)
        changes = budget | ({} if self.threads is None else {"threads": self.threads})
        return {f"{name}-{seed}": find(name).recipe.but(seed=seed, **changes)
                for seed in range(self.seeds) for name in self.presets}


def train_seeds(plan: SeedPlan, folder: str | Path, *, device: str = "auto", report: Reporter | None = None) -> list[Path]:
    """Trains a plan's runs in `folder/<preset>-<seed>` and returns their folders.

    Finished runs are kept and interrupted ones resumed: the same call completes a partly trained plan. A run that
    diverges is kept with the status 'failed': its seed counts as one that failed.

    Raises:
        UsageError: wrong presets, or a folder that holds a run of another recipe or of other data.
        DataError: the images cannot be used.
        ReparamError: interrupted.
    """
    recipes = plan.recipes()
    folders = {Path(folder) / name: recipe for name, recipe in recipes.items()}
    for path, recipe in folders.items():
        if (path / "run.json").exists():
            _check_same(Run.read(path), recipe, plan)
    for path, recipe in folders.items():
        _train_one(path, recipe, plan, device, report or Silent())
    return list(folders)


def _check_same(run: Run, recipe: Recipe, plan: SeedPlan) -> None:
    if run.recipe != recipe:
        was, wanted = run.recipe.to_dict(), recipe.to_dict()
        changed = ", ".join(f"{k} = {v!r}, not {wanted[k]!r}" for k, v in was.items() if v != wanted[k])
        raise UsageError(f"{run.folder} holds a run of another recipe: {changed}. Give another --out")
    source = Path(plan.data).expanduser()
    if run.source not in (plan.data, str(source.absolute())) or run.options != plan.options:
        raise UsageError(f"{run.folder} holds a run on {run.source}, or on images read in another way. Give another --out")


def _train_one(folder: Path, recipe: Recipe, plan: SeedPlan, device: str, report: Reporter) -> None:
    begun = (folder / "run.json").exists()
    if begun and Run.read(folder).status in ("finished", FAILED):
        return
    report.say(f"training {folder}")
    try:
        run = (resume(folder, device=device, report=report) if begun
               else train(plan.data, preset="default", out=folder, options=plan.options, device=device, report=report,
                          **recipe.to_dict()))
    except TrainingDiverged as e:
        report.say(f"{folder} failed: {e}")
        run = Run.read(folder)
        run.status = FAILED
        run.save()
    if run.status == "interrupted":
        raise ReparamError("stopped; the same command goes on from here")
