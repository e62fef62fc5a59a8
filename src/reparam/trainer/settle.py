"""What a recipe leaves open of its optimization, settled before training begins: batch size and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator

from ..data.stream import Batches
from ..parts.recipe import Recipe
from .assembly import Assembly
from .batch_size import find_batch_size
from .optim import asks_rate, rate_of, with_rate
from .rates import STEPS, find_rate


def is_open(recipe: Recipe) -> bool:
    """Whether a recipe leaves anything to be found."""
    return recipe.batch_size == 0 or asks_rate(recipe.optimizer)


def settle(assembly: Assembly, stream: Callable[[Assembly], Batches], accelerator: Accelerator, *,
           tuned_at: int = Recipe().batch_size, precision: str = "float32", say: Callable[[str], None] = lambda _: None
           ) -> dict[str, Any]:
    """Finds the batch size and the learning rate that a recipe leaves open, puts them into the assembly's recipe, and
    returns what was found, for a run to keep. Several processes find the same.

    A rate that is given is one for batches of `tuned_at`, by default the default recipe's, and goes with the square root of
    the size. So do the rates of Adam and its like, as all optimizers here are; that of plain gradient descent would go in
    proportion. (Malladi et al., 2022, arXiv:2205.10287; Goyal et al., 2017, arXiv:1706.02677)

    Args:
        assembly: what is to be trained.
        stream: its images, for a recipe whose batch size is known.
        accelerator: where.
        tuned_at: the batch size that a given rate is for.
        precision: that of training.
        say: is told in a line each what was found.
    """
    found: dict[str, Any] = {}
    if assembly.recipe.batch_size == 0:
        found |= _settle_batch_size(assembly, stream, accelerator, tuned_at, precision, say)
    if asks_rate(assembly.recipe.optimizer):
        rate = find_rate(assembly, stream(assembly), precision, accelerator)
        assembly.recipe = assembly.recipe.but(optimizer=with_rate(assembly.recipe.optimizer, rate))
        say(f"learning rate {rate:g}, found in {STEPS} steps of a copy")
        found["rate"] = {"found": rate, "steps": STEPS}
    return found


def _settle_batch_size(assembly: Assembly, stream: Callable[[Assembly], Batches], accelerator: Accelerator, tuned_at: int,
                       precision: str, say: Callable[[str], None]) -> dict[str, Any]:
    recipe = assembly.recipe
    sizes = find_batch_size(assembly, stream, precision, accelerator)
    best, factor = sizes.best, math.sqrt(sizes.best / tuned_at)
    changes: dict[str, Any] = {"batch_size": best}
    for field in ("optimizer", "critic_optimizer"):
        call = getattr(recipe, field)
        if not asks_rate(call):
            changes[field] = with_rate(call, float(f"{rate_of(call) * factor:.3g}"))
    assembly.recipe = recipe.but(**changes)
    first = min(sizes.rates)
    given = "" if asks_rate(recipe.optimizer) else (f"; learning rate {rate_of(assembly.recipe.optimizer):g}, that for "
                                                    f"{tuned_at:,} times √({best:,}/{tuned_at:,})")
    say(f"batch size {best:,}: {sizes.rates[best]:,.0f} images/s, {sizes.rates[first]:,.0f} with {first:,}; "
        f"{sizes.ended}{given}")
    return {"batch_size": {"found": best, "tuned_at": tuned_at, "images_per_second": {
        str(n): round(rate, 1) for n, rate in sizes.rates.items()}, "ended": sizes.ended}}
