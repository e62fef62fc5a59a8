"""What a run's recipe leaves open, found once and kept with the run, which goes on as it began."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator

from ..data.stream import Batches
from ..parts.recipe import Recipe
from ..progress import Reporter
from ..trainer.assembly import Assembly
from ..trainer.settle import settle
from .folder import Run


def settle_run(run: Run, assembly: Assembly, stream: Callable[[Assembly], Batches], accelerator: Accelerator,
               report: Reporter) -> Recipe:
    """Finds batch size and learning rate where the recipe leaves them open, and writes down what was asked for and found."""
    recipe = run.recipe
    run.facts["asked"] = {name: getattr(recipe, name) for name in ("batch_size", "optimizer", "critic_optimizer")}
    run.facts["found"] = settle(assembly, stream, accelerator, say=report.say,
                                tuned_at=run.facts.get("tuned_at", recipe.batch_size),
                                precision="float32" if recipe.precision == "auto" else recipe.precision)
    run.recipe = assembly.recipe
    if accelerator.is_main_process:
        run.save()
    return run.recipe
